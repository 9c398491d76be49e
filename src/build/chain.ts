// A revision's chain: which of its steps are there, which must be built, and building those.
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import { short } from '../core/ids.ts'
import type { Layer } from '../core/layer.ts'
import { checkEnvironment, noKey, planSteps, type Step, secretsOf, upTo } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results.ts'
import { materialise, materialiseEntry } from '../git/materialise.ts'
import type { Snapshot } from '../store/store.ts'
import { type Base, ensureBase, resolveBase } from './bases.ts'
import type { BuildContext } from './context.ts'
import type { Ground, StepOutcome } from './job.ts'
import type { LoadedSource } from './project.ts'
import type { CompleteChain } from './record.ts'
import { writeSourceList } from './source-list.ts'
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
}

export interface Chain {
  source: LoadedSource
  base: Base | undefined
  steps: Step[]
  /** By step: its snapshot where it is there. */
  found: (Snapshot | undefined)[]
}

/** Steps and keys of a revision, and which of them are in the store. Builds and fetches nothing. */
export async function planChain(
  context: BuildContext,
  source: LoadedSource,
  layers: readonly Layer[],
  env: Record<string, string>,
): Promise<Chain> {
  const base = source.config.base ? await resolveBase(context, source, source.config.base) : undefined
  return await planOn(context, source, layers, env, base)
}

/** The same for a look only: a layer that lacks a value is no error. */
export async function surveyChain(
  context: BuildContext,
  source: LoadedSource,
  env: Record<string, string>,
): Promise<Chain> {
  checkEnvironment(source.layers, env)
  const base = source.config.base ? await resolveBase(context, source, source.config.base) : undefined
  return await planOn(context, source, source.layers, env, base, true)
}

async function planOn(
  context: BuildContext,
  source: LoadedSource,
  layers: readonly Layer[],
  env: Record<string, string>,
  base: Base | undefined,
  look = false,
): Promise<Chain> {
  const seen = new Map<LayerKey, Snapshot | undefined>()
  const find = async (key: LayerKey) => {
    if (!seen.has(key)) seen.set(key, key === noKey ? undefined : await findSnapshot(context, key))
    return seen.get(key)
  }
  const contentOf = async (key: LayerKey) => (await find(key))?.manifest.contentId
  const steps = await planSteps(source, layers, { arch: context.arch, base: base?.digest, env, contentOf, look })
  const found = await Promise.all(steps.map((step) => find(step.key)))
  return { source, base, steps, found }
}

async function findSnapshot(context: BuildContext, key: LayerKey): Promise<Snapshot | undefined> {
  return await context.store.find(key, ({ layer, reason }) =>
    context.emit({
      type: 'warning',
      text: `the snapshot ${short(key)}${layer ? ` of ${layer}` : ''} is damaged: ${reason}; dropped, it will be built again`,
    }),
  )
}

/** Why a step has to be built although its snapshot is there; undefined if it has not. */
export function mustRebuild(
  step: Step,
  snapshot: Snapshot,
  rebuild: ReadonlySet<string> = new Set(),
): string | undefined {
  if (rebuild.has(step.name)) return 'asked for with --rebuild'
  if (step.layer?.directives.nocache) return 'its script says nocache'
  const ttl = step.layer?.directives.ttl
  const age = (Date.now() - Date.parse(snapshot.manifest.builtAt)) / 1000
  return ttl !== undefined && age > ttl ? 'older than its ttl' : undefined
}

export interface ChainResult {
  layers: BuiltLayer[]
  top: Snapshot | undefined
  /** All steps, where the chain is complete and has all the layers of the revision. */
  complete?: CompleteChain
  failed?: Extract<StepOutcome, { failure: unknown }> & { step: Step }
}

/** Builds what is missing of a chain, from the bottom up. Stops at the first layer that fails. */
export async function buildChain(
  context: BuildContext,
  source: LoadedSource,
  options: ChainOptions,
): Promise<ChainResult> {
  const layers = upTo(source.layers, options.last)
  let chain = await planChain(context, source, layers, options.env)
  const missing = countMissing(chain, options)
  context.emit({ type: 'plan', label: source.label, steps: chain.steps.map((s) => s.name), missing })
  if (options.frozen && missing > 0) throw frozenError(chain, options)
  const result: ChainResult = { layers: [], top: undefined }
  const sources = new StepSources(context, chain)
  const snapshots: Snapshot[] = []
  let ground: Ground = chain.base && !options.dryRun ? { base: await ensureBase(context, chain.base) } : undefined
  for (let i = 0; i < chain.steps.length; i++) {
    const step = chain.steps[i] as Step
    const there = chain.found[i]
    if (there && !builtAgain(step, there, options)) {
      result.layers.push(report(context, source.label, step, 'cached', there, 0))
      ground = { snapshot: there }
      snapshots.push(there)
      continue
    }
    if (options.dryRun) {
      for (const rest of chain.steps.slice(i))
        result.layers.push({ name: rest.name, key: rest.key, contentId: null, result: 'skipped', seconds: 0, bytes: 0 })
      return result
    }
    if (i === chain.steps.length - missing) checkSecretsAbove(chain, i, options)
    await sources.write(i)
    const forced = there !== undefined
    const outcome = await buildLocked(context, {
      step,
      ground,
      work: sources.folder(i),
      root: source.config.disk.root,
      label: source.label,
      keepFailed: options.keepFailed,
      writeSources: (work) => sources.writeStep(step, work),
      secrets: step.layer ? secretsOf(step.layer, options.secrets) : new Map(),
      forced,
      since: options.since,
    })
    if ('failure' in outcome) {
      context.emit({
        type: 'step-ended',
        label: source.label,
        name: step.name,
        result: 'failed',
        seconds: outcome.seconds,
        bytes: 0,
      })
      result.layers.push({
        name: step.name,
        key: step.key,
        contentId: null,
        result: 'failed',
        seconds: outcome.seconds,
        bytes: 0,
      })
      for (const rest of chain.steps.slice(i + 1))
        result.layers.push({ name: rest.name, key: rest.key, contentId: null, result: 'skipped', seconds: 0, bytes: 0 })
      return { ...result, failed: { ...outcome, step } }
    }
    result.layers.push(
      report(context, source.label, step, outcome.built ? 'built' : 'cached', outcome.snapshot, outcome.seconds),
    )
    ground = { snapshot: outcome.snapshot }
    snapshots.push(outcome.snapshot)
    // The content id of what was just built may be new, and with it the keys of all above.
    chain = await planOn(context, source, layers, options.env, chain.base)
  }
  const top = ground && 'snapshot' in ground ? ground.snapshot : undefined
  if (layers.length < source.layers.length) return { ...result, top }
  const steps = chain.steps.map(({ name }, i) => ({ name, snapshot: snapshots[i] as Snapshot }))
  return { ...result, top, complete: { base: chain.base?.digest, steps } }
}

function builtAgain(step: Step, there: Snapshot, options: ChainOptions): boolean {
  if (Date.parse(there.manifest.builtAt) >= options.since) return false
  return mustRebuild(step, there, options.rebuild) !== undefined
}

/** A secret that the last layer lacks is no news to have after the first was built. */
function checkSecretsAbove(chain: Chain, from: number, options: ChainOptions): void {
  for (const { layer } of chain.steps.slice(from)) if (layer) secretsOf(layer, options.secrets)
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

function report(
  context: BuildContext,
  label: string,
  step: Step,
  result: 'built' | 'cached',
  snapshot: Snapshot,
  seconds: number,
): BuiltLayer {
  const { bytes, contentId } = snapshot.manifest
  context.emit({ type: 'step-ended', label, name: step.name, result, seconds, bytes })
  return { name: step.name, key: step.key, contentId, result, seconds, bytes }
}

/** The files of all layers that may have to be built, written before the first of them runs: what was hashed is built. */
class StepSources {
  readonly #context: BuildContext
  readonly #chain: Chain
  #folders: string[] = []

  constructor(context: BuildContext, chain: Chain) {
    this.#context = context
    this.#chain = chain
  }

  async write(from: number): Promise<void> {
    if (this.#folders.length > 0) return
    for (const [i, step] of this.#chain.steps.entries()) {
      this.#folders[i] = i < from ? '' : await this.#context.store.scratch.folder()
      if (i >= from) await this.writeStep(step, this.folder(i))
    }
  }

  /** Writes the files of one step to a scratch folder of it. */
  async writeStep({ layer }: Step, work: string): Promise<void> {
    if (!layer) return
    const { objects, env } = this.#chain.source
    const { project, signal } = this.#context
    const git = { repo: project.repo, objects, env, signal }
    await materialise(git, layer.tree, join(work, 'src'), layer.name)
    if (layer.dirty) await writeSourceList(objects, layer.tree, work)
    for (const [path, entry] of Object.entries(layer.includes)) {
      await materialiseEntry(git, entry, join(work, 'include', path), path)
    }
  }

  folder(i: number): string {
    return this.#folders[i] ?? ''
  }
}

type LockedJob = Parameters<typeof buildStep>[1] & { forced: boolean; since: number }

/** Builds under the lock of the key; whoever waited takes what the other built. */
async function buildLocked(context: BuildContext, job: LockedJob): Promise<StepOutcome & { built: boolean }> {
  const { step, label } = job
  const started = Date.now()
  const lock = await context.store.lock(step.key, context.signal, (pid) =>
    context.emit({ type: 'step-waiting', label, name: step.name, pid }),
  )
  try {
    const there = await findSnapshot(context, step.key)
    if (there && (!job.forced || Date.parse(there.manifest.builtAt) >= job.since))
      return { snapshot: there, seconds: (Date.now() - started) / 1000, built: false }
    const signal = AbortSignal.any([context.signal, lock.lost])
    return { ...(await buildStep({ ...context, signal }, job)), built: true }
  } finally {
    await lock.release()
  }
}
