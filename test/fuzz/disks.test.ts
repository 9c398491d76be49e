// What disks and images hold, and what qemu, sfdisk, blkid, find and the like print of them.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  checkGrowth,
  chooseRoot,
  type DiskLayout,
  describePartition,
  fstabIn,
  parseProbe,
  withFstab,
} from '../../src/core/disk.ts'
import {
  dataExtents,
  type Extent,
  freedExtents,
  type MappedExtent,
  overlap,
  parseMap,
} from '../../src/core/disk-map.ts'
import { inodePlace, inodeReader, parseExt } from '../../src/core/ext.ts'
import { mergeRanges, parseExtents, rangesAbove, touches } from '../../src/core/extents.ts'
import { listedFiles } from '../../src/core/file-list.ts'
import { decoded, quotedName } from '../../src/core/file-names.ts'
import { addAttributes, deviceId, deviceNumbers, type Entry, parseEntry, type Tree } from '../../src/core/file-tree.ts'
import { fstabLimit, mountPath, parseFstab, parseSource } from '../../src/core/fstab.ts'
import { mountLines, planMounts } from '../../src/core/mounts.ts'
import { parseSeal, sealSteps } from '../../src/core/seal.ts'
import { parseQcow2Header } from '../../src/image/qcow2.ts'
import { anyBytes, anyText, linesOf, madeOf, orRefusal, unshowable } from './outside.ts'

describe('disks', () => {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const lines = [
    ...[
      'table gpt',
      'table dos',
      'table x',
      'partition 1 1048576 4096',
      'partition 2 5 5',
      'partition 1 1 1',
      'partition 0 0 9',
    ],
    ...[
      `partition 3 ${'9'.repeat(30)} 1`,
      'TYPE=ext4',
      'TYPE=btrfs',
      'TYPE=\\x1b\\n',
      'LABEL=\\"a\\x20b',
      'LABEL=',
      'UUID=AB-CD',
    ],
    ...[
      'PARTUUID=1',
      'looks-like-root',
      `fstab ${base64('UUID=AB-CD / btrfs subvol=/@ 0 0\n')}`,
      'fstab !',
      `subvolume ${base64('@')}`,
    ],
    ...[`subvolume ${base64('@home\n')}`, 'size 12345678', 'size', ''],
  ]
  const probed = fc.array(
    fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...lines) }, { weight: 1, arbitrary: madeOf(lines, 3) }),
    { maxLength: 14 },
  )
  const wanted = fc.oneof(fc.constantFrom(undefined, '1', '2', 'LABEL=a b', 'UUID=AB-CD', 'LABEL=', '1e0'), anyText)

  test('a layout is read, its root is found, and what is mounted is planned; or it is refused', () => {
    const asked = fc.array(
      fc.record({
        source: madeOf(['1', '2', 'LABEL=', 'a b', 'p3', '/dev/vda1'], 2),
        // Directives hand over plain ones only.
        target: madeOf(['/', 'boot', '/run', '..'], 4).map((text) => mountPath(text) ?? '/'),
        line: fc.nat(9),
      }),
      { maxLength: 2 },
    )
    fc.assert(
      fc.property(probed, wanted, asked, (text, root, mounts) => {
        const found = parseProbe(text, 2 ** 30)
        const layout = orRefusal(() => chooseRoot(found, root, 'the base'))
        if (!layout) return
        expect(layout.partitions.filter((p) => p.number === layout.root).length).toBeGreaterThan(0)
        orRefusal(() => checkGrowth(layout, 2 ** 31))
        const plan = orRefusal(() => planMounts(layout, { mounts, binds: [] }, '10_a/build-layer'))
        for (const note of plan?.notes ?? []) expect(note).not.toMatch(unshowable)
        const told = mountLines(plan?.mounts ?? [])
        expect(
          told
            .split('\n')
            .slice(0, -1)
            .map((line) => line.split('\t').length),
        ).toEqual((plan?.mounts ?? []).map(() => 8))
        for (const { target } of plan?.mounts ?? []) expect(mountPath(target)).toBe(target)
        for (const partition of layout.partitions) expect(describePartition(partition)).not.toMatch(unshowable)
      }),
    )
  })

  test('an fstab that the runner hands over arrives as it was', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const layout = { table: 'none', size: 1, partitions: [], root: 0 } as DiskLayout
        expect(withFstab(layout, fstabIn(['exit 0', `fstab ${base64(text)}`])).fstab).toBe(text)
      }),
    )
  })

  test('lines of an fstab name places that are plain, whatever it holds', () => {
    const words = [
      'UUID=1',
      'LABEL=a\\040b',
      '/dev/vda1',
      ' ',
      '\t',
      '/',
      '/a/../b',
      '/x\\012y',
      'swap',
      'subvol=@',
      ',',
      '#',
      '\\777',
      '"',
    ]
    fc.assert(
      fc.property(linesOf(words), (text) => {
        for (const { target, options, line } of parseFstab(text)) {
          expect(mountPath(target)).toBe(target)
          expect(options).not.toContain('')
          expect(line).toBeLessThanOrEqual(text.split('\n').length)
        }
        expect(parseFstab(`#${'x'.repeat(fstabLimit)}\n${text}`)).toEqual([])
      }),
    )
    fc.assert(
      fc.property(
        madeOf(['UUID', 'LABEL', '=', '"', "'", '/dev/', 'sda', '1', '/dev/disk/by-uuid/', '\\x2f', '%']),
        (text) => void parseSource(text),
      ),
    )
  })

  test('what the seal tells is counted, and nothing else', () => {
    fc.assert(
      fc.property(linesOf([...sealSteps, 'sealed ', ' 1', ' 99', 'changed', 'warning ']), (text) => {
        const { steps } = parseSeal(text.split('\n'))
        for (const { step, files, bytes } of steps) {
          expect(sealSteps).toContain(step)
          expect(files >= 0 && bytes >= 0).toBe(true)
        }
      }),
    )
  })
})

describe('image files', () => {
  test('a header of any bytes is one, or none', () => {
    const head = fc
      .tuple(fc.constantFrom('', '514649fb00000002', '514649fb00000003'), fc.uint8Array({ maxLength: 120 }))
      .map(([start, rest]) => Buffer.concat([Buffer.from(start, 'hex'), rest]))
    fc.assert(fc.property(head, (bytes) => void expect(parseQcow2Header(bytes)?.size ?? 0).toBeGreaterThanOrEqual(0)))
  })

  /** As qemu-img prints it: one behind the other, without gaps. */
  const map = fc
    .array(
      fc.record({
        length: fc.integer({ min: 1, max: 1000 }),
        depth: fc.nat(3),
        zero: fc.boolean(),
        data: fc.boolean(),
      }),
      { maxLength: 12 },
    )
    .map((parts) => {
      let at = 0
      return parts.map((part): MappedExtent => {
        at += part.length
        return { ...part, start: at - part.length }
      })
    })

  const bytesOf = (extents: readonly Extent[]) => extents.reduce((sum, { length }) => sum + length, 0)

  test('its map: what is data, what was freed, and how much both have', () => {
    fc.assert(
      fc.property(map, map, (one, other) => {
        expect(parseMap(JSON.stringify(one))).toEqual(one)
        const [data, freed] = [dataExtents(one), freedExtents(one)]
        expect(overlap(data, data)).toBe(bytesOf(data))
        expect(overlap(data, freed)).toBe(0)
        const both = overlap(dataExtents(one), dataExtents(other))
        expect(overlap(dataExtents(other), dataExtents(one))).toBe(both)
        const covered = (extents: readonly Extent[], at: number) =>
          extents.some(({ start, length }) => start <= at && at < start + length)
        let counted = 0
        for (const { start, length } of dataExtents(one))
          for (let at = start; at < start + length; at++) if (covered(dataExtents(other), at)) counted++
        expect(both).toBe(counted)
      }),
      // Byte by byte.
      { numRuns: 100 },
    )
  })

  test('what was written above a snapshot, and which places that touches', () => {
    const place = fc
      .tuple(fc.nat(3000), fc.integer({ min: 1, max: 300 }))
      .map(([start, length]) => ({ start, end: start + length }))
    fc.assert(
      fc.property(map, fc.nat(4), place, (extents, depth, one) => {
        const ranges = mergeRanges(rangesAbove(JSON.stringify(extents), depth))
        for (const [i, { start, end }] of ranges.entries()) {
          expect(start).toBeLessThan(end)
          if (i > 0) expect(ranges[i - 1]?.end).toBeLessThan(start)
        }
        expect(mergeRanges([...ranges].reverse())).toEqual(ranges)
        const touched = extents.some((e) => e.depth < depth && e.start < one.end && one.start < e.start + e.length)
        expect(touches(ranges, one)).toBe(touched)
      }),
    )
  })

  test('where a file lies is only told where that is plain', () => {
    fc.assert(
      fc.property(
        madeOf(['4096', ' ', '0,100,8,last', '8,200,1,', 'shared,', 'encoded', 'inline', ',', '-1', '1e3', '0x', '..']),
        (line) => {
          for (const { start, end } of parseExtents(line) ?? []) expect(start).toBeLessThan(end)
        },
      ),
    )
  })
})

describe('inodes', () => {
  test('of any file system have a place or none, and any of them is read', () => {
    const bytes = fc.uint8Array({ minLength: 0x200, maxLength: 0x200 }).map((made) => Buffer.from(made))
    // Half of the time with the fields that a superblock is refused for.
    const sound = (head: Buffer, size: number) => {
      head.writeUInt16LE(0xef53, 0x438)
      head.writeUInt32LE(size, 0x418)
      head.writeUInt32LE(0xc2, 0x460)
      head.writeUInt32LE(1, 0x464)
      head.writeUInt16LE(64, 0x4fe)
      head.writeUInt32LE(0, 0x550)
    }
    fc.assert(
      fc.property(bytes, fc.boolean(), fc.nat(7), fc.nat(), (superblock, asOne, size, inode) => {
        const head = Buffer.alloc(65536, superblock)
        if (asOne) sound(head, size)
        const layout = parseExt(head)
        const place = layout && inodePlace(layout, inode + 1)
        if (place !== undefined) expect(place).toBeGreaterThanOrEqual(0)
        const reader = inodeReader(4096, 0, [{ start: 0, end: 2 ** 80 }])
        if (superblock.readUInt16LE(0x2a) > 0) expect(reader.sameContent(superblock, 0)).toBe(false)
        expect(reader.sameAttributes(superblock, 128)).toBe(
          superblock.readUInt32LE(0xe8) + superblock.readUInt16LE(0xf6) === 0,
        )
      }),
    )
  })
})

describe('files of an image', () => {
  const entry: Entry = parseEntry('f 644 0 0 5 1 9 1', '')

  test('a name of any bytes is shown so that a terminal does nothing, and can be told from all others', () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, (one, other) => {
        expect(quotedName(one)).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        if (one !== other) expect(quotedName(one)).not.toBe(quotedName(other))
        if (decoded(one) !== undefined) expect(Buffer.from(decoded(one) ?? '').toString('latin1')).toBe(one)
      }),
    )
  })

  test('in JSON its bytes are not lost', () => {
    fc.assert(
      fc.property(anyBytes, (path) => {
        const [file] = listedFiles([{ path, change: 'added', what: [], before: null, after: entry } as never])
        const bytes =
          file?.pathBytes === undefined ? Buffer.from(file?.path ?? '') : Buffer.from(file.pathBytes, 'base64')
        expect(bytes.toString('latin1')).toBe(path)
        expect(JSON.parse(JSON.stringify(file)).path).toBe(file?.path)
      }),
    )
  })

  test('attributes of any name and value come to the file they are of, and to nothing else', () => {
    const lines = ['# file: ', 'a', './a', '.', 'user.x', '=', '0x00', '\\012', '__proto__', 'constructor', '="', '']
    fc.assert(
      fc.property(linesOf(lines), (text) => {
        const tree: Tree = new Map([
          ['a', { ...entry }],
          ['', { ...entry }],
        ])
        addAttributes(tree, text, '.')
        expect([...tree.keys()]).toEqual(['a', ''])
        expect(Object.prototype).not.toHaveProperty('x')
        for (const one of tree.values()) {
          const names = Object.keys(one.xattrs ?? {})
          expect(names).toEqual([...names].sort())
        }
      }),
    )
  })

  test('the numbers of a device are those that were printed', () => {
    fc.assert(
      fc.property(fc.nat(0xfff), fc.nat(0xfffff), (major, minor) => {
        const hex = `${major.toString(16)}:${minor.toString(16)}`
        expect(deviceNumbers(hex)).toBe(`${major}:${minor}`)
        // makedev(3), for the usual small ones.
        if (minor < 256) expect(deviceId(hex)).toBe(major * 256 + minor)
      }),
    )
  })
})
