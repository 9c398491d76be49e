// Overlays and bases on their way between machines: packed where that pays, and looked at closely where they arrive.
//
// A packed overlay is a qcow2 with compressed clusters, which a store takes as it is: a guest sees the same disk, and
// nothing has to be unpacked.
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'
import { deflateRaw } from 'node:zlib'
import { VlbError } from '../core/errors.ts'
import { run } from '../host/run.ts'
import { checkImage, nameBacking, parseQcow2Header } from './qcow2.ts'

const samples = 48
const sampleBytes = 64 * 2 ** 10

/** Whether a file would shrink by a tenth or more, from samples all along it: packing what is packed takes its time. */
export async function packingPays(path: string): Promise<boolean> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const step = Math.max(sampleBytes, Math.floor(size / samples))
    let before = 0
    let after = 0
    for (let at = 0; at < size; at += step) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(sampleBytes), 0, sampleBytes, at)
      before += bytesRead
      after += (await promisify(deflateRaw)(buffer.subarray(0, bytesRead), { level: 1 })).length
    }
    return after < before * 0.9
  } finally {
    await file.close()
  }
}

export interface Packing {
  from: { path: string; format: 'qcow2' | 'raw' }
  /** What backs it: only what lies above that goes into the copy. */
  backing: { path: string; format: 'qcow2' | 'raw' } | undefined
  to: string
}

/** How a packed overlay names what backs it: nothing that is true on any machine. */
const nowhere = 'parent'

export async function pack({ from, backing, to }: Packing, signal: AbortSignal): Promise<void> {
  const target = ['-O', 'qcow2', '-c', '-o', 'compression_type=zstd']
  // Only with the name of a backing file does it keep to what is allocated above that (see deltaArguments).
  const above = backing ? ['-B', backing.path, '-F', backing.format] : []
  // In order: packed at the same time by several threads all the same, and blocks lie in the file as on the disk.
  const args = ['convert', '-m', '8', '-f', from.format, ...target, ...above, from.path, to]
  await run('qemu-img', args, { signal })
  if (backing) await nameBacking(to, nowhere, backing.format, signal)
}

/**
 * Puts an overlay that came from outside on what backs it here. Whatever it names itself is never followed: it is read as
 * one that stands alone until another name is written into it, and one whose data lie elsewhere is refused.
 */
export async function settleOverlay(
  path: string,
  size: number,
  backing: { reference: string; format: 'qcow2' | 'raw' } | undefined,
  signal: AbortSignal,
): Promise<void> {
  const header = parseQcow2Header(await head(path))
  const wrong = !header
    ? 'is no qcow2'
    : header.dataFile
      ? 'has its data in another file'
      : header.encrypted
        ? 'is encrypted'
        : header.size !== size
          ? `is a disk of ${header.size} bytes instead of ${size}`
          : !backing && header.backing
            ? 'stands on another file'
            : undefined
  if (wrong) throw refused(wrong)
  try {
    await checkImage(path, signal)
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof VlbError) throw error
    throw refused('is no sound qcow2', error)
  }
  if (backing) await nameBacking(path, backing.reference, backing.format, signal)
}

function refused(what: string, cause?: unknown): VlbError {
  return new VlbError('VLB_REMOTE_DAMAGED', `the overlay that came ${what}`, {
    hint: 'it was not kept; the layer is built here instead',
    ...(cause === undefined ? {} : { cause }),
  })
}

async function head(path: string): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(512), 0, 512, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}
