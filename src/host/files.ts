// Files written so that a crash leaves either the old or the new one, and copies that are hashed on the way.
import { createHash, randomBytes } from 'node:crypto'
import { type BigIntStats, constants, type Stats } from 'node:fs'
import { chmod, chown, link, lstat, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { isSpaceError, spaceError } from './space.ts'

/** Flushes a file or folder to disk (fsync(2)). */
export async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** A name beside `path` for a file that is to go there by a rename. */
export function nameBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}.${randomBytes(3).toString('hex')}.tmp`)
}

/** Whether a file name is one of those. */
export function isBeside(name: string): boolean {
  return /^\..+\.\d+\.[0-9a-f]{6}\.tmp$/.test(name)
}

/**
 * Writes a small file: complete or not at all, and on disk when this returns. `temporary`: where it is written first, on
 * the same file system; the caller sees to it that nothing stays there should we be killed.
 */
export async function writeAtomic(path: string, text: string, temporary: string): Promise<void> {
  try {
    await writeDown(temporary, text)
    const shared = await sharedFolder(dirname(path))
    if (shared) await giveToGroup(temporary, shared, 'alone')
    await rename(temporary, path)
    await sync(dirname(path))
  } catch (error) {
    await rm(temporary, { force: true })
    throw isSpaceError(error) ? spaceError(path, { need: Buffer.byteLength(text), cause: error }) : error
  }
}

/** Writes a new file that is on disk when this returns; what it is named in is not. */
export async function writeDown(path: string, text: string | Buffer, mode = 0o644): Promise<void> {
  const handle = await open(path, 'wx', mode)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Gives a finished file its name, in place of what may be there; it is on disk first, and its name when this returns. */
export async function moveInto(temporary: string, path: string): Promise<void> {
  await sync(temporary)
  await rename(temporary, path)
  await sync(dirname(path))
}

/** The same where nothing may be yet: fails with EEXIST if there is something. */
export async function moveIntoNew(temporary: string, path: string): Promise<void> {
  await sync(temporary)
  await link(temporary, path)
  await rm(temporary)
  await sync(dirname(path))
}

/** Flushes the files that lie in a folder, all at once, and then the folder. */
export async function syncFolder(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true })
  await Promise.all(entries.filter((entry) => entry.isFile()).map(({ name }) => sync(join(folder, name))))
  await sync(folder)
}

/**
 * Makes a folder with those above it. Not with mkdir's own `recursive`: where making a folder in one that is there fails
 * with ENOENT, as it does in /proc, Node 20 tries again for ever.
 */
export async function makeFolders(path: string): Promise<void> {
  if (await isMade(path)) return
  const above = dirname(path)
  if (!(await isFolder(above))) await makeFolders(above)
  // Again, too, where somebody else made the one above just now.
  if (!(await isMade(path))) throw cannotWrite(path, new Error('no such file or directory'))
}

/** False where the folder above is not there. */
async function isMade(path: string): Promise<boolean> {
  try {
    await mkdir(path)
    return true
  } catch (error) {
    if (hasErrorCode(error, 'EEXIST') && (await isFolder(path))) return true
    if (hasErrorCode(error, 'ENOENT')) return false
    throw explainWriteError(error, path)
  }
}

async function isFolder(path: string): Promise<boolean> {
  return await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

/** What is made in such a folder has its group (inode(7)). */
const setGid = 0o2000

/** What a folder is whose group may write to it, as in a store that several users share; undefined for others. */
async function sharedFolder(folder: string): Promise<Stats | undefined> {
  const found = await stat(folder).catch(() => undefined)
  return found && (found.mode & 0o020) !== 0 ? found : undefined
}

/**
 * In a folder that its group may write to, `path`, alone or with all below it, becomes the group's as much as its owner's,
 * whatever the umask: others of the group will build on it, replace it or remove it.
 */
export async function shareWithGroup(path: string, how: 'alone' | 'all' = 'all'): Promise<void> {
  const above = await sharedFolder(dirname(path))
  if (above) await giveToGroup(path, above, how)
}

async function giveToGroup(path: string, above: Stats, how: 'alone' | 'all'): Promise<void> {
  const found = await lstat(path)
  if (found.isSymbolicLink()) return
  const inherited = found.isDirectory() ? above.mode & setGid : 0
  const mode = found.mode | ((found.mode & 0o700) >> 3) | inherited
  try {
    if (found.gid !== above.gid) await chown(path, found.uid, above.gid)
    if (mode !== found.mode || found.gid !== above.gid) await chmod(path, mode & 0o7777)
  } catch (error) {
    // Somebody else's: they had the same done.
    if (!hasErrorCode(error, 'EPERM')) throw error
  }
  if (how === 'alone' || !found.isDirectory()) return
  for (const name of await readdir(path)) await giveToGroup(join(path, name), above, how)
}

/** Bytes the file takes on disk; sparse files take less than their length. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512
}

export interface HashOptions {
  signal?: AbortSignal
  onProgress?: (done: number) => void
  /** Bytes that are left out at the start. */
  from?: number
  /** Where to end, counted from the start of the file. */
  to?: number
}

/** Digest of a file's bytes in hex, read in pieces. */
export async function hashFile(
  path: string,
  algorithm: 'sha256' | 'sha512',
  options: HashOptions = {},
): Promise<string> {
  const hash = createHash(algorithm)
  await readPieces(path, options, (piece) => hash.update(piece))
  return hash.digest('hex')
}

/**
 * SHA-256, in hex, of the CRC-32 of each 64 KiB of a file. Finds what went wrong with it on a disk or in memory, as file systems
 * do by such checksums, in a third of the time that SHA-256 of all bytes takes; that somebody made another file to deceive us
 * it does not find.
 */
export async function hashSums(path: string, options: HashOptions = {}): Promise<string> {
  const hash = createHash('sha256')
  const sum = Buffer.alloc(4)
  await readPieces(path, options, (piece) => {
    for (let at = 0; at < piece.length; at += summed) {
      sum.writeUInt32BE(crc32(piece.subarray(at, at + summed)))
      hash.update(sum)
    }
  })
  return hash.digest('hex')
}

const pieceBytes = 2 ** 20
const summed = 2 ** 16

/** Hands a file over in pieces of that length, but for the last one. While one is looked at, the next is read. */
async function readPieces(path: string, options: HashOptions, take: (piece: Buffer) => void): Promise<void> {
  const handle = await open(path, 'r')
  try {
    const buffers = [Buffer.allocUnsafe(pieceBytes), Buffer.allocUnsafe(pieceBytes)] as const
    const read = async (buffer: Buffer, from: number): Promise<Buffer> => {
      const wanted = Math.min(buffer.length, (options.to ?? Number.POSITIVE_INFINITY) - from)
      let done = 0
      while (done < wanted) {
        const { bytesRead } = await handle.read(buffer, done, wanted - done, from + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      return buffer.subarray(0, done)
    }
    let done = options.from ?? 0
    let next = read(buffers[0], done)
    for (let turn = 1; ; turn++) {
      const piece = await next
      if (piece.length === 0) return
      options.signal?.throwIfAborted()
      done += piece.length
      next = read(buffers[turn % 2 === 0 ? 0 : 1], done)
      take(piece)
      options.onProgress?.(done)
    }
  } finally {
    await handle.close()
  }
}

/** What a file is to a cache of its digest: another edit, copy or replacement gives another text. */
export async function fileIdentity(path: string): Promise<string> {
  return identityOf(await stat(path, { bigint: true }))
}

export function identityOf(s: BigIntStats): string {
  return [s.dev, s.ino, s.size, s.mtimeNs, s.ctimeNs].join(':')
}

/** Turns the errors of a full or read-only file system into ones that say what to do; others pass. */
export function explainWriteError(error: unknown, path: string): unknown {
  if (isSpaceError(error)) return spaceError(path, { cause: error })
  return hasErrorCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR') ? cannotWrite(path, error) : error
}

function cannotWrite(path: string, error: unknown): VlbError {
  return new VlbError('VLB_STORE_WRITE', `cannot write to ${path}: ${(error as Error).message}`, {
    hint: `give this user the right to write there, or use another store: git config vlb.store PATH`,
    cause: error,
  })
}

/**
 * The beginning of a text that a script could put there, and anything else in its place: a link to another file, or a fifo,
 * which nobody writes to. Of those, '' as of none.
 */
export async function readPlain(path: string, most: number): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => undefined)
  if (!file) return ''
  try {
    if (!(await file.stat()).isFile()) return ''
    const { buffer, bytesRead } = await file.read(Buffer.alloc(most), 0, most, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}
