// The words of a changelog, the same in all its forms. Plain text: each form escapes it in its own way.
import type { Changelog, ChangelogLayer, FileChange } from './changelog.ts'
import type { ListedFile } from './file-list.ts'
import { short } from './ids.ts'
import type { PackageChanges } from './package-changes.ts'
import type { Package } from './packages.ts'
import { formatBytes } from './units.ts'

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}

/** What became of a layer; `name` marks layer names. */
export function layerWords(layer: ChangelogLayer, name: (text: string) => string): string {
  const { change, edited, was, rebuilt } = layer
  const names = was.map(name).join(', ')
  const content = edited ? 'and changed' : rebuilt ? 'the same files, built again' : 'no change of content'
  switch (change) {
    case 'added':
    case 'removed':
    case 'changed':
      return change
    case 'renumbered':
    case 'renamed':
      return `${change}, was ${names}${edited ? ' ' : '; '}${content}`
    case 'moved':
      return `moved${names === '' ? '' : `, was ${names}`}${edited ? ' ' : '; '}${edited ? content : 'the same files in another place'}`
    case 'rolled-up':
      return `rolled up from ${names}${edited ? ' ' : ': '}${content}`
    case 'unrolled':
      return `taken out of ${names}${edited ? ' ' : ': '}${content}`
    case 'unchanged':
      return rebuilt ? content : 'unchanged'
  }
}

/** Layers of which there is something to tell. */
export function toldLayers({ layers }: Changelog): ChangelogLayer[] {
  return layers.filter(({ change, rebuilt }) => change !== 'unchanged' || rebuilt)
}

export function quietLayers({ layers }: Changelog): ChangelogLayer[] {
  return layers.filter(({ change, rebuilt }) => change === 'unchanged' && !rebuilt)
}

/** `+1.2 MiB`; '' where one of the two is not known. */
export function growth(from: number | null, to: number | null): string {
  if (from === null || to === null) return ''
  return to === from ? '±0' : `${to > from ? '+' : '−'}${formatBytes(Math.abs(to - from))}`
}

/** `2.0 MiB (+1.0 MiB)` */
export function sizeWords({ bytes: { from, to } }: ChangelogLayer): string {
  if (to === null) return from === null ? '' : `−${formatBytes(from)}`
  const change = growth(from, to)
  return formatBytes(to) + (change === '' || change === '±0' ? '' : ` (${change})`)
}

const order = ['changed', 'added', 'removed', 'renamed', 'renumbered', 'moved', 'rolled up', 'unrolled', 'built again']

/** `2 layers changed, 1 added · 3 packages upgraded · 4 commits by 2 people`. */
export function summary(data: Changelog): string[] {
  const { commits, packages } = data
  const counts = new Map<string, number>()
  for (const { change, edited, rebuilt } of toldLayers(data)) {
    const word = change === 'unchanged' && rebuilt ? 'built again' : change === 'rolled-up' ? 'rolled up' : change
    counts.set(word, (counts.get(word) ?? 0) + 1)
    if (edited && ['renamed', 'renumbered', 'moved', 'rolled-up', 'unrolled'].includes(change))
      counts.set('changed', (counts.get('changed') ?? 0) + 1)
  }
  const layers =
    listed(
      [...counts].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b)),
      'layer',
    ) || 'no layer changed'
  const how = (direction: string) => packages.upgraded.filter((one) => one.direction === direction).length
  const kinds: [string, number][] = [
    ['upgraded', how('upgraded')],
    ['downgraded', how('downgraded')],
    ['changed', how('changed')],
    ['added', packages.added.length],
    ['removed', packages.removed.length],
  ]
  const people = new Set(commits.map(({ author, email }) => `${author}\0${email}`)).size
  return [
    layers,
    packages.known ? listed(kinds, 'package') || 'the same packages' : 'packages not known',
    commits.length === 0
      ? 'no commits'
      : `${plural(commits.length, 'commit')} by ${plural(people, 'person', 'people')}`,
  ]
}

function listed(counts: readonly [string, number][], what: string): string {
  const [first, ...rest] = counts.filter(([, count]) => count > 0)
  if (!first) return ''
  return [`${plural(first[1], what)} ${first[0]}`, ...rest.map(([word, count]) => `${count} ${word}`)].join(', ')
}

export interface PackageRow {
  name: string
  /** Former name, or ''. */
  was: string
  /** '' where it is what all have. */
  arch: string
  /** '' for one that was not there before, or is not there now. */
  from: string
  to: string
  word: 'upgraded' | 'downgraded' | 'changed' | 'added' | 'removed'
}

/** All package changes, those to be told first apart. */
export function listedPackages({ upgraded, added, removed, major }: PackageChanges): {
  major: PackageRow[]
  rest: PackageRow[]
} {
  const row = ({ name, arch }: Package, from: string, to: string, word: PackageRow['word'], was = ''): PackageRow => ({
    name,
    was,
    arch: usualArchitectures.has(arch) ? '' : arch,
    from,
    to,
    word,
  })
  const rows = [
    ...upgraded.map((one) => row({ ...one, version: '' }, one.from, one.to, one.direction, one.was)),
    ...added.map((one) => row(one, '', one.version, 'added')),
    ...removed.map((one) => row(one, one.version, '', 'removed')),
  ]
  return {
    major: major.flatMap((name) => rows.filter((one) => one.name === name)),
    rest: rows.filter(({ name }) => !major.includes(name)),
  }
}

const usualArchitectures = new Set(['', 'all', 'noarch', 'any', 'amd64', 'x86_64', 'arm64', 'aarch64'])

/** What stands above the hunks of a file. */
export function fileWords({ change, mode, was, cut, patch, added, removed }: FileChange): string {
  const modes = mode ? `mode ${mode.from} → ${mode.to}` : ''
  const lines = patch === undefined ? '' : `+${added} −${removed}`
  return [change, was ? `was ${was}` : '', modes, lines, cut ?? ''].filter((text) => text !== '').join(', ')
}

export function day(date: string): string {
  return date.slice(0, 10)
}

/** `a b c and 12 more` */
export function firstOf(words: readonly string[], limit: number): string {
  const left = words.length - limit
  return words.slice(0, limit).join(' ') + (left > 0 ? ` and ${left} more` : '')
}

export function shortCommit(id: string): string {
  return short(id).slice(0, 8)
}

/** Text of a file as it can be shown: control characters made visible, and none that reorder what is read. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => {
    if (c === '\n' || c === '\t') return c
    const code = c.codePointAt(0) ?? 0
    return code < 32 ? String.fromCodePoint(0x2400 + code) : '\ufffd'
  })
}

/** `3 files changed, 1 added; +1.2 MiB`. */
export function listSummary(files: readonly ListedFile[]): string {
  const count = (word: string) => files.filter(({ change }) => change === word).length
  const kinds = ['changed', 'added', 'removed', 'renamed'].map((word): [string, number] => [word, count(word)])
  const bytes = files.reduce((sum, { before, after }) => sum + (after?.size ?? 0) - (before?.size ?? 0), 0)
  return `${listed(kinds, 'file') || 'all files are the same'}${bytes === 0 ? '' : `; ${growth(0, bytes)}`}`
}

/** What became of a file of the image. */
export function listedWords({ change, from, what, before, after }: ListedFile): string {
  const size = growthOf(before?.size, after?.size)
  // The size says it.
  const aspects = change === 'changed' ? what.filter((aspect) => aspect !== 'content' && aspect !== 'size') : []
  return [change, from === undefined ? '' : `was ${from}`, ...aspects, size].filter((text) => text !== '').join(', ')
}

function growthOf(from: number | undefined, to: number | undefined): string {
  if (from === undefined || to === undefined || from === to) return to === undefined ? '' : formatBytes(to)
  return `${formatBytes(from)} → ${formatBytes(to)}`
}
