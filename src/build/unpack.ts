// Unpacks a base that came packed.
import { createReadStream } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { formatBytes } from '../core/units.ts'
import { allocatedBytes } from '../host/files.ts'
import { failure, spawn } from '../host/run.ts'
import { requireSpace } from '../host/space.ts'
import type { BuildContext } from './context.ts'

const packings: readonly [magic: string, tool: 'gzip' | 'xz' | 'zstd'][] = [
  ['1f8b', 'gzip'],
  ['fd377a585a00', 'xz'],
  ['28b52ffd', 'zstd'],
]

/** What a packed base is, for people, and how many bytes it may be at the most: a small file may unpack to any length. */
export interface Packed {
  source: string
  most: number | undefined
}

/** Unpacks .gz, .xz and .zst, recognised by their first bytes; renames anything else. */
export async function unpack(context: BuildContext, base: Packed, packed: string, target: string): Promise<void> {
  const handle = await open(packed, 'r')
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(8), 0, 8, 0).finally(() => handle.close())
  const start = buffer.subarray(0, bytesRead).toString('hex')
  const tool = packings.find(([magic]) => start.startsWith(magic))?.[1]
  if (!tool) return await rename(packed, target)
  // How much it will be is not known: zeros are not written. But less than packed it is hardly ever.
  requireSpace(context.store.path('bases'), await allocatedBytes(packed))
  const task = 'unpacking the base'
  const started = Date.now()
  const bytes = await writeSparse(
    target,
    (take) => (tool === 'gzip' ? gunzip(packed, take) : pipeTool(tool, packed, take)),
    (done) => {
      context.signal.throwIfAborted()
      if (base.most !== undefined && done > mostUnpacked(base.most)) throw tooLarge(base.source, base.most)
      context.emit({ type: 'progress', task, done, total: undefined })
    },
  )
  context.emit({ type: 'progress-ended', task, bytes, seconds: (Date.now() - started) / 1000 })
  await rm(packed)
}

/** An image file is as long as its disk, and at most a little longer. */
function mostUnpacked(size: number): number {
  return size * 1.05 + 2 ** 24
}

function tooLarge(source: string, size: number): VlbError {
  const what = `${source} unpacks to more than the ${formatBytes(size)} of disk.size: a disk can only grow`
  return new VlbError('VLB_DISK_SHRINK', what, { hint: 'raise disk.size in vlb.yaml, or leave it out' })
}

type Take = (chunk: Buffer) => Promise<void>

async function gunzip(packed: string, take: Take): Promise<void> {
  try {
    for await (const chunk of createReadStream(packed).pipe(createGunzip())) await take(chunk as Buffer)
  } catch (error) {
    if (!hasErrorCode(error, 'Z_DATA_ERROR', 'Z_BUF_ERROR')) throw error
    throw damagedArchive('gzip', (error as Error).message)
  }
}

async function pipeTool(tool: 'xz' | 'zstd', packed: string, take: Take): Promise<void> {
  const child = spawn(tool, ['--decompress', '--stdout', '--', packed])
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  for await (const chunk of child.stdout as Readable) await take(chunk as Buffer)
  const result = await child.ended
  if (result.exitCode === 127 || result.exitCode === undefined) throw failure(tool, [], { ...result, stderr: said })
  if (result.exitCode !== 0) throw damagedArchive(tool, said.trim())
}

function damagedArchive(tool: string, said: string): VlbError {
  return new VlbError('VLB_BASE_FORMAT', `${tool} cannot unpack the base: ${said}`, {
    hint: 'its digest is right, so the file is damaged where it comes from',
  })
}

/** Writes what `produce` hands out, leaving holes where there are only zeros; returns the length. */
async function writeSparse(
  target: string,
  produce: (take: Take) => Promise<void>,
  onProgress: (done: number) => void,
): Promise<number> {
  const file = await open(target, 'wx')
  const zeros = Buffer.alloc(2 ** 16)
  let at = 0
  try {
    await produce(async (chunk) => {
      for (let from = 0; from < chunk.length; from += zeros.length) {
        const piece = chunk.subarray(from, from + zeros.length)
        if (!piece.equals(zeros.subarray(0, piece.length))) await file.write(piece, 0, piece.length, at)
        at += piece.length
      }
      onProgress(at)
    })
    await file.truncate(at)
  } finally {
    await file.close()
  }
  return at
}
