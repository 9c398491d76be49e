// `git vlb status`: every layer's state, and for a miss the reason. Builds, fetches and locks nothing.
import { access } from 'node:fs/promises'
import { diskStep, giveValue, needsValue, noKey, type Step } from '../core/plan.ts'
import type { LayerState, LayerStatus, StatusResult, Why } from '../core/results-status.ts'
import { suggestRollup } from '../core/rollup-hint.ts'
import { imageRecord } from '../store/images.ts'
import type { Snapshot } from '../store/store.ts'
import { mustRebuild } from './again.ts'
import { storeStatus } from './budget.ts'
import { type Chain, surveyChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { imageRecipe } from './flatten.ts'
import { lastPass } from './passes.ts'
import { prebuildStatus } from './prebuild-state.ts'
import { type LoadedSource, loadRevision, loadWorkingTree } from './project.ts'
import { firstToRun } from './rolled-up.ts'
import { storedBase } from './stored-bases.ts'
import { targetsFor } from './targets.ts'
import { Explainer, type Explanation } from './why.ts'

export interface StatusRequest {
  revision: string | undefined
  env: Record<string, string>
  /** Ask the remote what it has. */
  remote: boolean
}

export async function status(context: BuildContext, { revision, env, remote }: StatusRequest): Promise<StatusResult> {
  const source =
    revision === undefined ? await loadWorkingTree(context.project) : await loadRevision(context.project, revision)
  try {
    const chain = await surveyChain(context, source, env)
    const states = await layerStates(context, chain)
    const layers = remote ? await (await import('./remote-status.ts')).withRemote(context, chain, states, env) : states
    return {
      project: source.config.name,
      rev: source.name,
      base: await baseState(context, chain),
      layers: layers.filter((layer) => layer.name !== diskStep),
      image: await imageState(context, source, chain),
      rollup: revision === undefined ? rollupHint(source, states) : null,
      prebuild: revision === undefined ? await prebuildStatus(context.project) : null,
      store: storeStatus(context),
    }
  } finally {
    await source.objects.close()
  }
}

async function baseState(context: BuildContext, chain: Chain): Promise<StatusResult['base']> {
  const { base, source } = chain
  const stored = base ? await storedBase(context, base.digest) : undefined
  const diskSize = source.config.disk.size ?? null
  if (base) return { digest: base.digest, size: stored?.disk.size ?? null, source: base.source, diskSize }
  return {
    digest: null,
    size: chain.found[0]?.manifest.disk.size ?? null,
    source: chain.steps[0]?.name ?? '',
    diskSize,
  }
}

const nothing: Explanation = { reason: '', why: [], last: null }

async function layerStates(context: BuildContext, chain: Chain): Promise<LayerStatus[]> {
  const states: LayerStatus[] = []
  const explainer = new Explainer(context, chain)
  let below: string | undefined
  for (const [i, step] of chain.steps.entries()) {
    const there = chain.found[i]
    let state: LayerState = 'cached'
    let explanation = nothing
    const again = there && below === undefined ? mustRebuild(step, there) : undefined
    if (again) [state, explanation] = builtAgain(step, again)
    else if (below !== undefined || !there) {
      state = 'missing'
      explanation = whyMissing(step, await explainer.explain(i, below), below)
    }
    if (state !== 'cached') {
      below ??= step.name === diskStep ? 'the disk' : step.name
      if (step.key !== noKey && (await context.store.isBuilding(step.key))) state = 'building'
    }
    const whole = layerStatus(step, state, explanation, there)
    const parts = step.inner && (await stepStates(chain, step, there, state === 'cached'))
    states.push(parts ? { ...whole, steps: parts } : whole)
  }
  return states
}

/** The steps of a rolled-up layer. Those of one that is there need not be in the store themselves. */
async function stepStates(
  chain: Chain,
  { inner = [] }: Step,
  whole: Snapshot | undefined,
  merged: boolean,
): Promise<LayerStatus[]> {
  const states: LayerStatus[] = []
  const found = merged ? [] : await Promise.all(inner.map(({ key }) => (key === noKey ? undefined : chain.find(key))))
  const start = firstToRun(inner, found, (step, there) => there !== undefined && mustRebuild(step, there) !== undefined)
  for (const [i, step] of inner.entries()) {
    const record = merged ? whole?.manifest.steps?.[i] : undefined
    if (record) {
      const { key, seconds, builtAt } = record
      states.push({ ...layerStatus(step, 'cached', nothing, undefined), key, seconds, builtAt })
      continue
    }
    const there = found[i]
    const again = there && mustRebuild(step, there)
    const below = states.find(({ state }) => state !== 'cached')
    const reason = below ? `${below.name} below it has to be built` : (again ?? (i < start ? '' : 'not built yet'))
    states.push(layerStatus(step, reason === '' ? 'cached' : 'missing', { ...nothing, reason }, there))
  }
  return states
}

function builtAgain({ layer }: Step, reason: string): [LayerState, Explanation] {
  const { nocache = false, ttl = 0 } = layer?.directives ?? {}
  const why: Why[] = nocache ? [{ input: 'nocache' }] : [{ input: 'ttl', seconds: ttl }]
  return [nocache ? 'nocache' : 'missing', { reason, why, last: null }]
}

function whyMissing({ lacks }: Step, found: Explanation, below: string | undefined): Explanation {
  const why: Why[] = lacks === undefined ? found.why : [{ input: 'env', name: lacks, change: 'missing' }, ...found.why]
  if (below !== undefined) return { ...found, why, reason: `${below} below it has to be built` }
  return lacks === undefined ? found : { ...found, why, reason: `${needsValue(lacks)}: ${giveValue(lacks)}` }
}

function layerStatus(
  step: Step,
  state: LayerState,
  explanation: Explanation,
  there: Snapshot | undefined,
): LayerStatus {
  return {
    name: step.name,
    kind: step.inputs.kind,
    tree: step.inputs.tree ?? '',
    key: step.key,
    state,
    ...explanation,
    dirty: step.layer?.dirty ?? false,
    bytes: there?.manifest.bytes ?? 0,
    seconds: there?.manifest.seconds ?? 0,
    builtAt: there?.manifest.builtAt ?? null,
  }
}

/** Current if all the images are, or if the overlay is that takes their place with --no-flatten. */
async function imageState(context: BuildContext, source: LoadedSource, chain: Chain): Promise<StatusResult['image']> {
  const top = chain.found.at(-1)
  const { name, boot, seal } = source.config
  const machine = { name, cpus: boot.cpus, memory: boot.memory, arch: context.arch }
  const given = { formats: [], compress: undefined, output: undefined }
  const sets = [true, false].map((flatten) => ({
    flatten,
    targets: targetsFor(context.project.folder, source, { ...given, flatten }),
  }))
  const path = sets[0]?.targets[0]?.path ?? ''
  let known = await exists(path)
  for (const { flatten, targets } of sets) {
    const records = await Promise.all(targets.map((target) => imageRecord(context.store, target.path)))
    known ||= records.some((record) => record)
    if (!top) continue
    const wanted = targets.map((target) => imageRecipe({ top, flatten, machine, seal }, target))
    if (!records.every((record, i) => record?.recipe === wanted[i])) continue
    const pass = wanted.map((recipe) => lastPass(context.store.root, recipe, source)).find((one) => one)
    return { path, state: 'current', tested: pass?.at ?? null }
  }
  return { path, state: known ? 'stale' : 'missing', tested: null }
}

/** Of the working tree alone: revisions stay as they are. */
function rollupHint({ layers, config }: LoadedSource, states: readonly LayerStatus[]): StatusResult['rollup'] {
  const cached = new Set(states.filter(({ state }) => state === 'cached').map(({ name }) => name))
  const base = config.base?.from === 'path' ? config.base.path : undefined
  const range = suggestRollup(layers, (name) => cached.has(name), base)
  return range ? { from: range[0]?.name ?? '', to: range.at(-1)?.name ?? '', layers: range.length } : null
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  )
}
