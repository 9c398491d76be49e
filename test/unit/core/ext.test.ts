import { describe, expect, test } from 'vitest'
import { extHead, inodePlace, inodeReader, parseExt } from '../../../src/core/ext.ts'

const features = 0x2 | 0x40 | 0x80 | 0x200

/** The beginning of a file system of 20 groups, blocks of 1024 bytes, inode tables at the blocks 1000, 1100… */
function head(change: (put: Buffer) => void = () => {}): Buffer {
  const made = Buffer.alloc(extHead)
  const put = made.subarray(1024)
  put.writeUInt32LE(20 * 8192 - 100, 0x4)
  put.writeUInt32LE(1, 0x14)
  put.writeUInt32LE(8192, 0x20)
  put.writeUInt32LE(2048, 0x28)
  put.writeUInt16LE(0xef53, 0x38)
  put.writeUInt32LE(1, 0x4c)
  put.writeUInt16LE(256, 0x58)
  put.writeUInt32LE(features, 0x60)
  put.writeUInt32LE(0x47b, 0x64)
  put.writeUInt16LE(64, 0xfe)
  for (let group = 0; group < 20; group++) made.writeUInt32LE(1000 + group * 100, 2048 + group * 64 + 8)
  change(put)
  return made
}

describe('where inodes lie', () => {
  test('by group, and in it one after the other', () => {
    const layout = parseExt(head())
    if (!layout) throw new Error('not understood')
    expect(layout).toMatchObject({ blockSize: 1024, inodeSize: 256, inodesPerGroup: 2048 })
    expect(layout.tables).toHaveLength(20)
    expect(inodePlace(layout, 1)).toBe(1000 * 1024)
    expect(inodePlace(layout, 2048)).toBe(1000 * 1024 + 2047 * 256)
    expect(inodePlace(layout, 2049)).toBe(1100 * 1024)
    expect(inodePlace(layout, 20 * 2048 + 1)).toBeUndefined()
  })

  test('beyond 32 bits, and with descriptors of the old size', () => {
    const far = parseExt(head((put) => put.writeUInt32LE(1, 1024 + 0x28)))
    expect(far?.tables.slice(0, 2)).toEqual([(2 ** 32 + 1000) * 1024, 1100 * 1024])
    const old = parseExt(
      head((put) => {
        put.writeUInt32LE(features & ~0x80, 0x60)
        for (let group = 0; group < 20; group++) put.writeUInt32LE(7 + group, 1024 + group * 32 + 8)
      }),
    )
    expect(old?.tables.slice(0, 3)).toEqual([7 * 1024, 8 * 1024, 9 * 1024])
  })

  const refused: Record<string, (put: Buffer) => void> = {
    'another file system': (put) => put.writeUInt16LE(0x58, 0x38),
    'to be recovered': (put) => put.writeUInt32LE(features | 0x4, 0x60),
    'descriptors elsewhere': (put) => put.writeUInt32LE(features | 0x10, 0x60),
    'attributes in inodes': (put) => put.writeUInt32LE(features | 0x400, 0x60),
    'content in inodes': (put) => put.writeUInt32LE(features | 0x8000, 0x60),
    'the highest bit': (put) => put.writeUInt32LE((features | 0x80000000) >>> 0, 0x60),
    'clusters of blocks': (put) => put.writeUInt32LE(0x200, 0x64),
    'blocks of 2 TiB': (put) => put.writeUInt32LE(31, 0x18),
    'no inodes': (put) => put.writeUInt32LE(0, 0x28),
    'no groups': (put) => put.writeUInt32LE(0, 0x4),
    'groups of nothing': (put) => put.writeUInt32LE(0, 0x20),
    'more groups than are known': (put) => put.writeUInt32LE(0xffffffff, 0x150),
    'inodes larger than a block': (put) => put.writeUInt16LE(2048, 0x58),
    'small descriptors': (put) => put.writeUInt16LE(32, 0xfe),
  }
  test.each(Object.keys(refused))('%s: nothing is known', (name) => {
    expect(parseExt(head(refused[name]))).toBeUndefined()
  })

  test('the end of the disk', () => {
    expect(parseExt(Buffer.alloc(0))).toBeUndefined()
    expect(parseExt(head().subarray(0, 2048))).toBeUndefined()
  })
})

describe('what an inode proves that is the same on both sides', () => {
  const inode = (change: (put: Buffer) => void = () => {}): Buffer => {
    const put = Buffer.alloc(256)
    put.writeUInt16LE(0o100644, 0)
    put.writeUInt32LE(0x80000, 0x20)
    put.writeUInt16LE(0xf30a, 0x28)
    put.writeUInt16LE(2, 0x2a)
    // Blocks 500 to 509, and 600 and 601, which are allocated only.
    put.writeUInt16LE(10, 0x38)
    put.writeUInt32LE(500, 0x3c)
    put.writeUInt16LE(0x8002, 0x44)
    put.writeUInt32LE(600, 0x48)
    change(put)
    return put
  }
  const start = 2 ** 20
  const written = (first: number) => [{ start: start + first * 1024, end: start + (first + 1) * 1024 }]
  const known = (one: Buffer, first: number) => {
    // Behind another.
    const inodes = Buffer.concat([Buffer.alloc(256, 0xff), one])
    const reader = inodeReader(1024, start, written(first))
    return { attributes: reader.sameAttributes(inodes, 256), content: reader.sameContent(inodes, 256) }
  }

  test('its content, if none of its blocks was written to', () => {
    const same = [499, 510, 599, 602].map((block) => known(inode(), block).content)
    expect(same).toEqual([true, true, true, true])
    const changed = [500, 509, 600, 601].map((block) => known(inode(), block).content)
    expect(changed).toEqual([false, false, false, false])
    expect(
      known(
        inode((put) => put.writeUInt16LE(1, 0x3a)),
        2 ** 32 + 505,
      ).content,
    ).toBe(false)
    expect(
      known(
        inode((put) => put.writeUInt16LE(0, 0x2a)),
        500,
      ).content,
    ).toBe(true)
  })

  test('its attributes, if they are in it or in a block that was not written to', () => {
    expect(known(inode(), 0).attributes).toBe(true)
    const block = inode((put) => put.writeUInt32LE(700, 0x68))
    expect([known(block, 700).attributes, known(block, 701).attributes]).toEqual([false, true])
    const far = inode((put) => put.writeUInt16LE(1, 0x76))
    expect([known(far, 2 ** 32).attributes, known(far, 0).attributes]).toEqual([false, true])
  })

  const unclear: Record<string, (put: Buffer) => void> = {
    'a tree of extents': (put) => put.writeUInt16LE(1, 0x2e),
    'more extents than there is room for': (put) => put.writeUInt16LE(5, 0x2a),
    'an extent of nothing': (put) => put.writeUInt16LE(0, 0x44),
    'no extents': (put) => put.writeUInt32LE(0, 0x20),
    'no header': (put) => put.writeUInt16LE(0, 0x28),
    'a folder': (put) => put.writeUInt16LE(0o40755, 0),
    'content in the inode': (put) => put.writeUInt32LE(0x10080000, 0x20),
    encrypted: (put) => put.writeUInt32LE(0x80800, 0x20),
    verity: (put) => put.writeUInt32LE(0x180000, 0x20),
  }
  test.each(Object.keys(unclear))('%s: nothing is known of its content', (name) => {
    expect(known(inode(unclear[name]), 0).content).toBe(false)
  })
})
