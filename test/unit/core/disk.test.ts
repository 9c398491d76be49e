// Disks: what the runner prints about them, which partition is the root, and whether it can grow.
import { describe, expect, test } from 'vitest'
import { checkGrowth, chooseRoot, type DiskLayout, parseProbe, rootPartition } from '../../../src/core/disk.ts'
import { complaint } from '../errors.ts'

const MiB = 2 ** 20
const gpt = [
  'table gpt',
  'partition 14 1048576 3145728',
  'partition 15 4194304 130023424',
  'TYPE=vfat',
  'LABEL=EFI',
  'UUID=7A5C-1B2D',
  'partition 1 134217728 2013265920',
  'TYPE=ext4',
  'LABEL=cloud root',
  'UUID=0f0e-uuid',
  'looks-like-root',
]
const disk = parseProbe(gpt, 2048 * MiB)
const twins = parseProbe(
  [
    'table dos',
    ...[1, 2].flatMap((n) => [
      `partition ${n} ${n * MiB} ${MiB}`,
      'TYPE=ext4',
      `LABEL=root${n}`,
      `UUID=u${n}`,
      'looks-like-root',
    ]),
  ],
  3 * MiB,
)

describe('what the runner prints', () => {
  test('a GPT disk', () => {
    expect(disk).toEqual({
      table: 'gpt',
      size: 2048 * MiB,
      partitions: [
        { number: 14, start: 1048576, size: 3145728, looksLikeRoot: false },
        {
          number: 15,
          start: 4194304,
          size: 130023424,
          fs: 'vfat',
          label: 'EFI',
          uuid: '7A5C-1B2D',
          looksLikeRoot: false,
        },
        {
          number: 1,
          start: 134217728,
          size: 2013265920,
          fs: 'ext4',
          label: 'cloud root',
          uuid: '0f0e-uuid',
          looksLikeRoot: true,
        },
      ],
    })
  })

  test('a disk without a table, which is one file system', () => {
    const found = parseProbe(['table none', `partition 0 0 ${MiB}`, 'TYPE=xfs', 'looks-like-root'], MiB)
    expect(chooseRoot(found, undefined, 'x')).toMatchObject({ table: 'none', root: 0 })
  })

  test('labels as blkid escapes them', () => {
    const lines = ['table dos', 'partition 1 0 512', 'LABEL=my\\ root\\\\x\\$y']
    expect(parseProbe(lines, 512).partitions[0]?.label).toBe('my root\\x$y')
  })

  test('lines of a later runner are passed over, and a label cannot forge others', () => {
    const lines = [
      'table dos',
      'flavour vanilla',
      'partition 1 512 512',
      'LABEL=looks-like-root',
      'PARTFLAVOUR=x',
      'done',
    ]
    expect(parseProbe(lines, 1024)).toEqual({
      table: 'dos',
      size: 1024,
      partitions: [{ number: 1, start: 512, size: 512, label: 'looks-like-root', looksLikeRoot: false }],
    })
  })
})

describe('the root partition', () => {
  test.each<[string | undefined, number]>([
    [undefined, 1],
    ['1', 1],
    ['LABEL=cloud root', 1],
    ['UUID=0f0e-uuid', 1],
  ])('%s', (wanted, number) => {
    const layout = chooseRoot(disk, wanted, 'the base')
    expect(layout.root).toBe(number)
    expect(rootPartition(layout).fs).toBe('ext4')
  })

  test('of two that could be, the one that is named', () => {
    expect(chooseRoot(twins, '2', 'x').root).toBe(2)
    expect(chooseRoot(twins, 'LABEL=root1', 'x').root).toBe(1)
    expect(chooseRoot(twins, 'UUID=u2', 'x').root).toBe(2)
  })

  test.each<[string, Omit<DiskLayout, 'root'>, string | undefined, string, string]>([
    [
      'no partition at all',
      parseProbe(['table none'], MiB),
      undefined,
      'no partition and no file system',
      'qemu-img info',
    ],
    [
      'none that holds a root',
      parseProbe(gpt.slice(0, 6), MiB),
      undefined,
      'no partition holds a root file system',
      'disk: { root: NUMBER }',
    ],
    [
      'two that could be it',
      twins,
      undefined,
      '2 partitions could be the root: partition 1 (ext4, LABEL=root1), partition 2',
      'disk: { root: 1 }',
    ],
    [
      'a number that is not there',
      disk,
      '7',
      'no partition matches root: 7; found partition 14 (no file system)',
      'correct disk.root',
    ],
    ['a label that is not there', disk, 'LABEL=nope', 'no partition matches root: LABEL=nope', 'correct disk.root'],
    ['part of a label', disk, 'LABEL=cloud', 'no partition matches root: LABEL=cloud', 'correct disk.root'],
    [
      'a file system of another kind',
      disk,
      '15',
      'the root partition 15 (vfat, LABEL=EFI) is none of ext2, ext3',
      'these file systems',
    ],
    ['one without a file system', disk, '14', 'partition 14 (no file system) is none of', 'these file systems'],
  ])('%s', (_name, found, wanted, what, hint) => {
    const said = complaint('VLB_DISK', () => chooseRoot(found, wanted, 'the base'))
    expect(said).toContain('the base: ')
    expect(said).toContain(what)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })

  test('a label of an image cannot steer the terminal', () => {
    const found = parseProbe(['table dos', 'partition 1 0 512', 'TYPE=ext4', 'LABEL=a\u001b[2Jb'], 512)
    expect(complaint('VLB_DISK', () => chooseRoot(found, undefined, 'x'))).toContain('LABEL=a?[2Jb')
  })
})

describe('growing', () => {
  const layout = chooseRoot(disk, undefined, 'x')

  test('the last partition can, and the same size is no change', () => {
    expect(() => checkGrowth(layout, 4096 * MiB)).not.toThrow()
    expect(() => checkGrowth(layout, 2048 * MiB)).not.toThrow()
  })

  test('never shrinks', () => {
    const said = complaint('VLB_DISK_SHRINK', () => checkGrowth(layout, 1024 * MiB))
    expect(said).toContain('disk.size of 1.0 GiB is less than the 2.0 GiB of the disk: a disk can only grow')
    expect(said).toContain('raise disk.size in vlb.yaml to 2048M or more')
  })

  test('not with a partition behind the root', () => {
    const said = complaint('VLB_DISK', () => checkGrowth(chooseRoot(twins, '1', 'x'), 100 * MiB))
    expect(said).toContain('the root partition 1 cannot grow: partition 2 lies behind it')
    expect(said).toContain('leave disk.size out')
  })

  test('a file system that fills the disk grows with it', () => {
    const whole = parseProbe(['table none', `partition 0 0 ${MiB}`, 'TYPE=ext4', 'looks-like-root'], MiB)
    expect(() => checkGrowth(chooseRoot(whole, undefined, 'x'), 2 * MiB)).not.toThrow()
  })
})
