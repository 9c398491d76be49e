// `git bisect run git vlb test-boot --bisect`: real bisects, real boots of a guest that is a boot sector only.
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, inject } from 'vitest'
import { bootSector } from '../rig/boot-sector.ts'
import type { Need } from '../rig/need.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:qemu-img', 'tool:qemu-storage-daemon', 'tool:qemu-system-x86_64']
const folder = 'images/web'

/** A folder of PATH with `git vlb`, and a qemu that writes down each start. */
function bin(rig: Rig): string {
  const path = join(rig.folder, 'bin')
  mkdirSync(path, { recursive: true })
  const qemu = rig.tool('sh', '-c', 'command -v qemu-system-x86_64').trim()
  const script = (name: string, text: string) => {
    writeFileSync(join(path, name), `#!/bin/sh\n${text}\n`)
    chmodSync(join(path, name), 0o755)
  }
  script('git-vlb', `exec ${rig.command} "$@"`)
  script('qemu-system-x86_64', `echo boot >>'${rig.folder}/boots'\nexec ${qemu} "$@"`)
  return path
}

function boots(rig: Rig): number {
  const file = join(rig.folder, 'boots')
  const count = existsSync(file) ? readFileSync(file, 'utf8').split('\n').length - 1 : 0
  writeFileSync(file, '')
  return count
}

/** A project in a subfolder, whose first layer decides what the guest says on its console. */
function project(rig: Rig): void {
  const { sector, textAt } = bootSector('nothing\r\n', 'powerOff')
  mkdirSync(rig.path(folder), { recursive: true })
  cpSync(inject('tinyDisk'), rig.path(folder, 'tiny.raw'))
  const disk = openSync(rig.path(folder, 'tiny.raw'), 'r+')
  writeSync(disk, sector, 0, 440, 0)
  const write = `#!/bin/sh\nprintf '%s\\r\\n\\0' "$(cat text)" | dd of="$3" bs=512 seek=${textAt} oflag=seek_bytes conv=notrunc,fsync\n`
  rig.write({
    [`${folder}/vlb.yaml`]: 'version: 1\nbase: { path: tiny.raw }\n',
    '.gitignore': 'build/\ntiny.raw\n',
    [`${folder}/10_console/modify-disk`]: write,
    [`${folder}/10_console/text`]: 'web login:',
    [`${folder}/20_app/build-layer`]: '#!/bin/sh\ntrue\n',
  })
  rig.git('config', 'vlb.accel', 'tcg')
}

function git(rig: Rig, ...args: string[]): string {
  const env = { ...rig.env, PATH: `${bin(rig)}:${rig.env['PATH']}` }
  return execFileSync('git', args, { cwd: rig.repo, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

const testBoot = ['test-boot', '-C', folder, '--bisect', '--expect', 'login:', '--timeout', '60s']

rigTest(
  'a bisect over 16 commits boots at most 5 images, skips what cannot be built, and builds nothing twice',
  async (rig) => {
    project(rig)
    rig.commit('0')
    for (let i = 1; i <= 16; i++) {
      // The first that git will try cannot be built.
      rig.write({ [`${folder}/20_app/build-layer`]: `#!/bin/sh\n${i === 8 ? 'exit 1' : `echo ${i} >/app`}\n` })
      if (i === 11) rig.write({ [`${folder}/10_console/text`]: 'Kernel panic' })
      rig.commit(String(i))
    }
    const search = () => {
      git(rig, 'bisect', 'start', 'HEAD', 'HEAD~16')
      const said = git(rig, 'bisect', 'run', 'git', 'vlb', ...testBoot)
      git(rig, 'bisect', 'reset')
      return said
    }
    const bad = rig.git('rev-parse', 'HEAD~5').trim()
    expect(search()).toContain(`${bad} is the first bad commit`)
    const first = boots(rig)
    expect(first).toBeGreaterThan(1)
    expect(first).toBeLessThanOrEqual(5)
    const snapshots = readdirSync(rig.store('snapshots')).sort()
    expect(search()).toContain(`${bad} is the first bad commit`)
    expect(boots(rig)).toBe(first)
    expect(readdirSync(rig.store('snapshots')).sort()).toEqual(snapshots)
    expect(rig.git('status', '--porcelain')).toBe('')
  },
  needs,
)

describe('the status of test-boot --bisect', () => {
  rigTest(
    '0 and 1 are verdicts on images that were booted, 125 on a commit that cannot be built',
    async (rig) => {
      project(rig)
      rig.commit()
      const status = async (...more: string[]) => (await rig.vlb([...testBoot, ...more])).code
      expect(await status()).toBe(0)
      rig.write({ [`${folder}/10_console/text`]: 'Kernel panic' })
      expect(await status()).toBe(1)
      const broken = async (name: string, text: string) => {
        const before = rig.read(folder, name)
        rig.write({ [`${folder}/${name}`]: text })
        const code = await status()
        rig.write({ [`${folder}/${name}`]: before })
        return code
      }
      expect(await broken('20_app/build-layer', '#!/bin/sh\nexit 3\n'), 'a script that fails').toBe(125)
      expect(await broken('20_app/build-layer', '#!/bin/sh\n# vlb: colour red\n'), 'a directive').toBe(125)
      expect(await broken('vlb.yaml', 'version: 7\n'), 'vlb.yaml').toBe(125)
      expect((await rig.vlb(['test-boot', '--bisect', '--expect', 'x'])).code, 'no project').toBe(125)
      const gone = testBoot.map((arg) => (arg === folder ? 'images/not-yet' : arg))
      expect((await rig.vlb(gone)).code, 'no folder').toBe(125)
    },
    needs,
  )

  rigTest(
    'above 127 for all that says nothing about the commit, so that the search ends there',
    async (rig) => {
      project(rig)
      rig.commit()
      const status = async (args: string[], env = {}) => (await rig.vlb(args, { env })).code
      const without = testBoot.filter((arg) => !['--expect', 'login:'].includes(arg))
      expect(await status(without), 'nothing to expect').toBe(128)
      expect(await status([...without, '--expect', '(']), 'no regular expression').toBe(128)
      expect(await status([...testBoot, '--expcet', 'x']), 'no such option').toBe(128)
      expect(await status([...testBoot, 'v99']), 'no such revision').toBe(128)
      const late = join(rig.folder, 'late.cjs')
      writeFileSync(late, 'setTimeout(() => { throw new Error("nobody catches this") }, 300)')
      expect(await status(testBoot, { NODE_OPTIONS: `--require ${late}` }), 'a bug').toBe(128)
      const path = bin(rig)
      writeFileSync(join(path, 'qemu-system-x86_64'), '#!/bin/sh\necho "cannot start" >&2\nexit 1\n')
      expect(await status(testBoot, { PATH: `${path}:${rig.env['PATH']}` }), 'a qemu that fails').toBe(128)
      // The guest itself is done sooner than a signal comes.
      writeFileSync(join(path, 'qemu-system-x86_64'), '#!/bin/sh\nexec sleep 60\n')
      const running = rig.start(testBoot, { env: { PATH: `${path}:${rig.env['PATH']}` } })
      setTimeout(() => running.kill('SIGTERM'), 300)
      expect((await running.ended).code, 'ended by a signal').toBeGreaterThanOrEqual(128)
      rig.write({ [`${folder}/20_app/build-layer`]: '#!/bin/sh\n# vlb: env NAME\necho $NAME\n' })
      expect(await status(testBoot), 'a value that was not given').toBe(128)
      expect(await status([...testBoot, '--env', 'NAME=x']), 'given').toBe(0)
      rig.git('checkout', '-q', '.')
      expect(await status([...testBoot, '--env', 'NAME=x']), 'given, but not declared in this commit').toBe(0)
    },
    needs,
  )
})
