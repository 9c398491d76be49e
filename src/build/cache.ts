// `git vlb cache ls`, `du` and `rm`: what the store holds, who needs it, and taking things out by hand.
import { printable, VlbError } from '../core/errors.ts'
import { byDepth, type Item, withAllAbove } from '../core/gc.ts'
import { short, snapshotId } from '../core/ids.ts'
import type { CacheEntry, CacheResult, KeptBy } from '../core/results-store.ts'
import { emptyGraves } from '../store/sweep.ts'
import { budgetOf } from './budget.ts'
import type { BuildContext } from './context.ts'
import { drop, gcLock, removedItem, sum } from './gc.ts'
import { type Inventory, takeInventory } from './inventory.ts'
import { repositoryName } from './wanted.ts'

type Result<Action> = Extract<CacheResult, { action: Action }>

export async function listStore(context: BuildContext, names: readonly string[], why: boolean): Promise<Result<'ls'>> {
  const inventory = await takeInventory(context)
  const wanted = names.length > 0 ? new Set(chosen(inventory, names).map(({ id }) => id)) : undefined
  const keepers = new Keepers(inventory)
  const snapshots = inventory.items
    .filter(({ kind, id }) => kind === 'snapshot' && (wanted === undefined || wanted.has(id)))
    .sort((a, b) => b.lastUse - a.lastUse || (a.name < b.name ? -1 : 1))
    .map((item) => entry(inventory, keepers, item))
  const { total } = inventory
  const store = context.store.root
  return { action: 'ls', store, snapshots, why, totalBytes: total, budgetBytes: budgetOf(context, total) ?? null }
}

function entry({ manifests }: Inventory, keepers: Keepers, item: Item): CacheEntry {
  const manifest = manifests.get(snapshotId(item.id))
  return {
    id: item.id,
    key: manifest?.key ?? item.id,
    layer: item.name,
    project: manifest?.project ?? '',
    bytes: Math.round(item.bytes),
    builtAt: manifest?.builtAt ?? '',
    lastUse: new Date(item.lastUse).toISOString(),
    state: item.used ? 'used' : item.rank,
    keptBy: keepers.of(item),
  }
}

/** Who keeps what, with those who keep what stands on it. */
class Keepers {
  readonly #inventory: Inventory
  readonly #above = new Map<string, Item[]>()

  constructor(inventory: Inventory) {
    this.#inventory = inventory
    for (const item of inventory.items) {
      if (item.below === undefined) continue
      const list = this.#above.get(item.below) ?? []
      list.push(item)
      this.#above.set(item.below, list)
    }
  }

  /** Its own; where it has none, or no process though it is in use, those of the nearest that stands on it. */
  of(item: Item): KeptBy[] {
    const own: KeptBy[] = this.#direct(item.id).map((kept) => ({ ...kept, above: null }))
    const isProcess = ({ kind }: { kind: KeptBy['kind'] }) => kind === 'process'
    if (item.used && !own.some(isProcess)) own.unshift(...this.#nearest(item, isProcess))
    if (item.rank === 'needed' && own.every(isProcess)) own.push(...this.#nearest(item, (kept) => !isProcess(kept)))
    return own
  }

  #nearest(item: Item, wanted: (kept: Omit<KeptBy, 'above'>) => boolean): KeptBy[] {
    const queue = [...(this.#above.get(item.id) ?? [])]
    for (const one of queue) {
      const found = this.#direct(one.id).filter(wanted)
      const above = { id: one.id, layer: one.name }
      if (found.length > 0) return found.map((kept) => ({ ...kept, above }))
      queue.push(...(this.#above.get(one.id) ?? []))
    }
    return []
  }

  #direct(id: string): Omit<KeptBy, 'above'>[] {
    const { uses, wanted } = this.#inventory
    const processes = uses
      .filter(({ names }) => names.has(id))
      .map(({ pid, what }) => ({ kind: 'process' as const, name: `${what} (pid ${pid})`.trim(), repository: '' }))
    const tips = [...(wanted.needed.get(snapshotId(id)) ?? [])].flatMap((number) => wanted.tips[number] ?? [])
    return [...processes, ...tips.map((tip) => ({ kind: tip.kind, name: tip.name, repository: repositoryName(tip) }))]
  }
}

/** Snapshots by the beginning of an id, a key or a content id, or all of a layer. */
function chosen({ items, manifests }: Inventory, names: readonly string[]): Item[] {
  return names.flatMap((name) => {
    const wanted = name.replace(/\/+$/, '')
    const found = items.filter(({ kind, id, name: layer }) => {
      if (kind !== 'snapshot') return false
      const manifest = manifests.get(snapshotId(id))
      if (layer === wanted || (/^\d+$/.test(wanted) && layer.startsWith(`${wanted}_`))) return true
      if (!/^[0-9a-f]{4,64}$/.test(wanted)) return false
      return [id, manifest?.key, manifest?.contentId].some((one) => one?.startsWith(wanted))
    })
    if (found.length > 0) return found
    throw new VlbError('VLB_LAYER_UNKNOWN', `the store holds nothing of "${printable(name)}"`, {
      hint: 'layers and keys that it holds: git vlb cache ls',
    })
  })
}

export async function diskUsage(context: BuildContext): Promise<Result<'du'>> {
  const { items, folders, total } = await takeInventory(context)
  const layers = new Map<string, { layer: string; snapshots: number; bytes: number }>()
  for (const { kind, name, bytes } of items) {
    if (kind !== 'snapshot') continue
    const one = layers.get(name) ?? { layer: name, snapshots: 0, bytes: 0 }
    layers.set(name, { ...one, snapshots: one.snapshots + 1, bytes: Math.round(one.bytes + bytes) })
  }
  return {
    action: 'du',
    store: context.store.root,
    layers: [...layers.values()].sort((a, b) => b.bytes - a.bytes),
    folders: [...folders]
      .map(([folder, bytes]) => ({ folder, bytes: Math.round(bytes) }))
      .sort((a, b) => b.bytes - a.bytes),
    totalBytes: Math.round(total),
    budgetBytes: budgetOf(context, total) ?? null,
  }
}

export interface RemoveRequest {
  names: readonly string[]
  all: boolean
  failed: boolean
  dryRun: boolean
}

/** What is asked for goes, with all that stands on it; nothing at all where some of that is in use. */
export async function removeFromStore(context: BuildContext, request: RemoveRequest): Promise<Result<'rm'>> {
  const { store } = context
  await store.prepare()
  const lock = await gcLock(context)
  try {
    const inventory = await takeInventory(context)
    const victims = withAllAbove(inventory.items, new Set(askedFor(inventory, request).map(({ id }) => id)))
    refuseUsed(inventory, victims)
    const gone = request.dryRun ? victims : await drop(context, inventory, victims)
    if (!request.dryRun) await emptyGraves(store)
    const left = victims.find((item) => !gone.includes(item))
    // Somebody began to use it just now.
    if (left) throw inUse(left, '', 'the others were removed')
    const removed = gone.map((item) => removedItem(item, inventory.manifests))
    return { action: 'rm', store: store.root, dryRun: request.dryRun, removed, freedBytes: sum(gone) }
  } finally {
    await lock.release()
  }
}

function askedFor(inventory: Inventory, { names, all, failed }: RemoveRequest): Item[] {
  if (all) return inventory.items
  const failures = failed ? inventory.items.filter(({ kind }) => kind === 'failure') : []
  return [...failures, ...chosen(inventory, names)]
}

function refuseUsed(inventory: Inventory, victims: readonly Item[]): void {
  // The topmost is what the other process works with.
  const used = byDepth(victims).find(({ item }) => item.used)?.item
  if (!used) return
  const { pid, what } = inventory.uses.find(({ names }) => names.has(used.id)) ?? { pid: 0, what: '' }
  throw inUse(used, pid > 0 ? ` by git vlb ${what} (pid ${pid})` : '')
}

function inUse({ kind, id, name }: Item, by = '', done = 'nothing was removed'): VlbError {
  const what = kind === 'snapshot' ? `the snapshot ${short(id)} of ${name}` : `the ${kind} ${name}`
  return new VlbError('VLB_IN_USE', `${what} is in use${by}`, {
    hint: `${done}; wait until that has ended; see: git vlb cache ls --why`,
  })
}
