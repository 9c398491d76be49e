// The store on disk: bases, snapshots, locks, caches. Whatever has its final name is complete: it was written in
// tmp/, flushed and renamed.
//
// Overlays name their backing files relative to themselves, so a store can be moved. qemu puts such a name behind the
// folder of the overlay and never shortens the result: over a chain the paths would grow by a folder name for each layer
// and at some 50 layers exceed what the kernel takes (PATH_MAX). So snapshots are opened by way of chain/, where a link
// stands for each and the next one's name holds no folder.
import { createHash } from 'node:crypto'
import { closeSync, existsSync, openSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs'
import { chmod, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { type LayerKey, type SnapshotId, snapshotId } from '../core/ids.ts'
import { type Manifest, manifestText, parseManifest } from '../core/manifest.ts'
import { explainWriteError, shareWithGroup, sync, syncFolder, writeAtomic } from '../host/files.ts'
import { isLocked, type Lock, takeLock, tryLock } from '../host/lock.ts'
import { removeElsewhere } from '../host/run.ts'
import { Scratch, sweepScratch } from '../host/scratch.ts'
import { tablesDigest } from '../host/tables.ts'
import { damageOf, lookInto } from './damage.ts'
import { layOut } from './layout.ts'
import { Lease } from './lease.ts'
import { baseFolder, logName, overlayName } from './places.ts'
import { type RegisteredProject, register } from './registry.ts'
import type { Damage, Snapshot, Store } from './store.ts'

export class LocalStore implements Store {
  readonly root: string
  readonly scratch: Scratch
  readonly lease: Lease
  /** Digests of bases that are there, but not to be used any more. */
  readonly damagedBases = new Set<string>()
  /** Whether something was put into it. */
  grown = false
  readonly #project: RegisteredProject | undefined
  /** What this process has looked into, and what it dropped. */
  readonly #sound = new Set<SnapshotId>()
  readonly #dropped = new Set<SnapshotId>()

  /** `project` is what the store is used for: as soon as something is written, the store knows of it. */
  constructor(root: string, project?: RegisteredProject) {
    this.root = root
    this.scratch = new Scratch(join(root, 'tmp'))
    this.lease = new Lease(root)
    this.#project = project
  }

  path(...parts: string[]): string {
    return join(this.root, ...parts)
  }

  /** Makes the folders of a new store and clears up after runs that were cut off. For commands that write. */
  async prepare(): Promise<void> {
    try {
      await layOut(this.root, (path, text) => this.write(path, text))
      if (this.#project) await register(this.root, this.#project, (path, text) => this.write(path, text))
    } catch (error) {
      throw explainWriteError(error, this.root)
    }
    await sweepScratch(this.path('tmp'))
    await this.buryDropped()
  }

  /** Has what was dropped removed from the disk, which nobody waits for. */
  async buryDropped(): Promise<void> {
    const graves = await readdir(this.path('graves'))
    if (graves.length > 0) removeElsewhere(graves.map((name) => this.path('graves', name)))
  }

  async find(key: LayerKey, onDamage: (damage: Damage) => void): Promise<Snapshot | undefined> {
    const id = this.#currentId(key)
    const manifest = this.#manifest(id)
    if (manifest === undefined) return undefined
    if (manifest === 'unreadable') {
      onDamage({ key, layer: '', reason: 'its manifest is unreadable', above: await this.#drop(id) })
      return undefined
    }
    if (manifest.key !== key && (id as string) !== key) {
      // Not the snapshot, but what says that it is this key's is wrong.
      await rm(this.path('keys', key), { force: true })
      return await this.find(key, onDamage)
    }
    const reason = manifest.key !== key ? 'its manifest is about another' : this.#damageOf(manifest)
    if (reason === undefined) return await this.#snapshot(manifest)
    onDamage({ key, layer: manifest.layer, reason, above: await this.#drop(id) })
    return undefined
  }

  /**
   * Looks into snapshots that are going to be read, once for each: what is damaged is dropped, and `onDamage` told. False if
   * any was. `whole`: all bytes of them, however often they were looked into.
   */
  async areSound(
    ids: readonly SnapshotId[],
    onDamage: (damage: Damage) => void,
    how: 'tables' | 'whole' = 'tables',
  ): Promise<boolean> {
    const wanted = ids.filter((id) => how === 'whole' || !this.#sound.has(id))
    const reasons = await Promise.all(
      wanted.map(async (id) => {
        const manifest = this.#manifest(id)
        if (manifest === undefined) return undefined
        if (manifest === 'unreadable')
          return { id, key: id as string as LayerKey, layer: '', reason: 'its manifest is unreadable' }
        const reason = await lookInto(this.path('snapshots', id), manifest, how)
        if (reason === undefined) this.#sound.add(id)
        return reason === undefined ? undefined : { id, key: manifest.key, layer: manifest.layer, reason }
      }),
    )
    for (const damage of reasons) {
      // It may have gone with one that it stands on.
      if (damage && this.#manifest(damage.id) !== undefined) onDamage({ ...damage, above: await this.#drop(damage.id) })
    }
    return reasons.every((reason) => reason === undefined)
  }

  async get(id: SnapshotId): Promise<Snapshot | undefined> {
    const manifest = this.#manifest(id)
    return manifest === undefined || manifest === 'unreadable' ? undefined : await this.#snapshot(manifest)
  }

  /**
   * From now on these stay, with all that they stand on, until we end: true if they are still there. Whoever plans with
   * snapshots and then uses them holds them in between, and plans anew where one is gone.
   */
  async hold(ids: readonly SnapshotId[], signal: AbortSignal): Promise<boolean> {
    await this.lease.add(ids, signal)
    return ids.every((id) => sizeOf(this.path('snapshots', id, 'manifest.json')) !== undefined)
  }

  /** Remembers that they were used, for the order in which gc drops snapshots. */
  touch(ids: readonly SnapshotId[]): void {
    for (const id of ids) {
      const file = this.path('used', id)
      try {
        // An empty file that is cut to nothing is as good as new (open(2), O_TRUNC).
        closeSync(openSync(file, 'w', 0o664))
      } catch {
        // Another user's, or a store that can only be read.
        renew(file)
      }
    }
  }

  /** Makes its name in chain/ if need be: qemu would follow another link to another disk. */
  async #snapshot(manifest: Manifest): Promise<Snapshot> {
    const file = this.path('chain', `${manifest.id}.qcow2`)
    const target = `../snapshots/${manifest.id}/${overlayName}`
    const there = linkOf(file)
    if (there !== target) {
      const made = await this.scratch.file()
      await symlink(target, made)
      await rename(made, file)
    }
    return { manifest, file, log: this.path('snapshots', manifest.id, logName) }
  }

  // What follows reads synchronously: some small files for each layer of a chain, one after the other. A turn through
  // the thread pool takes longer than each of them.

  /** A key that was built again points to its newest snapshot; the first lies under the key itself. */
  #currentId(key: LayerKey): SnapshotId {
    try {
      const text = readFileSync(this.path('keys', key), 'utf8').trim()
      if (/^[0-9a-f]{64}$/.test(text)) return snapshotId(text)
    } catch {
      // There is one only for a key that was built again.
    }
    return snapshotId(key)
  }

  #manifest(id: SnapshotId): Manifest | 'unreadable' | undefined {
    try {
      const text = readFileSync(this.path('snapshots', id, 'manifest.json'), 'utf8')
      const manifest = parseManifest(text)
      return manifest?.id === id ? manifest : 'unreadable'
    } catch (error) {
      if (hasErrorCode(error, 'ENOENT', 'ENOTDIR')) return undefined
      throw error
    }
  }

  #damageOf(manifest: Manifest): string | undefined {
    const parent = manifest.parent === undefined ? undefined : this.#manifest(manifest.parent)
    const reason = damageOf(this.path('snapshots', manifest.id), manifest, parent)
    if (reason !== undefined) return reason
    if (manifest.base !== undefined && sizeOf(this.path('bases', baseFolder(manifest.base))) === undefined)
      return 'its base is missing'
    return undefined
  }

  /** With all that stands on it, those on top first; returns how many that were. */
  async #drop(id: SnapshotId): Promise<number> {
    if (this.#dropped.has(id)) {
      throw new VlbError('VLB_STORE_DAMAGED', `the snapshot ${id} was damaged again as soon as it was built`, {
        hint: `does the disk under ${this.root} give back what is written to it? see: dmesg | tail`,
      })
    }
    const all = await this.list()
    const doomed = new Set([id])
    for (let size = 0; size !== doomed.size; ) {
      size = doomed.size
      for (const { id: one, parent } of all) if (parent !== undefined && doomed.has(parent)) doomed.add(one)
    }
    for (const one of [...doomed].reverse()) {
      await this.bury(this.path('snapshots', one))
      this.#sound.delete(one)
    }
    this.#dropped.add(id)
    return doomed.size - 1
  }

  /** Removes a folder by way of tmp/, so that a half-removed one is never seen under its name. */
  async bury(folder: string): Promise<void> {
    if (!existsSync(folder)) return
    const grave = await this.scratch.file()
    await rename(folder, grave).catch((error: unknown) => {
      if (!hasErrorCode(error, 'ENOENT')) throw error
    })
    await rm(grave, { recursive: true, force: true })
  }

  /** Writes a small file of the store: complete or not at all, and on disk when this returns. */
  async write(path: readonly string[], text: string): Promise<void> {
    // A look at a project writes down the digest of its base, before there is anything else.
    if (!existsSync(this.path('tmp'))) await mkdir(this.path('tmp'), { recursive: true })
    await writeAtomic(this.path(...path), text, await this.scratch.file())
  }

  async put(staging: string, manifest: Manifest): Promise<Snapshot> {
    this.grown = true
    await this.lease.add([manifest.id], new AbortController().signal)
    const overlay = join(staging, overlayName)
    // Whoever writes to a snapshot by mistake breaks all that stand on it.
    await chmod(overlay, 0o444)
    const tables = await tablesDigest(overlay)
    await writeFile(join(staging, 'manifest.json'), manifestText({ ...manifest, tables }), { flag: 'wx' })
    await shareWithGroup(staging)
    await syncFolder(staging)
    // Left by later builds of the key that are gone by now: it would hide the one that comes.
    if (manifest.id === (manifest.key as string)) await rm(this.path('keys', manifest.key), { force: true })
    const folder = this.path('snapshots', manifest.id)
    await rename(staging, folder).catch(async (error: unknown) => {
      if (!hasErrorCode(error, 'ENOTEMPTY', 'EEXIST')) throw error
      // A folder that holds no manifest: somebody meddled with it.
      await this.#drop(manifest.id)
      await rename(staging, folder)
    })
    await sync(this.path('snapshots'))
    if (manifest.id !== (manifest.key as string)) await this.write(['keys', manifest.key], `${manifest.id}\n`)
    await this.bury(this.path('failed', manifest.key))
    return await this.#snapshot({ ...manifest, tables })
  }

  async list(): Promise<Manifest[]> {
    const manifests: Manifest[] = []
    for (const id of await readdir(this.path('snapshots')).catch(() => [])) {
      const manifest = this.#manifest(snapshotId(id))
      if (manifest && manifest !== 'unreadable') manifests.push(manifest)
    }
    return manifests
  }

  async lock(name: string, signal: AbortSignal, onWait: (pid: number) => void): Promise<Lock> {
    return await takeLock(this.path('locks', name), signal, onWait)
  }

  /**
   * A persistent folder for what scripts download, by name. It is the caller's alone while it holds the lock; without a
   * lock, somebody else is at it.
   */
  async borrowCache(name: string, signal: AbortSignal): Promise<{ folder: string; lock: Lock | undefined }> {
    const id = createHash('sha256').update(name).digest('hex').slice(0, 32)
    const folder = this.path('caches', id)
    await mkdir(folder, { recursive: true })
    await shareWithGroup(folder, 'alone')
    return { folder, lock: await tryLock(this.path('locks', `cache-${id}`), signal) }
  }

  async isBuilding(key: LayerKey): Promise<boolean> {
    const file = this.path('locks', key)
    return sizeOf(file) !== undefined && (await isLocked(file))
  }
}

/** Where a link leads; undefined where there is none. */
function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}

function renew(file: string): void {
  try {
    rmSync(file)
    closeSync(openSync(file, 'w', 0o664))
  } catch {
    // Nothing hangs on it.
  }
}

/** Undefined where there is nothing that can be read. */
function sizeOf(path: string): number | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false })?.size
  } catch {
    return undefined
  }
}
