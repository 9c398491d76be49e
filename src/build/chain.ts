// A revision's chain: which of its steps are there, which must be built, and building those.
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import type { Layer } from '../core/layer.ts'
import type { Manifest } from '../core/manifest.ts'
import {
  checkEnvironment,
  type KeyContext,
  leaves,
  noKey,
  planInner,
  planSteps,
  type Step,
  secretsOf,
  upTo,
} from '../core/plan.ts'
import type { BuiltLayer } from '../core/results-build.ts'
import { baseUse } from '../store/lease.ts'
import { baseFolder } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import { type Base, ensureBase, resolveBase } from './bases.ts'
import type { BuildContext } from './context.ts'
import { areSound, blameDamage, SnapshotGone, suspectOf } from './damage.ts'
import type { Ground, StepOutcome } from './job.ts'
import { buildLocked, findSnapshot, type LockedJob } from './locked.ts'
import { cached, ended, skipped } from './outcome.ts'
import type { LoadedSource } from './project.ts'
import type { CompleteChain } from './record.ts'
import { buildRolledUp, firstToRun, type InnerSteps, type KnownSteps } from './rolled-up.ts'
import { StepSources } from './sources.ts'
import { buildStep } from './step.ts'

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
function finder(context: BuildContext): Chain['find'] {
  const seen = new Map<LayerKey, Promise<Snapshot | undefined>>()
  return async (key) => {
    const known = seen.get(key) ?? (key === noKey ? Promise.resolve(undefined) : findSnapshot(context, key))
    seen.set(key, known)
    return await known
  }
}

/** Why a step has to be built although its snapshot is there; undefined if it has not. */
export function mustRebuild(
  step: Step,
  snapshot: Snapshot,
  rebuild: ReadonlySet<string> = new Set(),
): string | undefined {
  if (rebuild.has(step.name)) return 'asked for with --rebuild'
  if (step.layer?.directives.nocache) return `${step.inner ? 'one of its scripts' : 'its script'} says nocache`
  return isTooOld(step, snapshot.manifest) ? 'older than its ttl' : undefined
}

/** A rolled-up layer is too old when one of its steps is. */
export function isTooOld({ layer }: Step, manifest: Pick<Manifest, 'builtAt' | 'steps'>): boolean {
  return (layer?.steps ?? (layer ? [layer] : [])).some(({ directives: { ttl } }, i) => {
    return isOlder(manifest.steps?.[i]?.builtAt ?? manifest.builtAt, ttl)
  })
}

export interface ChainResult {
  layers: BuiltLayer[]
  top: Snapshot | undefined
  /** All steps, where the chain is complete and has all the layers of the revision. */
  complete?: CompleteChain
  failed?: Extract<StepOutcome, { failure: unknown }>
  /** The step before which, or in which, it was told to stop. */
  stopped?: Step
}

/**
 * Builds what is missing of a chain, from the bottom up. Stops at the first layer that fails. Where it fails on something
 * below that turns out to be damaged, and was dropped, it begins anew: once for each snapshot.
 */
export async function buildChain(
  context: BuildContext,
  source: LoadedSource,
  options: ChainOptions,
): Promise<ChainResult> {
  const built = new Map<string, BuiltLayer>()
  for (;;) {
    try {
      const result = await walkChain(context, source, options, (layer) => built.set(layer.key, layer))
      // Built by this command, if not in this round.
      return {
        ...result,
        layers: result.layers.map((layer) => (layer.result === 'cached' && built.get(layer.key)) || layer),
      }
    } catch (error) {
      if (!(error instanceof SnapshotGone)) throw error
    }
  }
}

async function walkChain(
  context: BuildContext,
  source: LoadedSource,
  options: ChainOptions,
  onBuilt: (layer: BuiltLayer) => void,
): Promise<ChainResult> {
  const { label } = source
  const layers = upTo(source.layers, options.last)
  let chain = await planChain(context, source, layers, options.env, options.known)
  const plan = { env: options.env, known: options.known }
  const pulled = new Set((!options.dryRun && (await options.pull?.(chain, options))) || [])
  if (pulled.size > 0) chain = await planAgain(context, chain, plan)
  let missing = countMissing(chain, options)
  const uses = !options.dryRun && (missing > 0 || !options.lazy)
  if (uses && missing > 0) context.store.scratch.prepare()
  if (uses) {
    chain = await held(context, chain, () => planChain(context, source, layers, options.env, options.known))
    missing = countMissing(chain, options)
  }
  context.emit({ type: 'plan', label, steps: chain.steps.map((s) => s.name), missing })
  if (options.frozen && missing > 0) throw frozenError(chain, options)
  const result: ChainResult = { layers: [], top: undefined }
  const sources = new StepSources(context, source)
  const snapshots: Snapshot[] = []
  let ground: Ground = chain.base && !options.dryRun ? { base: await ensureBase(context, chain.base) } : undefined
  for (let i = 0; i < chain.steps.length; i++) {
    const step = chain.steps[i] as Step
    const there = chain.found[i]
    if (there && !builtAgain(step, there, options)) {
      const outcome = cached(context, label, step, there)
      result.layers.push(pulled.has(step.key) ? { ...outcome, result: 'pulled' } : outcome)
      ground = { snapshot: there }
      snapshots.push(there)
      continue
    }
    if (options.dryRun) return { ...result, layers: [...result.layers, ...chain.steps.slice(i).map(skipped)] }
    // The content id of what is new may be another one, and with it the keys of all above.
    const replan = () => planAgain(context, chain, plan)
    if ((await options.turns?.turn(chain, i)) === 'pull') {
      for (const key of (await options.pull?.(chain, options)) ?? []) pulled.add(key)
      chain = await held(context, await replan(), replan)
      missing = countMissing(chain, options)
      i--
      continue
    }
    if (i === chain.steps.length - missing) {
      const scripts = await scriptsFrom(chain, i, options)
      // A secret that the last layer lacks is no news to have after the first was built.
      for (const { layer } of scripts) if (layer) secretsOf(layer, options.secrets)
      if (missing === 1 && ground && 'snapshot' in ground) options.onlyLast?.(ground.snapshot)
      await sources.write(scripts)
    }
    const maker = new StepMaker(context, chain, sources, options)
    const blame = async (failed: unknown) => {
      const inner = await Promise.all((step.inner ?? []).map(({ key }) => findSnapshot(context, key)))
      const ids = [...snapshots, ...inner].flatMap((one) => one?.manifest.id ?? [])
      await blameDamage(context, failed, ids, chain.base?.digest)
    }
    const outcome: (StepOutcome & { built: boolean }) | undefined = await maker
      .make(step, ground, there)
      .catch(async (error: unknown) => {
        await blame(error)
        return stoppedBefore(error)
      })
    if (outcome === undefined) return { ...result, stopped: step }
    if ('failure' in outcome) await blame(suspectOf(outcome))
    options.turns?.ended(step, 'failure' in outcome ? undefined : [...snapshots, outcome.snapshot])
    const layer = ended(context, label, step, outcome)
    result.layers.push(layer)
    if (layer.result === 'built') onBuilt(layer)
    if ('failure' in outcome)
      return { layers: [...result.layers, ...chain.steps.slice(i + 1).map(skipped)], top: undefined, failed: outcome }
    ground = { snapshot: outcome.snapshot }
    snapshots.push(outcome.snapshot)
    if (i + 1 < chain.steps.length) chain = await held(context, await replan(), replan)
  }
  if (!options.dryRun) context.store.touch(snapshots.map(({ manifest }) => manifest.id))
  const top = ground && 'snapshot' in ground ? ground.snapshot : undefined
  if (layers.length < source.layers.length) return { ...result, top }
  const steps = chain.steps.map(({ name }, i) => ({ name, snapshot: snapshots[i] as Snapshot }))
  return { ...result, top, complete: { base: chain.base?.digest, steps } }
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

/** Thrown from wherever a step would be built next. */
class Stopped extends Error {}

function stoppedBefore(error: unknown): undefined {
  if (!(error instanceof Stopped)) throw error
}

function builtAgain(step: Step, there: Snapshot, options: ChainOptions): boolean {
  if (Date.parse(there.manifest.builtAt) >= options.since) return false
  return mustRebuild(step, there, options.rebuild) !== undefined
}

/** The same for a step of the rolled-up layer `outer`, which may be gone and yet not have to be built. */
function innerAgain(step: Step, there: Snapshot | undefined, options: ChainOptions, outer: Step | undefined): boolean {
  const known = options.known?.get(step.key)
  const builtAt = there?.manifest.builtAt ?? known?.builtAt
  if (builtAt !== undefined && Date.parse(builtAt) >= options.since) return false
  const { nocache = false, ttl } = step.layer?.directives ?? {}
  return (outer !== undefined && options.rebuild.has(outer.name)) || nocache || isOlder(builtAt, ttl)
}

function isOlder(builtAt: string | undefined, ttl: number | undefined): boolean {
  return builtAt !== undefined && ttl !== undefined && (Date.now() - Date.parse(builtAt)) / 1000 > ttl
}

/** The steps whose scripts may have to run, when `from` is the first that is to be built. */
async function scriptsFrom(chain: Chain, from: number, options: ChainOptions): Promise<Step[]> {
  const [first, ...above] = chain.steps.slice(from)
  const inner = first?.inner ?? []
  const found = await Promise.all(inner.map(({ key }) => chain.find(key)))
  // One that is only to be merged from what is there runs none of its scripts.
  const start = firstToRun(inner, found, (step, there) => innerAgain(step, there, options, first))
  const rest = first?.inner ? inner.slice(start) : first ? [first] : []
  return [...rest, ...leaves(above)]
}

function countMissing(chain: Chain, options: ChainOptions): number {
  const first = chain.steps.findIndex((step, i) => {
    const there = chain.found[i]
    return !there || builtAgain(step, there, options)
  })
  return first < 0 ? 0 : chain.steps.length - first
}

function frozenError(chain: Chain, options: ChainOptions): VlbError {
  const step = chain.steps[chain.steps.length - countMissing(chain, options)]
  return new VlbError('VLB_FROZEN', `${step?.name} is not in the store, and --frozen forbids to build it`, {
    hint: 'see why: git vlb status; build it: git vlb build',
  })
}

/** Builds single steps of a chain, rolled-up ones among them. */
class StepMaker {
  readonly #context: BuildContext
  readonly #chain: Chain
  readonly #sources: StepSources
  readonly #options: ChainOptions

  constructor(context: BuildContext, chain: Chain, sources: StepSources, options: ChainOptions) {
    this.#context = context
    this.#chain = chain
    this.#sources = sources
    this.#options = options
  }

  async make(step: Step, ground: Ground, there: Snapshot | undefined): Promise<StepOutcome & { built: boolean }> {
    const { beforeBuild } = this.#options
    if (beforeBuild && !(await beforeBuild(step))) throw new Stopped(step.name)
    const job = await this.#job(step, ground, there !== undefined)
    return await buildLocked(this.#context, job, (context) =>
      step.inner ? buildRolledUp(context, job, this.#inner(step)) : buildStep(context, job),
    )
  }

  async #job(step: Step, ground: Ground, forced: boolean): Promise<LockedJob> {
    const { source } = this.#chain
    const { keepFailed, since, secrets } = this.#options
    return {
      step,
      ground,
      work: await this.#sources.folder(step),
      root: source.config.disk.root,
      label: source.label,
      keepFailed,
      writeSources: (work) => this.#sources.writeStep(step, work),
      secrets: step.layer && !step.inner ? secretsOf(step.layer, secrets) : new Map(),
      forced,
      since,
    }
  }

  #inner(outer: Step): InnerSteps {
    const { source } = this.#chain
    const { env } = this.#options
    const plan: InnerSteps['plan'] = async () => {
      const find = finder(this.#context)
      const contentOf = async (key: LayerKey) =>
        (await find(key))?.manifest.contentId ?? this.#options.known?.get(key)?.contentId
      const { parent, base } = outer.inputs
      const on = { ...(parent ? { parent } : {}), ...(base ? { base } : {}) }
      const keys = { arch: this.#context.arch, base, env, contentOf }
      const steps = await planInner(source, outer.name, on, outer.layer?.steps ?? [], keys)
      const found = await Promise.all(steps.map(({ key }) => find(key)))
      const ids = found.flatMap((there) => there?.manifest.id ?? [])
      const { store, signal } = this.#context
      const sure = (await store.hold(ids, signal)) && (await areSound(this.#context, ids, undefined))
      return sure ? { steps, found } : await plan()
    }
    return {
      plan,
      again: (step, there) => innerAgain(step, there, this.#options, outer),
      known: this.#options.known ?? new Map(),
      make: async (step, ground, there) => await this.make(step, ground, there),
    }
  }
}
