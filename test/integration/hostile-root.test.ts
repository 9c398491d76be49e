// An image that has files ready for the programs of the host that still run when it has become the root: none is taken.
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
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
