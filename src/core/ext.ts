// The inodes of an ext2, ext3 or ext4 file system, as they lie on the disk: which of them name the same content and
// attributes on two disks of one chain. All of it comes out of an image, so whatever is not understood proves nothing.
import { type Range, touches } from './extents.ts'

/** Where the inodes of a file system lie. */
export interface ExtLayout {
  blockSize: number
  inodeSize: number
  inodesPerGroup: number
  /** By group: where its inodes begin, in bytes from the start of the file system. */
  tables: number[]
}

/** How much of the beginning of a file system `parseExt` is given: room for some thousand groups. */
export const extHead = 256 * 1024

const superblock = 1024
// Features that change nothing of what is read here (ext4 in the kernel's documentation, "Super Block"). To be recovered,
// clusters of blocks, attributes in inodes of their own, content in inodes, encryption and verity are not among them.
const plainIncompat = 0x2 | 0x40 | 0x80 | 0x200 | 0x2000 | 0x4000
const plainReadOnly = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x2000

/** Undefined if the file system is none of these, or has what is not known here. */
export function parseExt(head: Buffer): ExtLayout | undefined {
  if (head.length < 2 * superblock || head.readUInt16LE(superblock + 0x38) !== 0xef53) return undefined
  const u16 = (at: number) => head.readUInt16LE(superblock + at)
  const u32 = (at: number) => head.readUInt32LE(superblock + at)
  const incompat = u32(0x60)
  if ((incompat & ~plainIncompat) !== 0 || (u32(0x64) & ~plainReadOnly) !== 0 || u32(0x18) > 6) return undefined
  const blockSize = 1024 << u32(0x18)
  const inodeSize = u32(0x4c) === 0 ? 128 : u16(0x58)
  const wide = (incompat & 0x80) !== 0
  const descriptorSize = wide ? u16(0xfe) : 32
  const [firstBlock, blocksPerGroup, inodesPerGroup] = [u32(0x14), u32(0x20), u32(0x28)]
  const sizes = [inodeSize >= 128, inodeSize <= blockSize, descriptorSize >= (wide ? 64 : 32), blocksPerGroup > 0]
  if (sizes.includes(false) || inodesPerGroup === 0) return undefined
  const blocks = u32(0x4) + (wide ? u32(0x150) * 2 ** 32 : 0)
  const groups = Math.ceil((blocks - firstBlock) / blocksPerGroup)
  const descriptors = (firstBlock + 1) * blockSize
  if (!(groups > 0) || descriptors + groups * descriptorSize > head.length) return undefined
  const tables = Array.from({ length: groups }, (_, group) => {
    const at = descriptors + group * descriptorSize
    return (head.readUInt32LE(at + 8) + (wide ? head.readUInt32LE(at + 0x28) * 2 ** 32 : 0)) * blockSize
  })
  return { blockSize, inodeSize, inodesPerGroup, tables }
}

/** Where an inode begins, in bytes from the start of the file system. */
export function inodePlace({ tables, inodesPerGroup, inodeSize }: ExtLayout, inode: number): number | undefined {
  const table = tables[Math.floor((inode - 1) / inodesPerGroup)]
  return table === undefined ? undefined : table + ((inode - 1) % inodesPerGroup) * inodeSize
}

/**
 * What is known of a file whose inode, which begins at `at`, is the same on both disks, byte for byte. `start`: of the file
 * system; `written`: bytes of the disk that either side wrote since the two parted.
 *
 * The inode names the blocks of the content, and that of the attributes that have no room in itself. It is the same, so it
 * names the same blocks on both sides; where none of them was written to, what is in them is the same, too. Where it names
 * blocks that name blocks, those would have to be read: that is no proof.
 */
export interface InodeReader {
  sameAttributes: (inodes: Buffer, at: number) => boolean
  /** Of a regular file; false of all others. */
  sameContent: (inodes: Buffer, at: number) => boolean
}

const regular = 0x8000
const byExtents = 0x80000
// Compressed, encrypted, verity, the value of an attribute, content in the inode.
const otherwise = 0x4 | 0x800 | 0x100000 | 0x200000 | 0x10000000

export function inodeReader(blockSize: number, start: number, written: readonly Range[]): InodeReader {
  const isWritten = (first: number, count: number) =>
    touches(written, { start: start + first * blockSize, end: start + (first + count) * blockSize })
  return {
    sameAttributes: (inodes, at) => {
      const block = inodes.readUInt32LE(at + 0x68) + inodes.readUInt16LE(at + 0x76) * 2 ** 32
      return block === 0 || !isWritten(block, 1)
    },
    sameContent: (inodes, at) => {
      const flags = inodes.readUInt32LE(at + 0x20)
      if ((inodes.readUInt16LE(at) & 0xf000) !== regular || (flags & byExtents) === 0 || (flags & otherwise) !== 0)
        return false
      const entries = inodes.readUInt16LE(at + 0x2a)
      const depth = inodes.readUInt16LE(at + 0x2e)
      if (inodes.readUInt16LE(at + 0x28) !== 0xf30a || depth !== 0 || entries > 4) return false
      for (let extent = at + 0x34; extent < at + 0x34 + entries * 12; extent += 12) {
        const length = inodes.readUInt16LE(extent + 4)
        const first = inodes.readUInt16LE(extent + 6) * 2 ** 32 + inodes.readUInt32LE(extent + 8)
        // Longer than it can be: allocated but not yet written to, so it reads as zeros.
        if (length === 0 || isWritten(first, length > 0x8000 ? length - 0x8000 : length)) return false
      }
      return true
    },
  }
}
