// A large file that lies in a registry in pieces: fetched one after the other into one `.part` file, which a later run goes
// on with until it has its place in the store, and cut up again on the way there.
import { createHash } from 'node:crypto'
import { open, rm, stat } from 'node:fs/promises'
import { hasErrorCode } from '../core/errors.ts'
import { type Blob, partLimit, type SharedFile } from '../core/oci.ts'
import { explainWriteError, shareWithGroup } from '../host/files.ts'
import type { Registry } from './oci.ts'
import type { OnBytes } from './oci-receive.ts'

/** What a file of those pieces is called while it arrives. */
export function partName({ parts }: SharedFile): string {
  const digests = parts.map(({ digest }) => digest).join()
  return `oci-${createHash('sha256').update(digests).digest('hex')}.part`
}

/** How much of it is here already. */
export async function haveOf(part: string): Promise<number> {
  return (await stat(part).catch(() => undefined))?.size ?? 0
}

/** Fetches what `part` lacks of it. Every byte is checked, also of what was there. */
export async function downloadFile(
  registry: Registry,
  file: SharedFile,
  part: string,
  onBytes: OnBytes,
): Promise<void> {
  // 'a+' would write at the end whatever is asked for (pwrite(2), BUGS).
  const handle = await open(part, 'r+').catch(() => open(part, 'w+'))
  // Another user of the store may have to go on with it.
  await shareWithGroup(part)
  try {
    const { size } = await handle.stat()
    onBytes(Math.min(size, file.size))
    let at = 0
    for (const blob of file.parts) {
      const have = Math.max(0, Math.min(blob.size, size - at))
      await registry.download(blob, handle, { at, have }, onBytes)
      at += blob.size
    }
    await handle.truncate(file.size)
  } catch (error) {
    if (!hasErrorCode(error, 'ENOSPC', 'EDQUOT')) throw error
    await rm(part, { force: true })
    throw explainWriteError(error, part)
  } finally {
    await handle.close()
  }
}

/**
 * The pieces of a file with their digests. A piece that `avoid` knows is not made: a registry that has it damaged would
 * keep what it has, so the file is cut elsewhere.
 */
export async function cutFile(
  path: string,
  options: { avoid?: (digest: string) => Promise<boolean>; signal: AbortSignal; onBytes?: OnBytes },
): Promise<SharedFile> {
  const handle = await open(path, 'r')
  try {
    const { size } = await handle.stat()
    for (let pieces = Math.max(1, Math.ceil(size / partLimit)); ; pieces++) {
      const parts = await hashPieces(handle, size, Math.min(partLimit, Math.ceil(size / pieces)), options)
      const bad = await Promise.all(parts.map(({ digest }) => options.avoid?.(digest) ?? false))
      if (!bad.includes(true) || pieces >= size) return { size, parts }
    }
  } finally {
    await handle.close()
  }
}

async function hashPieces(
  handle: Awaited<ReturnType<typeof open>>,
  size: number,
  length: number,
  { signal, onBytes }: { signal: AbortSignal; onBytes?: OnBytes },
): Promise<Blob[]> {
  const parts: Blob[] = []
  const buffer = Buffer.allocUnsafe(2 ** 22)
  for (let at = 0; at < size; at += length) {
    const hash = createHash('sha256')
    const end = Math.min(size, at + length)
    for (let done = at; done < end; ) {
      signal.throwIfAborted()
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, end - done), done)
      if (bytesRead === 0) throw new Error(`${size - done} bytes of a snapshot are missing`)
      hash.update(buffer.subarray(0, bytesRead))
      done += bytesRead
      onBytes?.(bytesRead)
    }
    parts.push({ digest: `sha256:${hash.digest('hex')}`, size: end - at })
  }
  return parts
}
