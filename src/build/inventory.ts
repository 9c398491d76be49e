// All that a store holds, as things that can be dropped: what each takes, what it stands on, and who needs it.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Item, inherit, type Rank } from '../core/gc.ts'
import { type SnapshotId, snapshotId } from '../core/ids.ts'
import { type BaseRecord, type Manifest, parseManifest } from '../core/manifest.ts'
import type { ImageRecord } from '../store/images.ts'
import { baseUse, failureUse, readLeases, type Use } from '../store/lease.ts'
import type { LocalStore } from '../store/local.ts'
import { baseFolder, overlayName } from '../store/places.ts'
import { bytesBelow, measure } from '../store/usage.ts'
import { snapshotBehind } from './behind.ts'
import type { BuildContext } from './context.ts'
import { findWanted, type Stock, type Tip, type Wanted } from './wanted.ts'

export interface Inventory {
  /** What stands on each counts for it. */
  items: Item[]
  manifests: Map<SnapshotId, Manifest>
  wanted: Wanted
  uses: Use[]
  /** Bytes by folder of the store. */
  folders: Map<string, number>
  total: number
}

/** Ids of items: those of snapshots are their own; of others the kind stands in front, as leases have it. */
export const cacheId = (name: string): string => `cache ${name}`
export const downloadId = (name: string): string => `download ${name}`

export async function takeInventory(context: BuildContext): Promise<Inventory> {
  const { store } = context
  const { manifests, unreadable } = readManifests(store)
  const bases = await readBases(store)
  const stock: Stock = { manifests: [...manifests.values()], current: currentOf(store, manifests), bases }
  const wanted = await findWanted(context, stock)
  await addImages(store, wanted)
  const uses = await readLeases(store.root)
  const usedNames = new Set(uses.flatMap(({ names }) => [...names]))
  const folders = measure(store.root)
  const snapshots = stock.manifests.map((manifest) => snapshotItem(store, manifest, wanted))
  const broken = unreadable.map((id) => ({ ...snapshotBase(store, id), name: '(damaged)', rank: 'unneeded' as const }))
  const others = [...baseItems(store, bases, wanted), ...(await failureItems(store)), ...lesserItems(store)]
  const items = [...snapshots, ...broken, ...others].map((item) => ({ ...item, used: usedNames.has(item.id) }))
  const total = [...folders.values()].reduce((sum, bytes) => sum + bytes, 0)
  return { items: inherit(items), manifests, wanted, uses, folders, total }
}

/** Synchronously: some small files for each snapshot, one after the other. */
export function readManifests(store: LocalStore): { manifests: Map<SnapshotId, Manifest>; unreadable: SnapshotId[] } {
  const manifests = new Map<SnapshotId, Manifest>()
  const unreadable: SnapshotId[] = []
  for (const name of namesIn(store.path('snapshots'))) {
    const id = snapshotId(name)
    const manifest = parseManifest(textOf(store.path('snapshots', name, 'manifest.json')))
    if (manifest?.id === id) manifests.set(id, manifest)
    else unreadable.push(id)
  }
  return { manifests, unreadable }
}

/** A key that was built again names its newest snapshot in keys/; else it is the first, under the key itself. */
function currentOf(store: LocalStore, manifests: ReadonlyMap<SnapshotId, Manifest>): Set<SnapshotId> {
  const pointers = new Map(namesIn(store.path('keys')).map((key) => [key, textOf(store.path('keys', key)).trim()]))
  const current = [...manifests.values()].filter(({ id, key }) => (pointers.get(key) ?? key) === (id as string))
  return new Set(current.map(({ id }) => id))
}

async function readBases(store: LocalStore): Promise<BaseRecord[]> {
  const records: BaseRecord[] = []
  for (const folder of namesIn(store.path('bases'))) {
    try {
      const record = JSON.parse(await readFile(store.path('bases', folder, 'base.json'), 'utf8')) as BaseRecord
      if (baseFolder(record.digest) === folder) records.push(record)
    } catch {
      // Not to be told from what a crash left: nobody finds it.
    }
  }
  return records
}

/** Image files that stand on a snapshot need it, as long as they are there. */
async function addImages(store: LocalStore, wanted: Wanted): Promise<void> {
  for (const { path } of imageRecords(store)) {
    const id = path === undefined ? undefined : await snapshotBehind(store, path)
    if (id === undefined || path === undefined) continue
    const tip: Tip = { kind: 'image', name: path, repository: '', prefix: '' }
    wanted.needed.set(id, (wanted.needed.get(id) ?? new Set()).add(wanted.tips.push(tip) - 1))
  }
}

export function imageRecords(store: LocalStore): (Partial<ImageRecord> & { file: string })[] {
  return namesIn(store.path('images')).map((name) => {
    const file = store.path('images', name)
    return { ...(parse(textOf(file)) as Partial<ImageRecord>), file }
  })
}

function snapshotBase(store: LocalStore, id: string): Omit<Item, 'name' | 'rank'> {
  const folder = store.path('snapshots', id)
  return { kind: 'snapshot', id, bytes: bytesBelow(folder), lastUse: lastUseOf(store, id, folder), used: false }
}

/** When a build found it last, else when it was made. */
function lastUseOf(store: LocalStore, id: string, folder: string): number {
  return Math.max(changedAt(store.path('used', id)), changedAt(join(folder, 'manifest.json')))
}

function snapshotItem(store: LocalStore, { id, layer, parent, base }: Manifest, wanted: Wanted): Item {
  const rank: Rank = wanted.needed.has(id) ? 'needed' : wanted.recorded.has(id) ? 'recorded' : 'unneeded'
  const below = parent ?? (base === undefined ? undefined : baseUse(baseFolder(base)))
  return { ...snapshotBase(store, id), name: layer, rank, below }
}

function baseItems(store: LocalStore, bases: readonly BaseRecord[], wanted: Wanted): Item[] {
  const records = new Map(bases.map((record) => [baseFolder(record.digest), record]))
  return namesIn(store.path('bases')).map((folder) => {
    const record = records.get(folder)
    const needed = record !== undefined && wanted.bases.has(record.digest)
    return {
      kind: 'base',
      id: baseUse(folder),
      name: record?.source ?? folder,
      bytes: bytesBelow(store.path('bases', folder)),
      lastUse: changedAt(store.path('bases', folder)),
      rank: needed ? 'needed' : 'unneeded',
      used: false,
    }
  })
}

/** Disks of failed builds. Who asked to keep one has it as long as there is room. */
async function failureItems(store: LocalStore): Promise<Item[]> {
  const items: Item[] = []
  for (const key of namesIn(store.path('failed'))) {
    const folder = store.path('failed', key)
    const overlay = join(folder, overlayName)
    if (changedAt(overlay) === 0) continue
    const { layer, keep } = parse(textOf(join(folder, 'failure.json'))) as { layer?: string; keep?: boolean }
    items.push({
      kind: 'failure',
      id: failureUse(key),
      name: layer ?? '',
      bytes: bytesBelow(overlay),
      lastUse: changedAt(overlay),
      rank: keep === true ? 'needed' : 'unneeded',
      used: false,
      below: await snapshotBehind(store, overlay),
    })
  }
  return items
}

/** What makes builds quicker, and no more. */
function lesserItems(store: LocalStore): Item[] {
  const of = (kind: 'cache' | 'download', folder: string, idOf: (name: string) => string): Item[] =>
    namesIn(store.path(folder)).map((name) => {
      const path = store.path(folder, name)
      const bytes = bytesBelow(path)
      return { kind, id: idOf(name), name, bytes, lastUse: newestBelow(path), rank: 'unneeded', used: false }
    })
  return [...of('cache', 'caches', cacheId), ...of('download', 'downloads', downloadId)]
}

/** A folder changes when something is put into it, and so do those above what a package manager fetches. */
function newestBelow(path: string, depth = 2): number {
  const own = changedAt(path)
  if (depth === 0) return own
  return Math.max(own, ...namesIn(path).map((name) => newestBelow(join(path, name), depth - 1)))
}

export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** 0 where nothing is. */
export function changedAt(path: string): number {
  try {
    return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
  } catch {
    return 0
  }
}

export function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function parse(text: string): object {
  try {
    const data: unknown = JSON.parse(text)
    return typeof data === 'object' && data !== null ? data : {}
  } catch {
    return {}
  }
}
