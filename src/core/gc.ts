// Which things of a store go, and in which order, until it holds no more than it may.
import { printable, VlbError } from './errors.ts'
import { parseSize } from './units.ts'

/** Why something is kept as long as possible, in rising order. */
export const ranks = ['unneeded', 'recorded', 'needed'] as const
export type Rank = (typeof ranks)[number]

export interface Item {
  kind: 'snapshot' | 'base' | 'failure' | 'cache' | 'download'
  id: string
  /** For people: a layer, a file. */
  name: string
  bytes: number
  /** In milliseconds. */
  lastUse: number
  rank: Rank
  /** A process that runs uses it. */
  used: boolean
  /** Id of the item that it stands on. */
  below?: string | undefined
}

/** The same, with what stands on each counted for it: an ancestor of a needed leaf is needed. */
export function inherit(items: readonly Item[]): Item[] {
  const all = new Map(items.map((item) => [item.id, { ...item }]))
  for (const { item } of byDepth([...all.values()])) {
    const below = item.below === undefined ? undefined : all.get(item.below)
    if (!below) continue
    below.used ||= item.used
    below.lastUse = Math.max(below.lastUse, item.lastUse)
    if (ranks.indexOf(item.rank) > ranks.indexOf(below.rank)) below.rank = item.rank
  }
  return [...all.values()]
}

/** Leaves before what they stand on. */
export function byDepth(items: readonly Item[]): { item: Item; depth: number }[] {
  const all = new Map(items.map((item) => [item.id, item]))
  const depths = new Map<string, number>()
  const depthOf = (start: Item): number => {
    const path: Item[] = []
    // Manifests come from disk: one that stands on itself must not keep us here.
    const seen = new Set<string>()
    let item: Item | undefined = start
    while (item && !depths.has(item.id) && !seen.has(item.id)) {
      seen.add(item.id)
      path.push(item)
      item = item.below === undefined ? undefined : all.get(item.below)
    }
    let depth = item ? (depths.get(item.id) ?? -1) : -1
    for (const one of path.reverse()) depths.set(one.id, ++depth)
    return depths.get(start.id) ?? 0
  }
  return items.map((item) => ({ item, depth: depthOf(item) })).sort((a, b) => b.depth - a.depth)
}

export interface Limit {
  /** What all of the store takes, more than the items. */
  total: number
  /** Undefined: none. */
  budget: number | undefined
  /** Once over the budget, what nothing needs any more goes until there is no more than this. Default: the budget. */
  goal?: number
  /** What nothing needs goes even if there is room. */
  prune: boolean
}

/**
 * What is to go, in that order: by rank, then by last use, leaves first. What is used stays, with all that it stands on.
 * `items` come from `inherit`: what is below another one has at least its rank and last use, so it comes behind it.
 */
export function chooseVictims(items: readonly Item[], { total, budget, prune, goal = budget }: Limit): Item[] {
  const order = byDepth(items.filter(({ used }) => !used)).sort(
    (a, b) => ranks.indexOf(a.item.rank) - ranks.indexOf(b.item.rank) || a.item.lastUse - b.item.lastUse,
  )
  const victims: Item[] = []
  let left = total
  for (const { item } of order) {
    const limit = total > (budget ?? total) && item.rank !== 'needed' ? goal : budget
    const over = limit !== undefined && left > limit
    if (!over && !(prune && item.rank === 'unneeded')) break
    victims.push(item)
    left -= item.bytes
  }
  return victims
}

/** Those of the given ids with all that stands on them, leaves first. */
export function withAllAbove(items: readonly Item[], ids: ReadonlySet<string>): Item[] {
  const taken = new Set(ids)
  const order = byDepth(items).reverse()
  for (const { item } of order) if (item.below !== undefined && taken.has(item.below)) taken.add(item.id)
  return order
    .map(({ item }) => item)
    .filter(({ id }) => taken.has(id))
    .reverse()
}

/** `vlb.budget` or `--budget`: bytes; `none` for no limit, as undefined. Throws VLB_USAGE. */
export function parseBudget(text: string, name: '--budget' | 'vlb.budget'): number | undefined {
  if (text === 'none') return undefined
  const bytes = /^0+$/.test(text) ? 0 : parseSize(text)
  if (bytes !== undefined) return bytes
  throw new VlbError('VLB_USAGE', `${name} takes a size such as 20G, or none, not "${printable(text, 80)}"`, {
    hint: name === 'vlb.budget' ? 'git config vlb.budget 20G' : 'git vlb gc --budget 20G',
  })
}

/** Where nobody set one: a quarter of what the disk would have free without the store. */
export function defaultBudget(free: number, held: number): number {
  return Math.floor((free + held) / 4)
}
