// An image that has files ready for the programs of the host that still run when it has become the root: none is taken.
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect } from 'vitest'
import { leavesHostAlone } from '../rig/host-state.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

/** Builds a layer that only ends well, on one whose script this is; returns its log. */
async function logAbove(rig: Rig, script: string): Promise<string> {
  rig.project({ '10_a': script, '20_b': 'echo nothing done' })
  rig.commit()
  await leavesHostAlone(async () => await rig.ok('build'))
  return await rig.ok('log', '20_b')
}

rigTest('helpers of umount(8) for file systems of any type', async (rig) => {
  const marker = join(rig.folder, 'marker')
  const root = rig.tool('findmnt', '--noheadings', '--output', 'FSTYPE', '/').trim()
  const types = ['ext4', 'xfs', 'btrfs', 'overlay', 'tmpfs', 'fuse', 'nfs', root]
  const helper = `#!/bin/sh\ntouch /mnt${marker} ${marker}; touch /taken\n`
  const places = types.flatMap((type) => [`/sbin/umount.${type}`, `/usr/sbin/umount.${type}`])
  const script = places.map((place) => `mkdir -p \${0%/*} ${place.replace(/\/[^/]*$/, '')}\ncp /mnt/helper ${place}`)
  rig.layer('10_a', script.join('\n'))
  rig.write({ '10_a/helper': helper })
  rig.tool('chmod', '755', rig.path('10_a/helper'))
  await logAbove(rig, script.join('\n'))
  expect(existsSync(marker)).toBe(false)
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/taken')).toBe('')
})

rigTest('libraries that the dynamic loader is to load before all others', async (rig) => {
  // What it cannot load, it tells.
  const log = await logAbove(rig, 'echo /no/library.so > /etc/ld.so.preload')
  expect(log).toContain('nothing done')
  expect(log).not.toContain('no/library.so')
})

rigTest('a link to a list of such libraries that is a file of the host', async (rig) => {
  const list = join(rig.folder, 'list')
  writeFileSync(list, '/no/library.so\n')
  const log = await logAbove(rig, `ln -s /mnt${list} /etc/ld.so.preload`)
  expect(log).toContain('nothing done')
  expect(log).not.toContain('no/library.so')
})

rigTest('a host that cannot be left: that is told as what it is, and no script runs', async (rig) => {
  const fails = join(rig.folder, 'fails')
  writeFileSync(fails, '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  rig.project({ '10_a': 'echo ran' })
  rig.commit()
  const by = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" "$(command -v pivot_root)" && exec "$@"', fails]
  const ran = await rig.vlb(['build'], { by })
  expect(ran.code, ran.all).toBe(3)
  expect(ran.stderr).toMatch(/error: .*sandbox/)
  expect(await rig.vlb(['build'])).toMatchObject({ code: 0 })
})

rigTest('a host so slow that the program which unmounts it comes late', async (rig) => {
  const [slow, real] = [join(rig.folder, 'slow'), join(rig.folder, 'chroot')]
  copyFileSync(rig.tool('sh', '-c', 'command -v chroot').trim(), real)
  writeFileSync(slow, `#!/bin/sh\nsleep 0.5\nexec ${real} "$@"\n`, { mode: 0o755 })
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const by = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" "$(command -v chroot)" && exec "$@"', slow]
  const ran = await rig.vlb(['build'], { by })
  expect(ran.code, ran.all).toBe(0)
})

/** What perl takes, to be started from the layer's folder. */
function putPerl(rig: Rig, folder: string): string {
  const perl = rig.tool('sh', '-c', 'command -v perl').trim()
  const files = [perl, ...[...rig.tool('ldd', perl).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '')]
  for (const path of files) {
    mkdirSync(rig.path(folder, 'perl'), { recursive: true })
    copyFileSync(path, rig.path(folder, 'perl', basename(path)))
  }
  const loader = files.find((path) => /\/ld[^/]*$/.test(path)) ?? ''
  return `./perl/${basename(loader)} --library-path perl ./perl/perl`
}

const lent = 'cd /mnt; for device in /dev/vlb*; do [ -b $device ] || continue'

rigTest(
  'the devices that GRUB is lent cannot be written to, and go, whatever the kernel is told of them',
  async (rig) => {
    const before = rig.tool('losetup', '--list')
    rig.project({ '10_a': 'mkdir -p /usr/sbin; touch /usr/sbin/grub-probe', '20_b': '' })
    const perl = putPerl(rig, '20_b')
    // struct loop_info64 (linux/loop.h): the flags are at byte 52; LOOP_GET_STATUS64, LOOP_SET_STATUS64.
    writeFileSync(
      rig.path('20_b/stay.pl'),
      `open(my $f, "+<", $ARGV[0]) or die "open: $!"; my $status = "\\0" x 232; ioctl($f, 0x4C05, $status) or die "get: $!";
substr($status, 52, 4) = pack("L", 0); ioctl($f, 0x4C04, $status) and print "told\\n";`,
    )
    rig.layer(
      '20_b',
      `${lent}\n  dd if=$device bs=512 count=1 of=/dev/null && echo read\n  dd if=/dev/zero of=$device bs=512 count=1 && echo WRITTEN\n  ${perl} stay.pl $device\ndone; true`,
    )
    rig.commit()
    await rig.ok('build')
    const log = await rig.ok('log', '20_b')
    expect(log).toMatch(/^read$/m)
    expect(log).toMatch(/^told$/m)
    expect(log).not.toContain('WRITTEN')
    expect(rig.tool('losetup', '--list')).toBe(before)

    rig.layer('20_b', `${lent}\n  ${perl} stay.pl $device\ndone; echo waits; sleep 100`)
    const running = rig.start(['build'])
    await running.says('waits')
    running.kill('SIGKILL')
    await running.ended
    await expect.poll(() => rig.tool('losetup', '--list')).toBe(before)
  },
)
