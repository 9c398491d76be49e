// Removes things from a store. First each goes out of sight by a rename, what stands on others before those, so that
// wherever this is cut off, what is left is whole; then, when nobody waits any more, the bytes go. Whatever lies in graves/ is
// on its way out: should nobody be at it any more, the next command goes on with it.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'
import { byDepth, type Item } from '../core/gc.ts'
import { explainWriteError } from '../host/files.ts'
import { type Lock, tryLock } from '../host/lock.ts'
import { type Use, whileSweeping } from './lease.ts'
import type { LocalStore } from './local.ts'
import { overlayName } from './places.ts'

/** Moves the items to a grave, but for those that are in use by now, and what these stand on. Returns what went. */
export async function sweep(
  store: LocalStore,
  victims: readonly Item[],
  all: readonly Item[],
  signal: AbortSignal,
): Promise<Item[]> {
  if (victims.length === 0) return []
  const grave = store.path('graves', `${process.pid}-${randomBytes(4).toString('hex')}`)
  const gone: Item[] = []
  try {
    await mkdir(grave, { recursive: true })
    await whileSweeping(store.root, signal, async (uses, held) => {
      const used = usedBy(uses, all)
      for (const item of victims) {
        held.throwIfAborted()
        if (used.has(item.id)) continue
        if (await bury(store, item, join(grave, String(gone.length)), signal)) gone.push(item)
        // What it stands on cannot go before it.
        else keepBelow(item, all, used)
      }
    })
  } catch (error) {
    throw explainWriteError(error, store.root)
  }
  return gone
}

/** What is used, with all that it stands on. */
export function usedBy(uses: readonly Use[], all: readonly Item[]): Set<string> {
  const used = new Set(uses.flatMap(({ names }) => [...names]))
  for (const { item } of byDepth(all)) if (used.has(item.id) && item.below !== undefined) used.add(item.below)
  return used
}

function keepBelow(item: Item, all: readonly Item[], used: Set<string>): void {
  used.add(item.id)
  for (const { item: one } of byDepth(all)) if (used.has(one.id) && one.below !== undefined) used.add(one.below)
}

async function bury(store: LocalStore, item: Item, grave: string, signal: AbortSignal): Promise<boolean> {
  const name = item.id.slice(item.id.indexOf(' ') + 1)
  switch (item.kind) {
    case 'snapshot':
      if (!(await moveAway(store.path('snapshots', item.id), grave))) return false
      await forget(store, item.id)
      return true
    case 'base':
      return await moveAway(store.path('bases', name), grave)
    case 'failure':
      // Its log stays: that is what people look at.
      return await moveAway(store.path('failed', name, overlayName), grave)
    case 'cache':
      return await whileLocked(store, `cache-${name}`, signal, () => moveAway(store.path('caches', name), grave))
    case 'download':
      return await whileLocked(store, `base-${name.replace(/\.part$/, '')}`, signal, () =>
        moveAway(store.path('downloads', name), grave),
      )
  }
}

/** False where somebody else has the lock, and with it the use of what it stands for. */
async function whileLocked(
  store: LocalStore,
  name: string,
  signal: AbortSignal,
  work: () => Promise<boolean>,
): Promise<boolean> {
  const lock: Lock | undefined = await tryLock(store.path('locks', name), signal)
  if (!lock) return false
  try {
    return await work()
  } finally {
    await lock.release()
  }
}

/** Also true where it is gone already. */
async function moveAway(path: string, grave: string): Promise<boolean> {
  try {
    await rename(path, grave)
    return true
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT')) return true
    // Another user's, in a folder where each may only remove his own.
    if (hasErrorCode(error, 'EACCES', 'EPERM')) return false
    throw error
  }
}

/** What else there is of a snapshot. */
async function forget(store: LocalStore, id: string): Promise<void> {
  await remove(store.path('chain', `${id}.qcow2`))
  await remove(store.path('used', id))
}

async function remove(path: string): Promise<void> {
  await rm(path, { force: true, recursive: true }).catch((error: unknown) => {
    if (!hasErrorCode(error, 'EACCES', 'EPERM')) throw error
  })
}

/**
 * Removes what points to snapshots that are gone. While somebody uses a snapshot, or is about to store it, what is to
 * point to it stays.
 */
export async function sweepPointers(store: LocalStore, signal: AbortSignal): Promise<void> {
  await whileSweeping(store.root, signal, async (uses) => {
    const used = new Set(uses.flatMap(({ names }) => [...names]))
    const isGone = (id: string) => !used.has(id) && !existsSync(store.path('snapshots', id))
    for (const name of await names(store.path('chain')))
      if (isGone(name.replace(/\.qcow2$/, ''))) await remove(store.path('chain', name))
    for (const id of await names(store.path('used'))) if (isGone(id)) await remove(store.path('used', id))
    for (const key of await names(store.path('keys'))) {
      const id = (await readFile(store.path('keys', key), 'utf8').catch(() => '')).trim()
      // While an older snapshot of the key is there, this says that it is not what the key means.
      if (isGone(id) && isGone(key)) await remove(store.path('keys', key))
    }
  })
}

async function names(folder: string): Promise<string[]> {
  return await readdir(folder).catch(() => [])
}

/** Waits until what was removed is gone. */
export async function emptyGraves(store: LocalStore): Promise<void> {
  for (const name of await names(store.path('graves'))) await remove(store.path('graves', name))
}
