// `git vlb cache verify`: reads what the store holds and compares it with what was noted when it was made. What is damaged
// is dropped, with all that stands on it, and will be built again.
import { existsSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { type Item, withAllAbove } from '../core/gc.ts'
import { type SnapshotId, short } from '../core/ids.ts'
import type { BaseRecord, Manifest } from '../core/manifest.ts'
import type { CacheResult, Damaged } from '../core/results-store.ts'
import { hashFile } from '../host/files.ts'
import { ToolError } from '../host/run.ts'
import { backingName, checkImage, inspectHeader } from '../image/qcow2.ts'
import { hasDigest } from '../store/digest.ts'
import { baseUse } from '../store/lease.ts'
import { baseFolder, baseReference, overlayName, snapshotReference } from '../store/places.ts'
import { emptyGraves } from '../store/sweep.ts'
import type { BuildContext } from './context.ts'
import { drop, gcLock, removedItem } from './gc.ts'
import { namesIn, readManifests, takeInventory } from './inventory.ts'

export interface VerifyOptions {
  /** Sizes, headers and what stands on what: no file is read whole. */
  quick: boolean
  dryRun: boolean
}

type Result = Extract<CacheResult, { action: 'verify' }>

export async function verifyStore(context: BuildContext, options: VerifyOptions): Promise<Result> {
  const started = Date.now()
  const { store } = context
  if (!options.dryRun) await store.prepare()
  const lock = options.dryRun ? undefined : await gcLock(context)
  try {
    const found = await new Verifier(context, options).run()
    const repair = options.dryRun ? { removed: [], left: found.damaged } : await dropDamaged(context, found.damaged)
    return {
      action: 'verify',
      store: store.root,
      ...options,
      ...found,
      ...repair,
      seconds: (Date.now() - started) / 1000,
      // What was dropped is repaired: the next build makes it anew.
      exitStatus: repair.left.length > 0 ? 4 : 0,
    }
  } finally {
    await lock?.release()
  }
}

type Found = Pick<Result, 'snapshots' | 'bases' | 'withoutDigest' | 'damaged'>

class Verifier {
  readonly #context: BuildContext
  readonly #quick: boolean
  #withoutDigest = 0

  constructor(context: BuildContext, { quick }: VerifyOptions) {
    this.#context = context
    this.#quick = quick
  }

  async run(): Promise<Found> {
    const { store } = this.#context
    const { manifests, unreadable } = readManifests(store)
    const damaged: Damaged[] = unreadable.map((id) => ({
      kind: 'snapshot',
      id,
      layer: '',
      reason: 'its manifest is unreadable',
    }))
    const bases = namesIn(store.path('bases'))
    const records = new Map<string, BaseRecord>()
    for (const folder of bases) {
      const record = await this.#base(folder)
      if (typeof record === 'string') damaged.push({ kind: 'base', id: folder, layer: folder, reason: record })
      else records.set(folder, record)
    }
    const total = [...manifests.values()].reduce((sum, { fileBytes }) => sum + fileBytes, 0)
    const task = 'verifying'
    const started = Date.now()
    let done = 0
    for (const manifest of manifests.values()) {
      const { id, layer } = manifest
      this.#context.signal.throwIfAborted()
      const reason = await this.#snapshot(manifest, manifests, records)
      if (reason !== undefined) damaged.push({ kind: 'snapshot', id, layer, reason })
      done += manifest.fileBytes
      if (!this.#quick) this.#context.emit({ type: 'progress', task, done, total })
    }
    if (!this.#quick && total > 0)
      this.#context.emit({ type: 'progress-ended', task, bytes: total, seconds: (Date.now() - started) / 1000 })
    const snapshots = manifests.size + unreadable.length
    return { snapshots, bases: bases.length, withoutDigest: this.#withoutDigest, damaged }
  }

  /** The record of a base, or what is wrong with it. */
  async #base(folder: string): Promise<BaseRecord | string> {
    const { store, signal } = this.#context
    let record: BaseRecord
    try {
      record = JSON.parse(await readFile(store.path('bases', folder, 'base.json'), 'utf8')) as BaseRecord
      if (baseFolder(record.digest) !== folder || /[/\0]/.test(record.file)) return 'its record is of another base'
    } catch {
      return 'its record is unreadable'
    }
    const file = store.path('bases', folder, record.file)
    const size = sizeOf(file)
    if (size !== record.fileBytes) return `it has ${size ?? 'no'} bytes instead of ${record.fileBytes}`
    if (this.#quick || record.sha256 === undefined) return record
    return (await hashFile(file, 'sha256', { signal })) === record.sha256 ? record : 'its bytes are not what they were'
  }

  async #snapshot(
    manifest: Manifest,
    all: ReadonlyMap<SnapshotId, Manifest>,
    bases: ReadonlyMap<string, BaseRecord>,
  ): Promise<string | undefined> {
    const { store, signal } = this.#context
    const overlay = store.path('snapshots', manifest.id, overlayName)
    const size = sizeOf(overlay)
    if (size === undefined) return 'its overlay is missing'
    if (size !== manifest.fileBytes) return `its overlay has ${size} bytes instead of ${manifest.fileBytes}`
    const reason = (await headerFault(overlay, manifest, bases)) ?? groundFault(manifest, all, bases)
    if (reason !== undefined || this.#quick) return reason
    try {
      if (manifest.digest) {
        return (await hasDigest(overlay, manifest.digest, signal)) ? undefined : 'its bytes are not what they were'
      }
      this.#withoutDigest++
      await checkImage(overlay, signal)
      return undefined
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof ToolError) return 'qemu-img finds it damaged'
      throw error
    }
  }
}

/** What a qcow2 says of itself must be what the manifest says. */
async function headerFault(
  overlay: string,
  manifest: Manifest,
  bases: ReadonlyMap<string, BaseRecord>,
): Promise<string | undefined> {
  const header = await inspectHeader(overlay)
  if (!header) return 'its overlay is no qcow2'
  if (header.size !== manifest.disk.size) return `its disk has ${header.size} bytes instead of ${manifest.disk.size}`
  if (header.dataFile || header.encrypted) return 'its overlay points to another file'
  const expected = expectedBacking(manifest, bases)
  const backing = header.backing ? await backingName(overlay) : undefined
  if (backing === expected || (expected === null && backing !== undefined)) return undefined
  return 'its overlay names another backing file than it was made on'
}

/** Null where the base that would say it is not there. */
function expectedBacking(
  { parent, base }: Manifest,
  bases: ReadonlyMap<string, BaseRecord>,
): string | null | undefined {
  if (parent !== undefined) return snapshotReference(parent).stored
  if (base === undefined) return undefined
  const record = bases.get(baseFolder(base))
  return record ? baseReference(base, record.file).stored : null
}

function groundFault(
  { parent, parentNonce, base }: Manifest,
  all: ReadonlyMap<SnapshotId, Manifest>,
  bases: ReadonlyMap<string, BaseRecord>,
): string | undefined {
  if (parent !== undefined) {
    const below = all.get(parent)
    if (!below) return `its parent ${short(parent)} is missing`
    if (below.nonce !== parentNonce) return `its parent ${short(parent)} is not the one it was built on`
  }
  if (base !== undefined && !bases.has(baseFolder(base))) return 'its base is missing or damaged'
  return undefined
}

/** With all that stands on it. */
async function dropDamaged(
  context: BuildContext,
  damaged: readonly Damaged[],
): Promise<Pick<Result, 'removed' | 'left'>> {
  if (damaged.length === 0) return { removed: [], left: [] }
  const { store } = context
  const inventory = await takeInventory(context)
  const idOf = ({ kind, id }: Damaged) => (kind === 'base' ? baseUse(id) : id)
  const victims = withAllAbove(inventory.items, new Set(damaged.map(idOf)))
  const gone: Item[] = await drop(context, inventory, victims)
  await emptyGraves(store)
  const ids = new Set(gone.map(({ id }) => id))
  return {
    removed: gone.map((item) => removedItem(item, inventory.manifests)),
    // Some may be gone by now without us: a build drops what it finds damaged, too.
    left: damaged.filter((one) => !ids.has(idOf(one)) && isThere(context, one)),
  }
}

function isThere({ store }: BuildContext, { kind, id }: Damaged): boolean {
  return existsSync(store.path(kind === 'base' ? 'bases' : 'snapshots', id))
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size
}
