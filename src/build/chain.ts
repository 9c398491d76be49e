// A revision's chain as a plan: its steps, their keys, and which of them are there.
import type { LayerKey } from '../core/ids.ts'
import type { Layer } from '../core/layer.ts'
import { checkEnvironment, type KeyContext, noKey, planSteps, type Step } from '../core/plan.ts'
import { baseUse } from '../store/lease.ts'
import { baseFolder } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import { type Base, resolveBase } from './bases.ts'
import type { BuildContext } from './context.ts'
import { areSound } from './damage.ts'
import { findSnapshot } from './locked.ts'
import type { LoadedSource } from './project.ts'
import type { KnownSteps } from './rolled-up.ts'

export interface ChainOptions {
  /** Name or number of the last layer wanted. */
  last?: string | undefined
  env: Record<string, string>
  /** Names of layers to be built even if they are there. */
  rebuild: ReadonlySet<string>
  frozen: boolean
  dryRun: boolean
  keepFailed: boolean
  /** When the command began, in milliseconds: what was built since then is not built again by it. */
  since: number
  /** Values of --secret, by id. */
  secrets: ReadonlyMap<string, Buffer>
  /** Hears of each step before its script may run; what it answers says whether to go on. */
  beforeBuild?: ((step: Step) => Promise<boolean>) | undefined
  /** Called when only the last step is missing, before it is built on `below`. */
  onlyLast?: ((below: Snapshot) => void) | undefined
  /** Steps that were merged into what is there, and may be gone themselves. */
  known?: KnownSteps
  /** Where all is there, the caller holds what it will use by itself: mostly nothing. */
  lazy?: boolean
  /** Brings to the store what it can of what is missing, and tells the keys of that. */
  pull?: ((chain: Chain, options: ChainOptions) => Promise<ReadonlySet<LayerKey>>) | undefined
  turns?: Turns | undefined
}

/** Whose turn it is to build a step, among machines that share what they build. */
export interface Turns {
  /** Waits while another one builds the step with that number; then it can be pulled. */
  turn: (chain: Chain, at: number) => Promise<'build' | 'pull'>
  /** The step was built here, on top of the others; or was not, without snapshots. */
  ended: (step: Step, snapshots?: readonly Snapshot[]) => void
}

export interface Chain {
  source: LoadedSource
  /** The layers that it is of. */
  layers: readonly Layer[]
  base: Base | undefined
  steps: Step[]
  /** By step: its snapshot where it is there. */
  found: (Snapshot | undefined)[]
  /** Looks further keys up: those of a rolled-up layer's steps. */
  find: (key: LayerKey) => Promise<Snapshot | undefined>
}

/** Steps and keys of a revision, and which of them are in the store. Builds and fetches nothing. */
export async function planChain(
  context: BuildContext,
  source: LoadedSource,
  layers: readonly Layer[],
  env: Record<string, string>,
  known?: KnownSteps,
): Promise<Chain> {
  const base = source.config.base ? await resolveBase(context, source, source.config.base) : undefined
  return await planOn(context, source, layers, { env, known }, base)
}

/** The same chain, planned again with what has become known of steps that are not there. */
export async function planAgain(
  context: BuildContext,
  { source, layers, base }: Chain,
  options: { env: Record<string, string>; known: KnownSteps | undefined },
): Promise<Chain> {
  return await planOn(context, source, layers, options, base)
}

/** The same for a look only: a layer that lacks a value is no error. */
export async function surveyChain(
  context: BuildContext,
  source: LoadedSource,
  env: Record<string, string>,
): Promise<Chain> {
  checkEnvironment(source.layers, env)
  const base = source.config.base ? await resolveBase(context, source, source.config.base) : undefined
  return await planOn(context, source, source.layers, { env, look: true }, base)
}

async function planOn(
  context: BuildContext,
  source: LoadedSource,
  layers: readonly Layer[],
  options: Pick<KeyContext, 'env' | 'look'> & { known?: KnownSteps | undefined },
  base: Base | undefined,
): Promise<Chain> {
  const { known, ...values } = options
  const find = finder(context)
  const contentOf = async (key: LayerKey) => (await find(key))?.manifest.contentId ?? known?.get(key)?.contentId
  const steps = await planSteps(source, layers, { arch: context.arch, base: base?.digest, contentOf, ...values })
  const found = await Promise.all(steps.map((step) => find(step.key)))
  return { source, layers, base, steps, found, find }
}

/** Looks a key up once. */
export function finder(context: BuildContext): Chain['find'] {
  const seen = new Map<LayerKey, Promise<Snapshot | undefined>>()
  return async (key) => {
    const known = seen.get(key) ?? (key === noKey ? Promise.resolve(undefined) : findSnapshot(context, key))
    seen.set(key, known)
    return await known
  }
}

/** The plan, with all that was found for it held in the store; made anew where something was dropped meanwhile. */
export async function held(context: BuildContext, plan: Chain, replan: () => Promise<Chain>): Promise<Chain> {
  const { store, signal } = context
  for (let chain = plan; ; chain = await replan()) {
    const merged = chain.steps.flatMap(({ inner = [] }, i) => (chain.found[i] ? [] : inner))
    const steps = await Promise.all(merged.map(({ key }) => chain.find(key)))
    const ids = [...chain.found, ...steps].flatMap((there) => there?.manifest.id ?? [])
    if (chain.base) await store.lease.add([baseUse(baseFolder(chain.base.digest))], signal)
    if ((await store.hold(ids, signal)) && (await areSound(context, ids, chain.base?.digest))) return chain
  }
}
