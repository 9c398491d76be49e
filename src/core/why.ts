// Why a layer is not in the store: which of its inputs differ from those of its last snapshot. Pure.
import type { KeyInputs } from './key.ts'
import { differingInputs } from './key.ts'
import type { Manifest } from './manifest.ts'
import { diskStep, type Step } from './plan.ts'
import type { ChangedFile, Why } from './results-status.ts'

/** The files of a tree: mode and object id, with a blank between, by path. */
export type Listing = Record<string, string>

/** A folder that was renamed or renumbered keeps its history by the rest of its name, or by what is in it. */
function likeness(manifest: Manifest, step: Step): number {
  if (manifest.layer === step.name) return 3
  if (stem(manifest.layer) === stem(step.name)) return 2
  return step.inputs.tree !== undefined && manifest.inputs.tree === step.inputs.tree ? 1 : 0
}

const stem = (name: string): string => name.slice(name.indexOf('_') + 1)

/**
 * The newest snapshot of a layer. A store may hold layers of that name from elsewhere: those of this project come first,
 * and those of its neighbours in the same working tree (`worktree`, absolute) only count if they were made from the
 * same files.
 */
export function lastSnapshot(
  step: Step,
  all: readonly Manifest[],
  project: { folder: string; worktree: string | undefined },
): Manifest | undefined {
  const { folder, worktree } = project
  const neighbour = (path: string) =>
    worktree !== undefined && path !== folder && (path === worktree || path.startsWith(`${worktree}/`))
  const ranked = all
    .map((manifest) => ({ manifest, ours: manifest.project === folder, like: likeness(manifest, step) }))
    .filter(({ manifest, like }) => like === 1 || (like > 1 && !neighbour(manifest.project)))
  ranked.sort(
    (a, b) => Number(b.ours) - Number(a.ours) || b.like - a.like || (a.manifest.builtAt < b.manifest.builtAt ? 1 : -1),
  )
  return ranked[0]?.manifest
}

/** What a changed parent comes from, and what else differs, but not yet files and commits. */
export function differences(before: Manifest, chain: readonly Step[], at: number, all: readonly Manifest[]): Why[] {
  const step = chain[at] as Step
  const names = differingInputs(before.inputs, step.inputs)
  const found = names.flatMap((name) => ownDifference(name, before.inputs, step))
  // Where a value is lacking below it, nobody can say what it will stand on.
  const placed = at === 0 || step.inputs.parent !== undefined
  if (!names.includes('parent') || !placed) return found
  const from = changedBelow(before, chain.slice(0, at), all)
  // The base is then that of the step below.
  return [...found.filter(({ input }) => input !== 'base'), ...from]
}

const plain = ['kind', 'base', 'size', 'root', 'arch', 'engine'] as const

function ownDifference(name: string, before: KeyInputs, { inputs, lacks }: Step): Why[] {
  const change = (a: unknown, b: unknown) => (a === undefined ? 'added' : b === undefined ? 'removed' : 'changed')
  const nowhere = { commit: null, uncommitted: false }
  if (name === 'tree') {
    const trees = { before: before.tree ?? '', after: inputs.tree ?? '' }
    return [{ input: 'tree', ...trees, files: null, more: 0, ...nowhere }]
  }
  if (name.startsWith('include:')) {
    const path = name.slice('include:'.length)
    return [{ input: 'include', path, change: change(before.includes?.[path], inputs.includes?.[path]), ...nowhere }]
  }
  if (name.startsWith('env:')) {
    // While one value is lacking, the others are not known either.
    if (lacks !== undefined) return []
    const value = name.slice('env:'.length)
    return [{ input: 'env', name: value, change: change(before.env?.[value], inputs.env?.[value]) }]
  }
  const input = plain.find((one) => one === name)
  return input ? [{ input, before: before[input] ?? null, after: inputs[input] ?? null }] : []
}

/** Names of inputs without the paths and values that some of them have. */
function inputNames(before: KeyInputs, after: KeyInputs): string[] {
  return [...new Set(differingInputs(before, after).map((name) => name.split(':')[0] ?? ''))]
}

/** The lowest step at which the chain below a snapshot and the one that is there now part. */
function changedBelow(before: Manifest, below: readonly Step[], all: readonly Manifest[]): Why[] {
  const top = below.at(-1)
  const old = chainBelow(before, all)
  if (!old) return top ? [{ input: 'parent', layer: top.name, change: 'changed', inputs: [] }] : []
  for (let i = 0; i < Math.max(old.length, below.length); i++) {
    const [was, is] = [old[i], below[i]]
    if (was && is && differingInputs(was.inputs, is.inputs).length === 0) continue
    return partingOf(was, is, old, below)
  }
  // All inputs are the same: a step was built anew, under the key it had.
  return top ? [{ input: 'parent', layer: top.name, change: 'changed', inputs: [] }] : []
}

function partingOf(
  was: Manifest | undefined,
  is: Step | undefined,
  old: readonly Manifest[],
  now: readonly Step[],
): Why[] {
  const disk = [was?.layer, is?.name].includes(diskStep)
  if (was && is && stem(was.layer) === stem(is.name)) {
    const whole = differingInputs(was.inputs, is.inputs).flatMap((name) => ownDifference(name, was.inputs, is))
    if (disk) return whole
    return [{ input: 'parent', layer: is.name, change: 'changed', inputs: inputNames(was.inputs, is.inputs) }]
  }
  if (disk) {
    const size = (inputs: KeyInputs | undefined) => inputs?.size ?? null
    return [{ input: 'size', before: size(was?.inputs), after: size(is?.inputs) }]
  }
  const isNew = !was || !old.some(({ layer }) => is && stem(layer) === stem(is.name))
  if (is && isNew) return [{ input: 'parent', layer: is.name, change: 'added', inputs: [] }]
  const isGone = !is || !now.some(({ name }) => was && stem(name) === stem(was.layer))
  if (was && isGone) return [{ input: 'parent', layer: was.layer, change: 'removed', inputs: [] }]
  const layer = is?.name ?? was?.layer ?? ''
  return [{ input: 'parent', layer, change: 'moved', inputs: [] }]
}

/** The snapshots below one, lowest first; undefined if one of them is gone. */
function chainBelow(top: Manifest, all: readonly Manifest[]): Manifest[] | undefined {
  const byId = new Map(all.map((manifest) => [manifest.id, manifest]))
  const chain: Manifest[] = []
  for (let id = top.parent; id !== undefined; ) {
    const next = byId.get(id)
    // A circle cannot be, but a manifest is a file that anybody may have written.
    if (!next || chain.includes(next)) return undefined
    chain.unshift(next)
    id = next.parent
  }
  return chain
}

/** What happened to the files between two listings, by path. */
export function changedFiles(before: Listing, after: Listing): ChangedFile[] {
  const paths = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return paths.flatMap((path): ChangedFile[] => {
    const [was, is] = [own(before, path), own(after, path)]
    if (was === is) return []
    if (was === undefined) return [{ path, change: 'added' }]
    if (is === undefined) return [{ path, change: 'deleted' }]
    return [{ path, change: was.split(' ')[1] === is.split(' ')[1] ? 'mode' : 'modified' }]
  })
}

function own(listing: Listing, path: string): string | undefined {
  return Object.hasOwn(listing, path) ? listing[path] : undefined
}

const words: Record<string, string> = {
  tree: 'its files changed',
  parent: 'what it stands on changed',
  base: 'the base changed',
  size: 'disk.size changed',
  root: 'disk.root changed',
  arch: 'another architecture',
  engine: 'a newer git vlb builds differently',
  kind: 'its kind changed',
}

/** All differences in a few words. */
export function inWords(why: readonly Why[]): string {
  const parts = why.map((one) => {
    if (one.input === 'env') return `the value ${one.name} changed`
    if (one.input === 'include') return `${one.path}, which it includes, changed`
    return words[one.input] ?? one.input
  })
  return [...new Set(parts)].join(', ')
}
