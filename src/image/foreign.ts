// An image file that came from outside, looked at before anybody opens it: that it is of the format it says, stands alone,
// and makes no program open another file.
import { open } from 'node:fs/promises'
import { VlbError } from '../core/errors.ts'
import type { ImageFormat } from '../core/output.ts'
import { ToolError } from '../host/run.ts'
import { checkImage, foreignFormat, parseQcow2Header } from './qcow2.ts'

export interface ImageClaim {
  format: ImageFormat
  /** Bytes of the disk as a guest sees it. */
  capacity: number
}

/** Throws where it is not what it is said to be, or names other files. */
export async function inspectImage(path: string, shown: string, claim: ImageClaim, signal: AbortSignal): Promise<void> {
  let wrong = await wrongIn(path, claim)
  if (wrong === undefined && claim.format === 'qcow2') wrong = await unsound(path, signal)
  if (wrong !== undefined) throw new VlbError('VLB_REMOTE_DAMAGED', `${shown} is not taken: it ${wrong}`)
}

/** How it is not what it is said to be, or that it names other files. */
export async function wrongIn(path: string, claim: ImageClaim): Promise<string | undefined> {
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    const read = async (at: number, length: number) => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at)
      return buffer.subarray(0, bytesRead)
    }
    return await looks[claim.format](read, size, claim.capacity)
  } finally {
    await file.close()
  }
}

async function unsound(path: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    await checkImage(path, signal)
    return undefined
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof ToolError) return 'is no sound qcow2'
    throw error
  }
}

type Read = (at: number, length: number) => Promise<Buffer>
type Look = (read: Read, size: number, capacity: number) => Promise<string | undefined>

const looks: Record<ImageFormat, Look> = {
  qcow2: async (read, _, capacity) => {
    const header = parseQcow2Header(await read(0, 512))
    if (!header) return 'is no qcow2'
    if (header.backing || header.dataFile) return 'names another file'
    if (header.encrypted) return 'is encrypted'
    return header.size === capacity ? undefined : `is a disk of ${header.size} bytes instead of ${capacity}`
  },
  raw: async (read, size, capacity) => {
    const head = await read(0, 512)
    const other = foreignFormat(head) ?? (parseQcow2Header(head) && 'qcow2')
    if (other !== undefined) return `is no raw disk, but a ${other}`
    return size === capacity ? undefined : `is a disk of ${size} bytes instead of ${capacity}`
  },
  // Without a capacity in its header, or with a parent, its description names the files that are opened.
  vmdk: async (read) => {
    const head = await read(0, 512)
    if (head.length < 512 || foreignFormat(head) !== 'VMDK' || head.readBigUInt64LE(12) === 0n)
      return 'is no sparse VMDK'
    // qemu looks for a parent in these sectors, wherever the header says that the description is.
    const [at, length] = [512, 20 * 512]
    const description = (await read(at, length)).toString('latin1')
    const alone =
      head.readBigUInt64LE(28) * 512n === BigInt(at) &&
      /^\s*parentCID\s*=\s*ffffffff\s*$/im.test(description) &&
      !/parentFileNameHint/i.test(description)
    return alone ? undefined : 'names another file'
  },
  // 1: dynamic, 2: fixed; others differ from a parent.
  vdi: async (read) => {
    const head = await read(0, 512)
    if (head.length < 512 || foreignFormat(head) !== 'VDI') return 'is no VDI'
    return [1, 2].includes(head.readUInt32LE(76)) ? undefined : 'names another file'
  },
  vhdx: async (read) => (foreignFormat(await read(0, 512)) === 'VHDX' ? undefined : 'is no VHDX'),
  // 2: fixed, as all that are written here.
  vpc: async (read, size) => {
    const footer = await read(Math.max(0, size - 512), 512)
    const sound = footer.length === 512 && footer.toString('latin1', 0, 8) === 'conectix'
    return sound && footer.readUInt32BE(60) === 2 ? undefined : 'is no fixed VHD'
  },
  ova: async (read) => ((await read(257, 5)).toString('latin1') === 'ustar' ? undefined : 'is no archive'),
}
