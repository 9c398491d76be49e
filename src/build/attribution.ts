// Which layers each commit touched, by the names that the changelog gives them.
import type { ChangelogCommit, LayerChange } from '../core/changelog.ts'
import { configFile } from '../core/config.ts'
import type { Commit } from '../git/commits.ts'
import { isLayerLike } from './sides.ts'

/** Commits that touched nothing of what makes the image are left out. */
export function attribute(
  history: readonly Commit[],
  prefix: string,
  changes: readonly LayerChange[],
): { from: ChangelogCommit[]; to: ChangelogCommit[] } {
  const own = (path: string) =>
    prefix === '' ? path : path.startsWith(`${prefix}/`) ? path.slice(prefix.length + 1) : ''
  const places = placesOf(changes)
  const aliases = aliasesOf(history, own, places)
  const included = new Set(
    changes.flatMap(({ pairs }) =>
      pairs.flatMap(({ from, to }) => Object.keys({ ...from?.includes, ...to?.includes })),
    ),
  )
  const result: { from: ChangelogCommit[]; to: ChangelogCommit[] } = { from: [], to: [] }
  for (const { id, author, email, date, subject, rollup, side, paths } of history) {
    const touched = new Set(paths.flatMap((path) => touchedBy(own(path), places, aliases, included)))
    if (touched.size === 0 && rollup === '') continue
    const trailer = rollup === '' ? {} : { rollup }
    result[side].push({ commit: id, author, email, date, subject, touched: [...touched].sort(), ...trailer })
  }
  return result
}

/** By folder below the project's: what the changelog calls the layers that are or were there. */
type Places = Map<string, string[]>

function placesOf(changes: readonly LayerChange[]): Places {
  const places: Places = new Map()
  const add = (folder: string, name: string) => {
    const names = places.get(folder) ?? []
    if (!names.includes(name)) places.set(folder, [...names, name])
  }
  for (const { name, was, pairs, change } of changes) {
    for (const { from, to } of pairs) for (const step of [from, to]) if (step) add(step.path, name)
    // A folder of its own, not a part of the rolled-up one it came from.
    if (change !== 'unrolled') for (const folder of [name, ...was]) add(folder, name)
  }
  return places
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.indexOf('/')))
}

/** Names that a layer had for a while between the two revisions: what it was renamed from or to. */
function aliasesOf(history: readonly Commit[], own: (path: string) => string, places: Places): Map<string, string[]> {
  const next = new Map<string, Set<string>>()
  for (const { from, to } of history.flatMap(({ renames }) => renames)) {
    const [a, b] = [folderOf(own(from)), folderOf(own(to))]
    if (a === b || !isLayerLike(a) || !isLayerLike(b)) continue
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const)
      next.set(one, (next.get(one) ?? new Set()).add(other))
  }
  const aliases = new Map<string, string[]>()
  for (const start of next.keys()) {
    if (places.has(start)) continue
    const seen = new Set([start])
    for (const folder of seen) {
      // Beyond a name that is known, it is that layer's own story.
      if (!places.has(folder)) for (const other of next.get(folder) ?? []) seen.add(other)
    }
    aliases.set(
      start,
      [...seen].flatMap((folder) => places.get(folder) ?? []),
    )
  }
  return aliases
}

function touchedBy(
  path: string,
  places: Places,
  aliases: ReadonlyMap<string, string[]>,
  included: ReadonlySet<string>,
): string[] {
  if (path === configFile) return [configFile]
  for (let folder = path; folder.includes('/'); ) {
    folder = folder.slice(0, folder.lastIndexOf('/'))
    const names = places.get(folder)
    if (names) return names
  }
  const folder = folderOf(path)
  if (isLayerLike(folder)) return aliases.get(folder)?.length ? (aliases.get(folder) ?? []) : [folder]
  return [...included].filter((one) => path === one || path.startsWith(`${one}/`))
}
