// Building what is missing of a chain, step by step.
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import { leaves, planInner, type Step, secretsOf, upTo } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results-build.ts'
import type { Snapshot } from '../store/store.ts'
import { builtAgain, innerAgain } from './again.ts'
import { ensureBase } from './bases.ts'
import { type Chain, type ChainOptions, finder, held, planAgain, planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { areSound, blameDamage, SnapshotGone, suspectOf } from './damage.ts'
import type { Ground, StepOutcome } from './job.ts'
import { buildLocked, findSnapshot, type LockedJob } from './locked.ts'
import { cached, ended, skipped } from './outcome.ts'
import type { LoadedSource } from './project.ts'
import type { CompleteChain } from './record.ts'
import { buildRolledUp, firstToRun, type InnerSteps } from './rolled-up.ts'
import { StepSources } from './sources.ts'
import { buildStep } from './step.ts'

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

/** Thrown from wherever a step would be built next. */
class Stopped extends Error {}

function stoppedBefore(error: unknown): undefined {
  if (!(error instanceof Stopped)) throw error
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
