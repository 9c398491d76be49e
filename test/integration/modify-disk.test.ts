// modify-disk: a script on the host that has the whole disk, partition table included.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const modify = (script: string, directive = '#') => ({ 'modify-disk': `#!/bin/sh\n${directive}\nset -eu\n${script}\n` })
const lines = (text: string): string[] => text.split('\n').filter(Boolean)

/** The layout that a snapshot's manifest has. */
async function layout(rig: Rig, layer: string) {
  const { layers } = await rig.json('build')
  const { key } = layers.find(({ name }: { name: string }) => name === layer)
  return JSON.parse(readFileSync(rig.store('snapshots', key, 'manifest.json'), 'utf8')).disk
}

rigTest(
  'partition and file system are grown by the script, as vm-layer-builder did it with growpart and resize2fs',
  async (rig) => {
    rig.project({
      '10_a': 'stat -f -c "%b %S" /; echo a > /a',
      '20_grow': modify(`vlb-resize 200M
echo ', +' | sfdisk --quiet --no-reread --force -N 1 "$3" 2>&1
root=$(vlb-partition 1)
e2fsck -f -p "$root"; resize2fs "$root"`),
      '30_b': 'stat -f -c "%b %S" /; cat /a; echo b > /b',
    })
    rig.commit()
    expect(await rig.build()).toEqual(['10_a built', '20_grow built', '30_b built'])
    const bytes = async (layer: string) => {
      const [blocks = 0, size = 0] = (lines(await rig.ok('log', layer))[0] ?? '').split(' ').map(Number)
      return blocks * size
    }
    expect(await bytes('10_a')).toBeLessThan(50 * 2 ** 20)
    expect(await bytes('30_b')).toBeGreaterThan(170 * 2 ** 20)
    expect(await layout(rig, '20_grow')).toMatchObject({ size: 200 * 2 ** 20, root: 1, partitions: [{ number: 1 }] })
    const raw = join(rig.folder, 'x.raw')
    rig.tool('qemu-img', 'convert', '-O', 'raw', rig.path('build/image.qcow2'), raw)
    expect(rig.tool('sfdisk', '--verify', raw)).toContain('No errors detected')
    rig.tool('e2fsck', '-f', '-n', `${raw}?offset=${2 ** 20}`)
    expect(await rig.build()).toEqual(['10_a cached', '20_grow cached', '30_b cached'])
  },
)

rigTest('a partition is added, and named in fstab: the layer above finds it mounted', async (rig) => {
  rig.project({
    '10_data': modify(`vlb-resize 100M
echo 'size=40M' | sfdisk --quiet --no-reread --force --append "$3" 2>&1
mke2fs -q -t ext4 -L data "$(vlb-partition 2)"
mount -t ext4 -o nodev "$VLB_PARTITION_1" root
echo 'LABEL=data /data ext4 defaults 0 2' > root/etc/fstab
umount root`),
    '20_b': 'echo b > /data/b; grep -c " /data ext4 " /proc/self/mountinfo || grep " /data " /proc/self/mountinfo',
    '30_c': 'cat /data/b',
  })
  rig.write({ '10_data/root/keep': '' })
  rig.commit()
  await rig.build()
  expect(await rig.ok('log', '30_c')).toBe('b\n')
  expect((await layout(rig, '10_data')).partitions).toHaveLength(2)
})

rigTest('what it gets: arguments, a copy of its folder, environment; and a parent it cannot write to', async (rig) => {
  const seen = join(rig.folder, 'seen')
  rig.project({
    '10_a': 'echo a > /a',
    '20_see': modify(
      `exec > ${seen}
echo "$#"; qemu-img info -U --output=json "$1" | grep -c full-backing; [ -b "$3" ] && echo block
test "$2" = "$(realpath ../layer.qcow2)" && echo target
ls -A; cat file; env | cut -d= -f1 | sort | paste -sd,
echo "$COLOUR $VLB_LAYER"; [ -b "$VLB_PARTITION_1" ] && echo partition
head -c 3 "$3" | wc -c; blkid -p -o value -s TYPE "$VLB_PARTITION_1"
(echo x >> "$1") 2>/dev/null && echo writable || echo protected
vlb-partition 9 || echo "status $?"; vlb-resize 1M || echo "status $?"; vlb-partition || echo "status $?"
ls /proc | grep -c '^[0-9]'; readlink /proc/self/fd/0
echo changed > file; echo x > "$TMPDIR/x"`,
      '# vlb: env COLOUR=blue',
    ),
  })
  rig.write({ '20_see/file': 'of the layer\n' })
  rig.commit()
  await rig.build()
  const out = lines(readFileSync(seen, 'utf8'))
  expect(Number(out.at(-2)), 'a PID namespace of its own').toBeLessThan(12)
  expect([...out.slice(0, -2), out.at(-1)]).toEqual([
    '3',
    '1',
    'block',
    'target',
    'file',
    'modify-disk',
    'of the layer',
    'COLOUR,DEBIAN_FRONTEND,HOME,LANG,PATH,PWD,SHLVL,SYSTEMD_OFFLINE,TMPDIR,VLB_LAYER,VLB_PARTITION_1,_',
    'blue 20_see',
    'partition',
    '3',
    'ext4',
    'protected',
    'status 1',
    'status 1',
    'status 2',
    '/dev/null',
  ])
  expect(rig.read('20_see/file')).toBe('of the layer\n')
})

rigTest(
  'a file system beside the root is damaged: the layer that finds it is refused as one on a damaged disk',
  async (rig) => {
    rig.project({
      '10_data': modify(`vlb-resize 100M
echo 'size=40M' | sfdisk --quiet --no-reread --force --append "$3" 2>&1
part=$(vlb-partition 2)
mke2fs -q -t ext4 -b 1024 -L data "$part"
for what in 'Block bitmap' 'Inode bitmap'; do
  block=$(dumpe2fs "$part" 2>/dev/null | sed -n "s/^ *$what at \\([0-9]*\\).*/\\1/p" | head -n 1)
  dd if=/dev/urandom of="$part" bs=1024 seek="$block" count=1 conv=notrunc status=none
done
mount -t ext4 -o nodev "$VLB_PARTITION_1" root
echo 'LABEL=data /data ext4 defaults 0 2' > root/etc/fstab
umount root`),
      '20_b': 'i=0; while [ $i -lt 2000 ]; do echo x > /data/file$i || break; i=$((i+1)); done; true',
    })
    rig.write({ '10_data/root/keep': '' })
    rig.commit()
    const ran = await rig.vlb(['build'])
    expect(ran.code, ran.all).toBe(2)
    expect(ran.stderr).toContain("the image's file system at /data is damaged")
  },
)

rigTest('mounts and processes that it leaves are gone, and what was written to them is there', async (rig) => {
  const marker = `vlb-left-${process.pid}-${Date.now()}`
  rig.project({
    // mountinfo writes a blank as three digits.
    '10_left': modify(`m='my 1st'; mkdir "$m"
mount -t ext4 "$VLB_PARTITION_1" "$m"
echo left > "$m/left"; mkdir "$m/sub"; mount -t tmpfs none "$m/sub"
(setsid sh -c 'trap "" TERM HUP; cd "$1"; exec > held; echo held; sleep 1000 # ${marker}' sh "$m" &)
while [ ! -s "$m/held" ]; do sleep 0.05; done`),
    '20_b': 'cat /left /held',
  })
  rig.commit()
  await rig.build()
  expect(await rig.ok('log', '20_b')).toBe('left\nheld\n')
  expect(rig.processes(marker)).toEqual([])
})

rigTest('a failure, a kill and a disk without a root: no snapshot, and nothing left behind', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': modify('echo broken >&2; exit 5'), '20_b': 'true' })
  rig.commit()
  const failing = await rig.vlb(['build'])
  expect([failing.code, failing.stderr]).toEqual([1, expect.stringContaining('10_a/modify-disk ended with status 5')])
  expect(await rig.ok('log')).toBe('broken\n')

  rig.write({ '10_a/modify-disk': '#!/bin/sh\ndd if=/dev/zero of="$3" bs=1M count=1 status=none\n' })
  const wiped = await rig.vlb(['build'])
  expect([wiped.code, wiped.stderr]).toEqual([2, expect.stringContaining('the disk that 10_a left: no partition')])

  rig.write({
    '10_a/modify-disk': `#!/bin/sh\nmount -t ext4 "$VLB_PARTITION_1" /mnt\n${hold.line.replace('nc', 'busybox nc')}\n`,
  })
  const held = rig.start(['build'])
  await hold.reached()
  held.kill('SIGKILL')
  await held.ended
  expect(await rig.leaks()).toEqual([])

  rig.write({ '10_a/modify-disk': '#!/bin/sh\ntrue\n' })
  expect(await rig.build()).toEqual(['10_a built', '20_b built'])
})

rigTest('not executable, two scripts, directives that mean nothing there: refused', async (rig) => {
  rig.project({ '10_a': modify('true') })
  chmodSync(rig.path('10_a/modify-disk'), 0o644)
  expect((await rig.vlb(['build'])).stderr).toContain('10_a/modify-disk is not executable')
  chmodSync(rig.path('10_a/modify-disk'), 0o755)
  rig.write({ '10_a/build-layer': '#!/bin/sh\n' })
  expect((await rig.vlb(['build'])).stderr).toContain('10_a holds two scripts')
  rig.tool('rm', rig.path('10_a/build-layer'))
  for (const directive of ['bind a /b', 'mount 1 /b', 'network none', 'secret x', 'cache /x', 'hostname x']) {
    writeFileSync(rig.path('10_a/modify-disk'), `#!/bin/sh\n# vlb: ${directive}\n`)
    const ran = await rig.vlb(['build'])
    const name = directive.split(' ')[0]
    expect([ran.code, ran.stderr], directive).toEqual([
      2,
      expect.stringContaining(`"# vlb: ${name}" is for build-layer`),
    ])
  }
})
