// Disk image files: what they are, by their own bytes; and qemu-img for making, checking and converting them.
import { open, stat } from 'node:fs/promises'
import { VlbError } from '../core/errors.ts'
import type { Compat, Compression, DiskFormat } from '../core/output.ts'
import { ask, run } from '../host/run.ts'
import { renameInPlace } from '../host/tables.ts'

/** Fields of a qcow2 header (qemu's docs/interop/qcow2.txt; all big-endian). */
export interface Qcow2Header {
  version: number
  /** Virtual size in bytes. */
  size: number
  backing: boolean
  encrypted: boolean
  /** Guest data lies in another file. */
  dataFile: boolean
}

/** Parses the first bytes of a file; undefined if it is no qcow2. */
export function parseQcow2Header(bytes: Buffer): Qcow2Header | undefined {
  if (bytes.length < 72 || bytes.readUInt32BE(0) !== 0x514649fb) return undefined
  const version = bytes.readUInt32BE(4)
  const incompatible = version >= 3 && bytes.length >= 80 ? bytes.readBigUInt64BE(72) : 0n
  return {
    version,
    size: Number(bytes.readBigUInt64BE(24)),
    backing: bytes.readBigUInt64BE(8) !== 0n,
    encrypted: bytes.readUInt32BE(32) !== 0,
    dataFile: (incompatible & 4n) !== 0n,
  }
}

const foreign: readonly [name: string, at: number, magic: Buffer][] = [
  ['VMDK', 0, Buffer.from('KDMV')],
  ['VDI', 64, Buffer.from([0x7f, 0x10, 0xda, 0xbe])],
  ['VHDX', 0, Buffer.from('vhdxfile')],
  ['QED', 0, Buffer.from('QED\0')],
  ['QCOW (version 1)', 0, Buffer.from([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1])],
]

/** The format that a file's first bytes are of, if that is neither raw nor qcow2. */
export function foreignFormat(bytes: Buffer): string | undefined {
  return foreign.find(([, at, magic]) => bytes.subarray(at, at + magic.length).equals(magic))?.[0]
}

/**
 * What kind of disk a file from outside is. Decided here and told to qemu, which must never guess: a raw disk whose first
 * bytes were made to look like a qcow2 header could name any file of the host as its backing file. Throws for images
 * that point to other files and for formats that are no disks we know.
 */
export async function inspectDisk(path: string, shown: string): Promise<{ format: 'qcow2' | 'raw'; size: number }> {
  const bytes = await head(path, 512)
  const other = foreignFormat(bytes)
  if (other !== undefined) {
    throw new VlbError('VLB_BASE_FORMAT', `${shown} is a ${other} image`, {
      hint: `convert it first: qemu-img convert -O qcow2 ${shown} base.qcow2`,
    })
  }
  const header = parseQcow2Header(bytes)
  if (!header) {
    const { size } = await stat(path)
    if (size === 0 || size % 512 !== 0) {
      throw new VlbError(
        'VLB_BASE_FORMAT',
        `${shown} is not a disk image: ${size} bytes are no whole number of sectors, and it is no qcow2`,
        {
          hint: `see what it is: file ${shown}; an unfinished download?`,
        },
      )
    }
    return { format: 'raw', size }
  }
  const points = header.backing ? 'a backing file' : header.dataFile ? 'a data file' : undefined
  if (points) {
    throw new VlbError(
      'VLB_BASE_BACKING',
      `${shown} names ${points}: a base must stand alone, for such a name could point to any file of this host`,
      {
        hint: `if you trust it, flatten it first: qemu-img convert -O qcow2 ${shown} base.qcow2`,
      },
    )
  }
  if (header.encrypted)
    throw new VlbError('VLB_BASE_FORMAT', `${shown} is encrypted`, { hint: 'decrypt it first: qemu-img convert' })
  if (header.size === 0 || header.size > 2 ** 46)
    throw new VlbError('VLB_BASE_FORMAT', `${shown} claims a size of ${header.size} bytes`, {
      hint: 'is it damaged? see: qemu-img check',
    })
  return { format: 'qcow2', size: header.size }
}

/** Whether a file is a qcow2 that has a backing file. */
export async function namesOtherFiles(path: string): Promise<boolean> {
  return parseQcow2Header(await head(path, 512))?.backing ?? false
}

/** The header of an image of our own; undefined if that is no qcow2. */
export async function inspectHeader(path: string): Promise<Qcow2Header | undefined> {
  return parseQcow2Header(await head(path, 512))
}

/** The backing file's name as it stands in a qcow2; undefined where there is none, or none that could be one. */
export async function backingName(path: string): Promise<string | undefined> {
  const start = await head(path, 512)
  if (!parseQcow2Header(start)?.backing) return undefined
  const [at, length] = [Number(start.readBigUInt64BE(8)), start.readUInt32BE(16)]
  // Its longest name is 1023 bytes, in the first cluster.
  if (length > 1023 || at + length > 2 ** 21) return undefined
  return (await head(path, at + length)).subarray(at).toString('utf8')
}

async function head(path: string, length: number): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** Virtual size in bytes of an image of our own, from its header. */
export async function virtualSize(path: string): Promise<number> {
  return parseQcow2Header(await head(path, 512))?.size ?? (await stat(path)).size
}

export interface Backing {
  /** As written into the overlay: relative to the overlay's folder. */
  reference: string
  format: DiskFormat
}

/**
 * Makes an overlay in `folder`, where `backing.reference` must be found. With the disk's `size` in bytes, qemu-img need not
 * open the chain to ask for it (`-u`), which on 40 snapshots takes longer than all else.
 */
export async function createOverlay(
  folder: string,
  name: string,
  backing: Backing,
  size: number | undefined,
  signal: AbortSignal,
): Promise<void> {
  // Subclusters of 4 KiB in clusters of 128 KiB: smaller snapshots, short tables.
  const options = ['-o', 'extended_l2=on,cluster_size=128k']
  const known = size === undefined ? [] : ['-u']
  // qemu-img refuses -b without -F since 6.1, and guessing would be a hole anyway.
  const args = [
    'create',
    '-q',
    ...known,
    '-f',
    'qcow2',
    ...options,
    '-F',
    backing.format,
    '-b',
    backing.reference,
    name,
  ]
  await ask('qemu-img', [...args, ...(size === undefined ? [] : [String(size)])], { cwd: folder })
  signal.throwIfAborted()
}

/**
 * qemu-img ends by flushing what it opened for writing. An overlay that is still being made is flushed once, by the store
 * that takes it: until then it is a temporary file.
 */
const unflushed = ['-t', 'unsafe']

/** Writes another name for the same backing file into an overlay. Neither file's data is looked at; nor is it flushed. */
export async function nameBacking(
  path: string,
  reference: string,
  format: 'qcow2' | 'raw',
  signal: AbortSignal,
): Promise<void> {
  await run('qemu-img', ['rebase', '-u', ...unflushed, '-f', 'qcow2', '-F', format, '-b', reference, path], { signal })
}

/** The same for an overlay that calls it `from`: without a process where that can be. */
export async function renameBacking(
  path: string,
  from: string,
  to: string,
  format: 'qcow2' | 'raw',
  signal: AbortSignal,
): Promise<void> {
  if (!renameInPlace(path, from, to)) await nameBacking(path, to, format, signal)
}

/** Copies a disk to a new file that may be written to: blocks shared where the file system can, holes kept. */
export async function copyDisk(from: string, to: string, signal: AbortSignal): Promise<void> {
  await run('cp', ['--reflink=auto', '--sparse=auto', '--no-preserve=mode', '--', from, to], { signal })
}

/**
 * Copies a disk from outside: blocks shared where the file system can, else with holes where there are only zeros, which its
 * own may not have. (cp takes only one of the two.)
 */
export async function copySparse(from: string, to: string, signal: AbortSignal): Promise<void> {
  const { exitCode } = await run('cp', ['--reflink=always', '--', from, to], { signal, ok: [0, 1] })
  if (exitCode !== 0) await run('cp', ['--sparse=always', '--', from, to], { signal })
}

/** The disk of a qcow2 that stands alone as a raw file, with holes where it has only zeros. */
export async function copyRaw(from: string, to: string, signal: AbortSignal): Promise<void> {
  await run('qemu-img', ['convert', '-W', '-m', '8', '-f', 'qcow2', '-O', 'raw', from, to], { signal })
}

/** Gives back the blocks of a file that hold only zeros, where the file system can. */
export async function digHoles(path: string, signal: AbortSignal): Promise<void> {
  await run('fallocate', ['--dig-holes', '--', path], { signal, ok: [0, 1] })
}

/**
 * Puts an overlay on another file further down its chain, taking what lies between into it. It ends as the same disk.
 * (`convert -B` would look at the topmost overlay alone, and lose all between.) It is not flushed.
 */
export async function rebaseOverlay(
  path: string,
  reference: string,
  format: 'qcow2' | 'raw',
  signal: AbortSignal,
): Promise<void> {
  await run('qemu-img', ['rebase', ...unflushed, '-f', 'qcow2', '-F', format, '-b', reference, path], { signal })
}

/** Whether a guest sees the same disk in both. */
export async function sameDisk(a: string, b: string, signal: AbortSignal): Promise<boolean> {
  // Without strict mode, which minds how a disk is laid out, sizes do not count.
  if ((await virtualSize(a)) !== (await virtualSize(b))) return false
  // 0 the same, 1 different (qemu-img(1), "compare").
  const args = ['compare', '-q', '-f', 'qcow2', '-F', 'qcow2', a, b]
  return (await run('qemu-img', args, { signal, ok: [0, 1] })).exitCode === 0
}

/** Throws if qemu-img finds the image's structure damaged. What backs it is not opened. */
export async function checkImage(path: string, signal: AbortSignal): Promise<void> {
  const alone = { driver: 'qcow2', backing: null, file: { driver: 'file', filename: path } }
  await run('qemu-img', ['check', '-q', `json:${JSON.stringify(alone)}`], { signal })
}

export interface Conversion {
  from: { path: string; format: 'qcow2' | 'raw' }
  to: string
  format: DiskFormat
  compress: Compression
  compat?: Compat
}

/** qemu-img's options for a file of that format: which of its kinds is written. */
export function formatOptions({
  format,
  compress,
  compat,
}: Pick<Conversion, 'format' | 'compress' | 'compat'>): string {
  const options = []
  // What VMware and VirtualBox import; compressed by itself.
  if (format === 'vmdk') options.push('subformat=streamOptimized', 'adapter_type=lsilogic')
  // What Azure and Hyper-V take: not rounded to whole cylinders, which would change the disk's size.
  if (format === 'vpc') options.push('subformat=fixed', 'force_size=on')
  if (format === 'qcow2' && compat === '0.10') options.push('compat=0.10')
  if (compress !== 'none') options.push(`compression_type=${compress}`)
  return options.join(',')
}

/**
 * qemu-img's arguments to write the whole chain into one file: parallel and out of order, at the speed of cp. But in
 * order for a vmdk that is to be streamed.
 */
export function convertArguments(conversion: Conversion): string[] {
  const { from, to, format, compress } = conversion
  const options = formatOptions(conversion)
  return [
    'convert',
    '-p',
    ...(format === 'vmdk' ? [] : ['-W']),
    ...['-m', '8', '-f', from.format, '-O', format],
    ...(compress === 'none' ? [] : ['-c']),
    ...(options === '' ? [] : ['-o', options]),
    from.path,
    to,
  ]
}

export interface Delta {
  overlay: string
  /** What backs the overlay: an image of that very disk is what `to` holds. */
  backing: string
  to: string
  format: DiskFormat
}

/**
 * qemu-img's arguments to write into an image just what an overlay holds itself. With `-B`, which promises that the
 * target shows the backing file wherever nothing is written, qemu-img copies only what is allocated above that file;
 * `-n` has it write to a file that is there.
 */
export function deltaArguments({ overlay, backing, to, format }: Delta): string[] {
  const source = ['-f', 'qcow2', '-B', backing, '-F', 'qcow2']
  return ['convert', '-n', '-W', '-m', '8', ...source, '-O', format, overlay, to]
}

/** Bytes that a plain image of the disk and its chain would take. */
export async function measureImage(path: string, signal: AbortSignal): Promise<number> {
  const args = ['measure', '--output=json', '-f', 'qcow2', '-O', 'qcow2', path]
  return (JSON.parse((await run('qemu-img', args, { signal })).stdout) as { required: number }).required
}

/** `qemu-img map` of an image with its chain: JSON for core/extents.ts and core/disk-map.ts. */
export async function mapImage(path: string, signal: AbortSignal, format: 'qcow2' | 'raw' = 'qcow2'): Promise<string> {
  return (await run('qemu-img', ['map', '--output=json', '-f', format, path], { signal })).stdout
}
