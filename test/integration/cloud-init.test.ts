// `git vlb cloud-init`: seed disks by each of the programs that make them, read back by other tools.
import { chmodSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Need } from '../rig/need.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const makers = ['xorriso', 'genisoimage', 'mformat'] as const
const needs: Need[] = ['tool:xorriso', 'tool:genisoimage', 'tool:mformat', 'tool:mcopy', 'tool:blkid']

const userData = `#cloud-config\nhostname: web1\n${'# long\n'.repeat(3000)}`

function project(rig: Rig, files: Record<string, string> = {}): void {
  rig.write({ 'vlb.yaml': 'version: 1\nbase: { path: tiny.raw }\n', '10_a/build-layer': '#!/bin/sh\ntrue\n', ...files })
}

/** A PATH on which of the makers there is this one alone. */
function only(rig: Rig, maker: string): { PATH: string } {
  const folder = join(rig.folder, `with-${maker}`)
  mkdirSync(folder)
  const tools = ['sh', 'cat', 'rm', 'git', 'flock', 'setpriv', 'mcopy', maker]
  for (const name of tools) {
    const path = rig.tool('sh', '-c', 'command -v "$1"', 'sh', name).trim()
    symlinkSync(path, join(folder, name))
  }
  return { PATH: folder }
}

function read(rig: Rig, seed: string, format: string, name: string): string {
  if (format === 'vfat') return rig.tool('mtype', '-i', seed, `::${name}`)
  return rig.tool('isoinfo', '-R', '-i', seed, '-x', `/${name}`)
}

for (const maker of makers) {
  rigTest(
    `a seed made by ${maker} has the label and the files as they were`,
    async (rig) => {
      project(rig, {
        'cloud-init/user-data': userData,
        'cloud-init/network-config.yaml': 'version: 2\nethernets: {}\n',
      })
      // Programs in /usr/sbin are found whatever PATH says, but none of these lies there.
      const ran = await rig.vlb(['cloud-init', '--json', '--no-schema'], { env: only(rig, maker) })
      expect(ran.code, ran.all).toBe(0)
      const seed = JSON.parse(ran.stdout)
      const files = ['user-data', 'meta-data', 'network-config']
      const format = maker === 'mformat' ? 'vfat' : 'iso'
      expect(seed).toMatchObject({ format, files, path: rig.path(`build/seed.${maker === 'mformat' ? 'img' : 'iso'}`) })
      const probe = rig.tool('blkid', '-p', '-o', 'export', seed.path)
      expect(probe).toMatch(/^LABEL=cidata$/im)
      expect(probe).toMatch(maker === 'mformat' ? /^TYPE=vfat$/m : /^TYPE=iso9660$/m)
      expect(read(rig, seed.path, format, 'user-data')).toBe(userData)
      expect(read(rig, seed.path, format, 'meta-data')).toBe(`instance-id: ${seed.instanceId}\n`)
      expect(read(rig, seed.path, format, 'network-config')).toBe('version: 2\nethernets: {}\n')
      expect(readdirSync(rig.path('build'))).toEqual([seed.path.split('/').at(-1)])
    },
    [...needs, 'tool:isoinfo', 'tool:mtype'],
  )
}

rigTest(
  'what is wrong is said with file and line, and the seed from before stays',
  async (rig) => {
    project(rig)
    const none = await rig.vlb(['cloud-init'])
    expect(none.code).toBe(2)
    expect(none.stderr).toMatch(/there is no folder cloud-init\//)
    rig.write({ 'cloud-init/user-data.yaml': '#cloud-config\nhostname: a\n' })
    expect(await rig.ok('cloud-init', '-o', 'out/my seed.iso')).toMatch(/^seed out\/my seed\.iso {2}/)
    const before = rig.read('out/my seed.iso')
    rig.write({ 'cloud-init/user-data.yaml': '#cloud-config\nhostname: a\nhostname: b\n' })
    const broken = await rig.vlb(['cloud-init', '-o', 'out/my seed.iso'])
    expect(broken.code).toBe(2)
    expect(broken.stderr).toMatch(/cloud-init\/user-data\.yaml:3:1: /)
    expect(rig.read('out/my seed.iso')).toBe(before)
    rig.write({ 'cloud-init/user-data.yaml': '#cloud-config\n' })
    expect((await rig.vlb(['cloud-init', '-o', 'out'])).stderr).toMatch(/which is a folder/)
    expect((await rig.vlb(['cloud-init', '-o', 'cloud-init/x'])).stderr).toMatch(/lies among the files/)
    symlinkSync('/etc/passwd', rig.path('cloud-init/meta-data'))
    expect((await rig.vlb(['cloud-init'])).stderr).toMatch(/cloud-init\/meta-data is no regular file/)
  },
  needs,
)

rigTest(
  "cloud-init's own schema decides where it is installed, unless told not to; without a program, the package is named",
  async (rig) => {
    project(rig, { 'cloud-init/user-data': '#cloud-config\nhostnam: a\n' })
    const { PATH } = only(rig, 'xorriso')
    const fake = '#!/bin/sh\ncat "$3" >/dev/null && echo "Error: $3: hostnam was unexpected" >&2\nexit 1\n'
    writeFileSync(join(PATH, 'cloud-init'), fake)
    chmodSync(join(PATH, 'cloud-init'), 0o755)
    const ran = await rig.vlb(['cloud-init'], { env: { PATH } })
    expect(ran.code).toBe(2)
    expect(ran.stderr).toMatch(/finds fault with cloud-init\/user-data:\n +Error: cloud-init\/user-data: hostnam was/)
    expect((await rig.vlb(['cloud-init', '--no-schema'], { env: { PATH } })).code).toBe(0)
    const lacking = await rig.vlb(['cloud-init'], { env: only(rig, 'true') })
    expect(lacking.code).toBe(3)
    expect(lacking.stderr).toMatch(/none of xorriso, genisoimage, mkisofs, mformat is installed[\s\S]*hint: .*xorriso/)
  },
  needs,
)
