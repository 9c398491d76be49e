// Images for another kind of machine: run through binfmt_misc where qemu-user is registered, else refused with a hint.
import { execFileSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

const needs = ['root', 'fuse', 'loop', 'tool:mmdebstrap', 'tool:update-binfmts', 'tool:qemu-aarch64-static'] as const
const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` }
const run = (tool: string, ...args: string[]) => execFileSync(tool, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
const place = '/proc/sys/fs/binfmt_misc'

/** A project whose base is for arm64: Debian's own busybox of that architecture, unpacked and never run on this host. */
function armProject(rig: Rig): void {
  const folder = `${rig.folder}/arm`
  run(
    'mmdebstrap',
    '--quiet',
    '--architectures=arm64',
    '--variant=extract',
    '--include=busybox-static',
    'bookworm',
    folder,
  )
  rig.project({ '10_a': 'uname -m >/machine; ls / | wc -l >/count' })
  tinyDisk(rig.path('tiny.raw'), { prepare: (root) => cpSync(`${folder}/bin/busybox`, `${root}/bin/busybox`) })
}

/** With qemu-user registered for arm64, or surely not, as it was before afterwards. */
async function withEmulator(registered: boolean, work: () => Promise<void>): Promise<void> {
  const isMounted = () =>
    execFileSync('findmnt', ['--noheadings', '--types', 'binfmt_misc', '--output', 'TARGET', place], {
      encoding: 'utf8',
    })
  let mounted = true
  try {
    isMounted()
  } catch {
    mounted = false
    run('mount', '-t', 'binfmt_misc', 'binfmt_misc', place)
  }
  try {
    run('update-binfmts', registered ? '--enable' : '--disable', 'qemu-aarch64')
    await work()
    if (!mounted) run('update-binfmts', '--disable', 'qemu-aarch64')
  } finally {
    if (!mounted) run('umount', place)
    else run('update-binfmts', '--enable', 'qemu-aarch64')
  }
}

rigTest(
  'an arm64 image on another host: refused with the package to install, then built through qemu-user',
  async (rig) => {
    armProject(rig)
    await withEmulator(false, async () => {
      const refused = await rig.vlb(['build'])
      expect(refused.code, refused.all).toBe(3)
      expect(refused.stderr).toMatch(/the image is for aarch64, and this \S+ host knows no program to run it with/)
      expect(refused.stderr).toContain('qemu-user-static')
    })
    await withEmulator(true, async () => {
      const built = await rig.vlb(['build'])
      expect(built.code, built.all).toBe(0)
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/machine')).toBe('aarch64\n')
    })
  },
  process.arch === 'arm64' ? [...needs, 'tool:not-on-arm64'] : needs,
)
