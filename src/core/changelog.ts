// What changed between two revisions of a project, as data: its form, and how the layers of the two are told apart. Pure:
// what git and the store say is handed in.
import type { ListedFile } from './file-list.ts'
import { compareLayerNames } from './layer.ts'
import type { PackageChanges } from './package-changes.ts'
import type { RecordedImage } from './record.ts'

/** A layer's folder, or one of the folders in a rolled-up layer. */
export interface LayerStep {
  /** Below the project's folder: `10_a`, `03_web/layers/10_a`. */
  path: string
  name: string
  tree: string
  /** Mode and object id by path, as its include directives name them. */
  includes: Record<string, string>
}

export interface LayerSide {
  name: string
  kind: string
  /** Itself, or the layers it was rolled up from, in order. */
  steps: LayerStep[]
}

export type LayerChangeKind =
  | 'added'
  | 'removed'
  | 'changed'
  | 'renumbered'
  | 'renamed'
  | 'moved'
  | 'rolled-up'
  | 'unrolled'
  | 'unchanged'

export interface LayerChange {
  /** What to call it: its newer name, or the last it had. */
  name: string
  change: LayerChangeKind
  /** Whether the content differs: false for a layer that was only moved, renamed or rolled up. */
  edited: boolean
  /** Former names, where they differ from `name`. */
  was: string[]
  /** The steps that belong together; one side is missing for what was added or removed. */
  pairs: { from?: LayerStep; to?: LayerStep }[]
}

/** What differs between the layers of two revisions, in the order of the newer; removed ones where they stood. */
export function compareLayers(
  from: readonly LayerSide[],
  to: readonly LayerSide[],
  isSimilar: (a: LayerStep, b: LayerStep) => boolean = () => false,
): LayerChange[] {
  const match = matchSteps(
    from.flatMap(({ steps }) => steps),
    to.flatMap(({ steps }) => steps),
    isSimilar,
  )
  const homeOf = new Map(from.flatMap((layer) => layer.steps.map((step) => [step, layer] as const)))
  const reordered = outOfOrder(from, to, match)
  const told = new Set<LayerStep>()
  const changes: LayerChange[] = []
  for (const layer of to) {
    const change = describe(layer, match, homeOf, reordered)
    for (const { from: step } of change.pairs) if (step) told.add(step)
    changes.push(change)
  }
  for (const layer of from) {
    const gone = layer.steps.filter((step) => !told.has(step))
    if (gone.length === 0) continue
    const pairs = gone.map((step) => ({ from: step }))
    if (gone.length === layer.steps.length)
      changes.push({ name: layer.name, change: 'removed', edited: true, was: [], pairs })
    else
      for (const pair of pairs)
        changes.push({ name: pair.from.path, change: 'removed', edited: true, was: [], pairs: [pair] })
  }
  return changes.sort((a, b) => compareLayerNames(a.name, b.name))
}

function contentOf({ tree, includes }: LayerStep): string {
  return JSON.stringify([tree, Object.entries(includes).sort(([a], [b]) => (a < b ? -1 : 1))])
}

/** Which older step each newer one comes from: the surest signs first. */
function matchSteps(
  from: readonly LayerStep[],
  to: readonly LayerStep[],
  isSimilar: (a: LayerStep, b: LayerStep) => boolean,
): Map<LayerStep, LayerStep> {
  const signs: ((a: LayerStep, b: LayerStep) => boolean)[] = [
    (a, b) => a.path === b.path && contentOf(a) === contentOf(b),
    (a, b) => a.name === b.name && contentOf(a) === contentOf(b),
    (a, b) => contentOf(a) === contentOf(b),
    (a, b) => a.path === b.path,
    (a, b) => a.name === b.name,
    (a, b) => afterNumber(a.name) === afterNumber(b.name),
    isSimilar,
  ]
  const match = new Map<LayerStep, LayerStep>()
  const taken = new Set<LayerStep>()
  for (const sign of signs) {
    for (const b of to) {
      if (match.has(b)) continue
      const a = from.find((one) => !taken.has(one) && sign(one, b))
      if (!a) continue
      match.set(b, a)
      taken.add(a)
    }
  }
  return match
}

function afterNumber(name: string): string {
  return name.slice(name.indexOf('_') + 1)
}

/** Newer steps that would have to be moved to bring them into the order of the older ones: all but a longest row that is in order. */
function outOfOrder(
  from: readonly LayerSide[],
  to: readonly LayerSide[],
  match: ReadonlyMap<LayerStep, LayerStep>,
): Set<LayerStep> {
  const places = new Map(from.flatMap(({ steps }) => steps).map((step, i) => [step, i]))
  const steps = to.flatMap((layer) => layer.steps).filter((step) => match.has(step))
  const place = steps.map((step) => places.get(match.get(step) as LayerStep) ?? 0)
  const longest: number[] = []
  const before: number[] = []
  for (const [i, at] of place.entries()) {
    longest[i] = 1
    before[i] = -1
    for (let j = 0; j < i; j++) {
      if ((place[j] ?? 0) >= at || (longest[j] ?? 0) < (longest[i] ?? 0)) continue
      longest[i] = (longest[j] ?? 0) + 1
      before[i] = j
    }
  }
  const moved = new Set(steps)
  for (let i = longest.indexOf(Math.max(...longest)); i >= 0; i = before[i] ?? -1) moved.delete(steps[i] as LayerStep)
  return moved
}

function describe(
  layer: LayerSide,
  match: ReadonlyMap<LayerStep, LayerStep>,
  homeOf: ReadonlyMap<LayerStep, LayerSide>,
  reordered: ReadonlySet<LayerStep>,
): LayerChange {
  const { name } = layer
  const pairs: LayerChange['pairs'] = layer.steps.map((step) => {
    const from = match.get(step)
    return from ? { from, to: step } : { to: step }
  })
  const homes = [...new Set(pairs.flatMap(({ from }) => (from ? (homeOf.get(from) ?? []) : [])))]
  const [home] = homes
  if (!home) return { name, change: 'added', edited: true, was: [], pairs }
  const same = pairs.every(({ from, to }) => from && to && contentOf(from) === contentOf(to))
  const moved = layer.steps.some((step) => reordered.has(step))
  const wasRolled = homes.length === 1 && home.kind === 'layers'
  if (layer.kind === 'layers' && !wasRolled) {
    // What stood between them and is left out, or another order, makes another image.
    return { name, change: 'rolled-up', edited: !same || moved, was: homes.map((one) => one.name), pairs }
  }
  if (layer.kind !== 'layers' && wasRolled)
    return { name, change: 'unrolled', edited: !same || moved, was: [home.name], pairs }
  // Of the rolled-up layer that it was before.
  const lost = home.steps.filter((step) => !pairs.some(({ from }) => from === step))
  const edited = !same || lost.length > 0 || (layer.kind === 'layers' && moved)
  const all = [...pairs, ...lost.map((step) => ({ from: step }))]
  const was = home.name === name ? [] : [home.name]
  return { name, change: nameChange(home.name, name, edited, moved), edited, was, pairs: all }
}

function nameChange(was: string, name: string, edited: boolean, moved: boolean): LayerChangeKind {
  if (was === name) return edited ? 'changed' : moved ? 'moved' : 'unchanged'
  if (afterNumber(was) !== afterNumber(name)) return 'renamed'
  return moved ? 'moved' : 'renumbered'
}

export interface FileChange {
  /** Below the project's folder. */
  path: string
  /** Where it was, if its layer had another name. */
  was?: string
  change: 'added' | 'removed' | 'changed'
  /** Modes as git writes them, where they differ. */
  mode?: { from: string; to: string }
  /** Hunks of a unified diff. */
  patch?: string
  added: number
  removed: number
  /** Why the patch is not there, or not whole. */
  cut?: string
}

export interface ChangelogLayer extends Omit<LayerChange, 'pairs'> {
  kind: string
  /** Of its snapshot, where it is known. */
  bytes: { from: number | null; to: number | null }
  /** Built anew from the same files on the same ground: for its age, with nocache, or because somebody asked for it. */
  rebuilt: boolean
  /** Commits that touched it. */
  commits: string[]
  files: FileChange[]
}

export interface ChangelogCommit {
  commit: string
  author: string
  email: string
  /** ISO 8601, of the author. */
  date: string
  subject: string
  /** What of the project it touched: layers by the names that `layers` has, included files, vlb.yaml. */
  touched: string[]
  /** What its trailer Vlb-Rollup says. */
  rollup?: string
}

export interface ChangelogEnd {
  rev: string
  commit: string
  /** ISO 8601, of the commit. */
  date: string
  /** Where what was built of it is known from: null if nowhere. */
  record: 'notes' | 'store' | null
  /** What its snapshots take, without the base. */
  bytes: number | null
  base: string | null
  image: RecordedImage | null
}

export interface Changelog {
  project: string
  from: ChangelogEnd
  to: ChangelogEnd
  /** Whether `from` is an ancestor of `to`. */
  linear: boolean
  layers: ChangelogLayer[]
  /** What `to` has and `from` lacks, newest first. */
  commits: ChangelogCommit[]
  /** What `from` has and `to` lacks; empty if `from` is an ancestor. */
  missing: ChangelogCommit[]
  packages: PackageChanges & {
    /** Whether both lists are known; without them the others are empty. */
    known: boolean
    manager: string | null
  }
  /** vlb.yaml. */
  config: FileChange | null
  /** Of the images, where that was asked for. */
  files?: ListedFile[]
  /** What a reader must know of the above, each with the command that helps. */
  notes: string[]
}
