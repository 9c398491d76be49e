// Which images were written, from what: so that an image that is still current is not written again, and never has to be
// read to find that out.
import { createHash } from 'node:crypto'
import { constants, openSync, statSync } from 'node:fs'
import { open, readFile, rename, unlink } from 'node:fs/promises'
import { hasErrorCode } from '../core/errors.ts'
import type { SealedStep } from '../core/seal.ts'
import { bootId } from '../host/background.ts'
import { fileIdentity, identityOf, moveInto } from '../host/files.ts'
import { closeElsewhere } from '../host/run.ts'
import type { LocalStore } from './local.ts'

export interface ImageRecord {
  /** What it was made from and how: content id, format, compression. */
  recipe: string
  /** The file as we left it; anything that wrote to it since shows here. */
  identity: string
  bytes: number
  /** Where it is, absolute; gc forgets what is gone. */
  path?: string
  /** What was taken away before it was written. */
  seal?: SealedStep[]
  sha256?: string
  /** The kernel's boot id while it may not be on disk yet; undefined once it surely is. */
  unsyncedSince?: string
}

function recordPath(image: string): [folder: string, file: string] {
  return ['images', `${createHash('sha256').update(image).digest('hex')}.json`]
}

/** The record of the image at that absolute path, if the file is still what was recorded. */
export async function imageRecord(store: LocalStore, image: string): Promise<ImageRecord | undefined> {
  let record: ImageRecord
  try {
    record = JSON.parse(await readFile(store.path(...recordPath(image)), 'utf8')) as ImageRecord
    if (record.identity !== (await fileIdentity(image))) return undefined
  } catch {
    return undefined
  }
  if (record.unsyncedSince === undefined) return record
  // Written without waiting for the disk. If the host lost power since, the file may have its name and size, but not its
  // bytes; if it did not, flushing it now costs little, for the kernel has long done so by itself.
  if (record.unsyncedSince !== (await bootId())) return undefined
  const file = await open(image, 'r')
  await file.datasync().finally(() => file.close())
  delete record.unsyncedSince
  await saveImageRecord(store, image, record)
  return record
}

/**
 * Renames an image just written, and not yet flushed, to where it belongs, and records it. `flush`: waits until it is on
 * disk.
 */
export async function placeImage(
  store: LocalStore,
  written: string,
  image: string,
  made: Pick<ImageRecord, 'recipe' | 'bytes' | 'seal'>,
  flush: boolean,
): Promise<ImageRecord> {
  // Renaming changes the identity, and another build may put its own image there right after: so ours is asked for by
  // the open file, not by its name.
  const file = await open(written, 'r')
  try {
    if (flush) await moveInto(written, image)
    else await putInPlaceOf(image, written)
    const identity = identityOf(await file.stat({ bigint: true }))
    const record = { ...made, identity, ...(flush ? {} : { unsyncedSince: await bootId() }) }
    await saveImageRecord(store, image, record)
    return record
  } finally {
    await file.close()
  }
}

/**
 * Renaming onto a file makes ext4 write the new one out first (ext4(5), auto_da_alloc), a good part of the time the
 * image took. So the old one goes just before. Should we end in between, the next build writes the image again.
 */
async function putInPlaceOf(image: string, written: string): Promise<void> {
  // Held open, so that its blocks are freed after the new one is there, and not by us: that takes time, too.
  const old = openOld(image)
  try {
    await unlink(image).catch((error: unknown) => {
      if (!hasErrorCode(error, 'ENOENT')) throw error
    })
    await rename(written, image)
  } finally {
    if (old !== undefined) closeElsewhere(old)
  }
}

/** Bytes from which freeing a file takes longer than to have another process do so. */
const large = 32 * 2 ** 20

function openOld(image: string): number | undefined {
  try {
    if (statSync(image).blocks * 512 < large) return undefined
    return openSync(image, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch {
    return undefined
  }
}

export async function saveImageRecord(store: LocalStore, image: string, record: ImageRecord): Promise<void> {
  await store.write(recordPath(image), `${JSON.stringify({ ...record, path: image })}\n`)
}
