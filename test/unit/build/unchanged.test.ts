import { expect, test } from 'vitest'
import { unchangedInodes } from '../../../src/build/unchanged.ts'
import { parseEntry, type Tree } from '../../../src/core/file-tree.ts'
import type { Place, Two } from '../../../src/image/compare.ts'

const start = 4096
const inodeSize = 256
const table = 300 * 1024

/** A file system of one group with inodes of 256 bytes, each with a block of 1024 bytes: 1000 and its number. */
function fileSystem(inodes: number): Buffer {
  const made = Buffer.alloc(table + inodes * inodeSize)
  const superblock = made.subarray(1024)
  for (const [at, value] of [
    [0x4, 8192],
    [0x14, 1],
    [0x20, 8192],
    [0x28, inodes],
    [0x4c, 1],
    [0x58, inodeSize],
    [0x60, 0x42],
  ] as const)
    superblock.writeUInt32LE(value, at)
  superblock.writeUInt16LE(0xef53, 0x38)
  made.writeUInt32LE(300, 2048 + 8)
  for (let inode = 1; inode <= inodes; inode++) {
    const at = table + (inode - 1) * inodeSize
    made.writeUInt16LE(0o100644, at)
    made.writeUInt32LE(0x80000, at + 0x20)
    made.writeUInt16LE(0xf30a, at + 0x28)
    made.writeUInt16LE(1, at + 0x2a)
    made.writeUInt16LE(1, at + 0x38)
    made.writeUInt32LE(1000 + inode, at + 0x3c)
  }
  return made
}

/** Asks as of two disks with files `fN` of inode N; `asked` is what was read of them. */
async function ask(disks: Two<Buffer>, inodes: number[], lines: Partial<Two<string>> = {}) {
  const asked: Place[][] = []
  const tree = (side: 'a' | 'b', dev: number): Tree =>
    new Map([
      ...inodes.map((inode) => [`f${inode}`, parseEntry(`f 644 0 0 5 ${dev} ${inode} 1`, '')] as const),
      ...(lines[side] === undefined ? [] : [['x', parseEntry(lines[side], '')] as const]),
    ])
  const comparer = {
    bytes: async (places: Two<Place[]>) => {
      asked.push(places.a)
      const read = (disk: Buffer, of: Place[]) =>
        Buffer.concat(of.map(({ offset, length }) => disk.subarray(offset, offset + length)))
      return { a: read(disks.a, places.a), b: read(disks.b, places.b) }
    },
  }
  const listing = (side: 'a' | 'b', dev: number) => ({ tree: tree(side, dev), at: '.', kept: true, starts: new Map() })
  const starts = { a: new Map([[7, start]]), b: new Map([[8, start]]) }
  const block = start + 1012 * 1024
  const written = [{ start: block, end: block + 1 }]
  const found = await unchangedInodes(comparer, { a: listing('a', 7), b: listing('b', 8) }, starts, written)
  return { asked, attributes: [...found.attributes].sort(), content: [...found.content].sort() }
}

test('a file is the same if its inode is, and what that names was not written to', async () => {
  const [a, b] = [fileSystem(20), fileSystem(20)]
  b.writeUInt32LE(1, table + (13 - 1) * inodeSize + 0x10)
  const found = await ask({ a, b }, [11, 12, 13, 14])
  expect(found.content).toEqual(['f11', 'f14'])
  // All is told of what may have changed: so the attributes of f12, too.
  expect(found.attributes).toEqual(['f11', 'f14'])
})

test('not if it is another file, or one of several names', async () => {
  const disk = fileSystem(20)
  const of = async (a: string, b: string) => await ask({ a: disk, b: disk }, [11], { a, b })
  expect((await of('f 644 0 0 5 7 14 1', 'f 644 0 0 5 8 15 1')).content).toEqual(['f11'])
  expect((await of('f 644 0 0 5 9 14 1', 'f 644 0 0 5 8 14 1')).content).toEqual(['f11'])
  const linked = await of('f 644 0 0 5 7 14 2', 'f 644 0 0 5 8 14 2')
  expect([linked.content, linked.attributes]).toEqual([['f11'], ['f11']])
})

test('near inodes are read at once, in not too many pieces', async () => {
  const disk = fileSystem(200_000)
  const near = await ask({ a: disk, b: disk }, [11, 14, 200_000])
  expect(near.asked.at(-1)).toEqual([
    { start, offset: table + 10 * inodeSize, length: 4 * inodeSize },
    { start, offset: table + 199_999 * inodeSize, length: inodeSize },
  ])
  const scattered = Array.from({ length: 199 }, (_, i) => (i + 1) * 1000)
  const found = await ask({ a: disk, b: disk }, scattered)
  expect(found.asked.at(-1)).toHaveLength(1)
  expect(found.content).toHaveLength(199)
})

test('nothing is known of two file systems that are laid out differently', async () => {
  const [a, b] = [fileSystem(20), fileSystem(20)]
  b.writeUInt32LE(301, 2048 + 8)
  expect(await ask({ a, b }, [11])).toMatchObject({ attributes: [], content: [] })
})
