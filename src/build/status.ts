// `git vlb status`: every layer's state, and for a miss the reason. Builds, fetches and locks nothing.
import { access } from 'node:fs/promises'
import { differingInputs } from '../core/key.ts'
import type { Manifest } from '../core/manifest.ts'
import { diskStep, giveValue, needsValue, noKey, type Step } from '../core/plan.ts'
import type { LayerState, LayerStatus, StatusResult } from '../core/results.ts'
import { describeHead } from '../git/repo.ts'
import { imageRecord } from '../store/images.ts'
import type { Snapshot } from '../store/store.ts'
import { storedBase } from './bases.ts'
import { type Chain, mustRebuild, surveyChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { imageRecipe } from './flatten.ts'
import { type LoadedSource, loadRevision, loadWorkingTree } from './project.ts'
import { targetsFor } from './targets.ts'

export async function status(
  context: BuildContext,
  revision: string | undefined,
  env: Record<string, string>,
): Promise<StatusResult> {
  const source =
    revision === undefined ? await loadWorkingTree(context.project) : await loadRevision(context.project, revision)
  try {
    const chain = await surveyChain(context, source, env)
    const layers = await layerStates(context, chain)
    return {
      project: source.config.name,
      rev: revision ?? (await describeHead(context.project.repo)),
      base: await baseState(context, chain),
      layers: layers.filter((layer) => layer.name !== diskStep),
      image: await imageState(context, source, chain),
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

async function layerStates(context: BuildContext, chain: Chain): Promise<LayerStatus[]> {
  const states: LayerStatus[] = []
  let below: string | undefined
  // Read only when something is missing: the usual status must not depend on how much the store holds.
  let all: Manifest[] | undefined
  for (const [i, step] of chain.steps.entries()) {
    const there = chain.found[i]
    const again = there && mustRebuild(step, there)
    let state: LayerState = 'cached'
    let reason = ''
    if (below !== undefined) [state, reason] = ['missing', `${below} below it has to be built`]
    else if (step.lacks !== undefined)
      [state, reason] = ['missing', `${needsValue(step.lacks)}: ${giveValue(step.lacks)}`]
    else if (again) [state, reason] = [step.layer?.directives.nocache ? 'nocache' : 'missing', again]
    else if (!there) {
      all ??= await context.store.list()
      ;[state, reason] = ['missing', whyMissing(step, all)]
    }
    if (state !== 'cached') {
      below ??= step.name === diskStep ? 'the disk' : step.name
      if (step.key !== noKey && (await context.store.isBuilding(step.key))) state = 'building'
    }
    states.push(layerStatus(step, state, reason, there))
  }
  return states
}

function layerStatus(step: Step, state: LayerState, reason: string, there: Snapshot | undefined): LayerStatus {
  return {
    name: step.name,
    kind: step.inputs.kind,
    tree: step.inputs.tree ?? '',
    key: step.key,
    state,
    reason,
    dirty: step.layer?.dirty ?? false,
    bytes: there?.manifest.bytes ?? 0,
    seconds: there?.manifest.seconds ?? 0,
    builtAt: there?.manifest.builtAt ?? null,
  }
}

const inputNames: Record<string, string> = {
  tree: 'its files changed',
  parent: 'what it stands on changed',
  base: 'the base changed',
  size: 'disk.size changed',
  root: 'disk.root changed',
  arch: 'another architecture',
  engine: 'a newer git vlb builds differently',
  kind: 'its kind changed',
}

/** Compares with the newest snapshot of a layer of that name. */
function whyMissing(step: Step, all: readonly Manifest[]): string {
  const newest = all.filter((m) => m.layer === step.name).sort((a, b) => (a.builtAt < b.builtAt ? 1 : -1))[0]
  if (!newest) return 'never built'
  const changed = differingInputs(newest.inputs, step.inputs).map(
    (input) => inputNames[input] ?? `the value ${input.replace(/^env:/, '')} changed`,
  )
  return changed.length > 0 ? changed.join(', ') : 'its snapshot is gone'
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
    const records = await Promise.all(targets.map((target) => imageRecord(context.store.root, target.path)))
    known ||= records.some((record) => record)
    if (!top) continue
    const wanted = targets.map((target) => imageRecipe({ top, flatten, machine, seal }, target))
    if (records.every((record, i) => record?.recipe === wanted[i])) return { path, state: 'current' }
  }
  return { path, state: known ? 'stale' : 'missing' }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  )
}
