// An image's fstab: which lines count, what they mean, and that no text breaks it.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DiskLayout } from '../../../src/core/disk.ts'
import { mountPath, parseFstab, parseSource } from '../../../src/core/fstab.ts'
import { mountLines, planMounts } from '../../../src/core/mounts.ts'
import { complaint } from '../errors.ts'

const MiB = 2 ** 20
const layout: DiskLayout = {
  table: 'gpt',
  size: 100 * MiB,
  root: 1,
  partitions: [
    { number: 1, start: MiB, size: MiB, fs: 'btrfs', uuid: 'AAAA-1', label: 'root', looksLikeRoot: true },
    { number: 2, start: 2 * MiB, size: MiB, fs: 'ext4', label: 'bo ot', partuuid: '0F-2', looksLikeRoot: false },
    { number: 15, start: 3 * MiB, size: MiB, fs: 'vfat', uuid: '7A5C-1B2D', partlabel: 'EFI', looksLikeRoot: false },
    { number: 16, start: 4 * MiB, size: MiB, fs: 'crypto_LUKS', looksLikeRoot: false },
  ],
}
const none = { mounts: [], binds: [] }
const plan = (fstab: string) => planMounts({ ...layout, fstab }, none, '10_a/build-layer')

describe('sources', () => {
  test.each([
    ['UUID=7a5c-1b2d', { by: 'uuid', value: '7a5c-1b2d' }],
    ['UUID="7A5C-1B2D"', { by: 'uuid', value: '7A5C-1B2D' }],
    ["LABEL='bo ot'", { by: 'label', value: 'bo ot' }],
    ['PARTLABEL=EFI', { by: 'partlabel', value: 'EFI' }],
    ['/dev/disk/by-partuuid/0f-2', { by: 'partuuid', value: '0f-2' }],
    ['/dev/disk/by-label/bo\\x20ot', { by: 'label', value: 'bo ot' }],
    ['/dev/disk/by-label/v\\xc3\\xa4r%', { by: 'label', value: 'vär%' }],
    ['/dev/vda15', { by: 'number', value: 15 }],
    ['/dev/sda1', { by: 'number', value: 1 }],
    ['/dev/xvda', { by: 'number', value: 0 }],
    ['/dev/nvme0n1p2', { by: 'number', value: 2 }],
    ['/dev/mmcblk0p2', { by: 'number', value: 2 }],
  ])('%s', (text, source) => expect(parseSource(text)).toEqual(source))

  test.each([
    '',
    'tmpfs',
    '/dev/vdb1',
    '/dev/sda01',
    '/dev/loop0',
    '/dev/mapper/a-b',
    '/dev/disk/by-id/x',
    'UUID=',
    'h:/x',
  ])('%s is none', (text) => expect(parseSource(text)).toBeUndefined())
})

describe('lines', () => {
  test('escapes, tabs, comments, missing fields', () => {
    const text =
      '# LABEL=a /a ext4\n\t LABEL=a\\040b\t/x\\040y\\134z//./  \nLABEL=a\nLABEL=b none swap\nLABEL=c /c btrfs ro,,subvol=@my\\040home 0 0\r\n'
    expect(parseFstab(text)).toEqual([
      { source: { by: 'label', value: 'a b' }, target: '/x y\\z', options: [], line: 2, text: 'LABEL=a b' },
      {
        source: { by: 'label', value: 'c' },
        target: '/c',
        options: ['ro', 'subvol=@my home'],
        line: 5,
        text: 'LABEL=c',
      },
    ])
  })

  test.each(['', 'relative', '/a/../b', '/..', '/a\nb', `/${'a'.repeat(2000)}`])('no path: %s', (path) =>
    expect(mountPath(path)).toBeUndefined(),
  )
})

describe('the plan', () => {
  test('parents before children, options from a short list, subvolumes of the root', () => {
    const { mounts, notes } = plan(
      [
        'UUID=aaaa-1 / btrfs subvol=@',
        'UUID=aaaa-1 /home btrfs subvol=@home,compress=zstd:3,commit=5,space_cache=v2',
        '/dev/vda15 /boot/efi vfat umask=0077,shortname=winnt,iocharset=evil,nofail',
        'LABEL=bo\\040ot /boot ext4 ro,journal_path=/etc/shadow,loop,suid,dev',
        'LABEL=bo\\040ot /boot-2 ext4',
        '/dev/sda2 /boot ext4',
      ].join('\n'),
    )
    expect(mounts.map((m) => [m.target, m.kind, m.start / MiB, m.fs, m.options.join()])).toEqual([
      ['/boot', 'fstab', 2, 'ext4', 'ro'],
      ['/boot-2', 'fstab', 2, 'ext4', ''],
      ['/boot/efi', 'optional', 3, 'vfat', 'umask=0077,shortname=winnt'],
      ['/home', 'fstab', 1, 'btrfs', 'subvol=@home,compress=zstd:3'],
    ])
    expect(notes).toEqual([])
  })

  test('what cannot be mounted', () => {
    expect(complaint('VLB_DISK', () => plan('/dev/vda16 /secret ext4'))).toMatch(/\/secret .*crypto_LUKS/)
    expect(plan('/dev/vda16 /secret ext4 noauto').notes).toEqual([expect.stringContaining('crypto_LUKS')])
    expect(plan('UUID=\u001b[2J /x ext4').notes).toEqual([
      'not mounted at /x: /etc/fstab:1, UUID=?[2J is not on this disk',
    ])
    for (const at of ['/proc', '/dev/shm', '/run/x', '/tmp', '/mnt/x', '/sys']) {
      expect(plan(`/dev/vda2 ${at} ext4`)).toMatchObject({ mounts: [], notes: [expect.stringContaining(at)] })
    }
  })

  test('directives come first, and name what they want', () => {
    const asked = { ...none, mounts: [{ source: 'PARTLABEL=EFI', target: '/boot', line: 3 }] }
    const { mounts } = planMounts({ ...layout, fstab: '/dev/vda2 /boot ext4\n' }, asked, '10_a/build-layer')
    expect(mounts).toMatchObject([{ kind: 'directive', target: '/boot', fs: 'vfat' }])
    for (const source of ['3', 'p3', 'LABEL=x', 'nonsense', '16'])
      expect(
        complaint('VLB_DIRECTIVE', () =>
          planMounts(layout, { ...none, mounts: [{ source, target: '/x', line: 3 }] }, '10_a/build-layer'),
        ),
      ).toContain('10_a/build-layer:3: ')
  })

  test('of any text at all: safe options, plain paths, whole lines for the runner', () => {
    const word = fc.oneof(
      fc.constantFrom(
        '/dev/vda2',
        'LABEL=bo\\040ot',
        'UUID=AAAA-1',
        '/dev/vda15',
        '/',
        '/a',
        '/a/b',
        '/\\011x',
        '/../x',
      ),
      fc.constantFrom(
        'ext4',
        'swap',
        'ro',
        'nofail',
        'subvol=/x',
        'subvol=a\\011b',
        'subvol=a\u0007',
        'loop',
        'dev,suid,ro',
      ),
      fc.string({ unit: 'binary' }),
    )
    const lines = fc.array(
      fc.array(word, { maxLength: 6 }).map((words) => words.join('\t')),
      { maxLength: 30 },
    )
    fc.assert(
      fc.property(lines, (made) => {
        const { mounts, notes } = plan(made.join('\n'))
        for (const { target, options } of mounts) {
          expect(mountPath(target)).toBe(target)
          for (const option of options) expect(option).toMatch(/^(ro|subvol=[^,\p{Cc}]+)$/u)
        }
        expect(mounts.map((m) => m.target)).toEqual(mounts.map((m) => m.target).toSorted())
        const text = mountLines(mounts)
        expect(
          text
            .split('\n')
            .slice(0, -1)
            .map((line) => line.split('\t').length),
        ).toEqual(mounts.map(() => 8))
        for (const note of notes) expect(note).not.toMatch(/\p{Cc}/u)
      }),
    )
    fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 500 }), (text) => void plan(text)))
  })
})
