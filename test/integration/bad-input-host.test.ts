// Hosts that lack something: a tool, a new enough one, root, or a store that can be written to. And an ordinary user with
// sudo, who can do everything.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { complains, refused } from '../rig/refused.ts'
import { type Ran, type Rig, rigTest } from '../rig/rig.ts'

/** A PATH with all that this host has, but for these. */
function pathWithout(rig: Rig, ...names: string[]): string {
  const folder = join(rig.folder, 'bin')
  mkdirSync(folder)
  for (const name of readdirSync('/usr/bin'))
    if (!names.includes(name)) symlinkSync(join('/usr/bin', name), join(folder, name))
  return folder
}

/** A PATH on which a script stands in front of a tool. */
function pathWith(rig: Rig, name: string, script: string): string {
  const folder = join(rig.folder, 'shims')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
  chmodSync(join(folder, name), 0o755)
  return `${folder}:${process.env['PATH']}`
}

describe('tools', () => {
  rigTest('one that is too old: doctor says so, and how to get another', async (rig) => {
    const PATH = pathWith(rig, 'qemu-img', 'echo "qemu-img version 5.2.0 (Debian 1:5.2+dfsg-11)"')
    const ran = await rig.vlb(['doctor'], { env: { PATH } })
    expect(ran.code, ran.all).toBe(3)
    expect(ran.stdout).toMatch(/^ *missing +qemu-img +5\.2\.0, needs 6\.0 /m)
    expect(ran.stdout).toMatch(/\nthis host cannot build images yet\ninstall what is missing: .*qemu-utils/)
  })

  rigTest('one that is missing: doctor says so, and every command that needs it', async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.commit()
    const env = { PATH: pathWithout(rig, 'qemu-img', 'qemu-storage-daemon') }
    const ran = await rig.vlb(['doctor', '--json'], { env })
    expect(ran.code).toBe(3)
    const { ok, missing, install } = JSON.parse(ran.stdout)
    expect(ok).toBe(false)
    expect(missing).toEqual(expect.arrayContaining(['qemu-img', 'qemu-storage-daemon']))
    expect(install).toEqual(expect.arrayContaining(['qemu-utils', 'qemu-system-common']))
    await refused(rig, ['build'], {
      env,
      status: 3,
      says: 'qemu-img is not installed',
      hint: ['install it:', 'qemu-utils'],
    })
    // What needs it not, works without.
    expect((await rig.vlb(['status'], { env })).code).toBe(0)
  })

  for (const [tool, name] of [
    ['git', 'git'],
    ['setpriv', 'util-linux'],
    ['flock', 'util-linux'],
  ] as const) {
    rigTest(`${tool} is missing`, async (rig) => {
      rig.project({ '10_a': 'true' })
      rig.commit()
      const env = { PATH: pathWithout(rig, tool) }
      await refused(rig, ['build'], { env, status: 3, says: `${tool} is not installed`, hint: ['install it:', name] })
    })
  }

  rigTest('nothing is missing', async (rig) => {
    const ran = await rig.vlb(['doctor'])
    expect(ran.code, ran.all).toBe(0)
    expect(ran.stdout).toContain('this host can build images')
  })
})

describe('the store', () => {
  rigTest('cannot be written to', async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.commit()
    rig.write({ '../file': 'not a folder' })
    rig.git('config', 'vlb.store', '../file/store')
    await refused(rig, ['build'], { status: 3, says: ['cannot write to', '/file/store'], hint: 'git config vlb.store' })
    expect((await rig.vlb(['status'])).code).toBe(0)
  })

  rigTest('was made by a later version', async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.commit()
    await rig.ok('build')
    writeFileSync(rig.store('format'), '99\n')
    await refused(rig, ['build'], { status: 4, says: ['the store', 'has format 99'], hint: 'vlb.store' })
  })
})

const nobody = 65534

/** Runs the program as a user that is not root, who owns all of the rig. */
function asUser(rig: Rig, args: string[], env: Record<string, string> = {}): Ran {
  const [node = '', program = ''] = rig.command.split(' ')
  const ids = [`--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups', '--']
  const { status, signal, stdout, stderr } = spawnSync('setpriv', [...ids, node, program, ...args], {
    cwd: rig.repo,
    env: { ...rig.env, ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return { code: status, signal, stdout, stderr, all: stdout + stderr }
}

function handOver(rig: Rig): void {
  rig.project({ '10_a': 'id -u > /who; echo a > /a', '20_b': 'echo b > /b' })
  rig.commit()
  rig.git('config', '--global', 'safe.directory', '*')
  rig.tool('chown', '-R', `${nobody}:${nobody}`, rig.folder)
}

describe('an ordinary user', () => {
  rigTest('without sudo', async (rig) => {
    handOver(rig)
    const env = { PATH: pathWithout(rig, 'sudo') }
    const expected = { status: 3, says: ['building needs root', 'there is no sudo'], hint: ['run as root', 'sudo'] }
    complains(asUser(rig, ['build'], env), expected)
    expect(readdirSync(rig.store('snapshots'))).toEqual([])
    expect(asUser(rig, ['status'], env).code).toBe(0)
    const doctor = asUser(rig, ['doctor'], env)
    expect(doctor.code).toBe(3)
    expect(doctor.stdout).toMatch(/missing +root +building needs root .*no sudo/)
  })

  rigTest('whom sudo asks for a password', async (rig) => {
    handOver(rig)
    const env = { PATH: pathWith(rig, 'sudo', 'echo "sudo: a password is required" >&2; exit 1') }
    const expected = { status: 3, says: ['building needs root', 'sudo asks for a password'], hint: ['NOPASSWD'] }
    complains(asUser(rig, ['build'], env), expected)
    expect(readdirSync(rig.store('snapshots'))).toEqual([])
  })

  rigTest('whose store belongs to somebody else', async (rig) => {
    handOver(rig)
    mkdirSync(rig.store(), { mode: 0o755 })
    const ran = asUser(rig, ['build'])
    const expected = { status: 3, says: ['cannot write to', rig.store()], hint: ['the right to write', 'vlb.store'] }
    complains(ran, expected)
    // Looking takes no writing, unless the objects of what is not committed have to lie somewhere.
    expect(asUser(rig, ['status']).code).toBe(0)
    rig.write({ '20_b/more': 'x' })
    complains(asUser(rig, ['status']), expected)
  })

  rigTest(
    'with sudo: builds, owns all that was made, and builds nothing twice',
    async (rig) => {
      handOver(rig)
      const rule = '/etc/sudoers.d/git-vlb-test'
      writeFileSync(rule, `#${nobody} ALL=(root) NOPASSWD: ALL\n`, { mode: 0o440 })
      try {
        const results = (ran: Ran) => {
          expect(ran.code, ran.all).toBe(0)
          return JSON.parse(ran.stdout).layers.map((l: { name: string; result: string }) => `${l.name} ${l.result}`)
        }
        expect(results(asUser(rig, ['build', '--json']))).toEqual(['10_a built', '20_b built'])
        expect(rig.readFromImage(rig.path('build/image.qcow2'), '/who')).toBe('0\n')
        expect(results(asUser(rig, ['build', '--json']))).toEqual(['10_a cached', '20_b cached'])
        rig.tool('chown', `${nobody}`, rig.folder)
        expect(rig.tool('find', rig.folder, '!', '-user', `${nobody}`)).toBe('')
        rig.layer('20_b', 'echo broken >&2; exit 3')
        rig.tool('chown', '-R', `${nobody}`, rig.path('20_b'))
        complains(asUser(rig, ['build']), {
          status: 1,
          says: '20_b/build-layer ended with status 3',
          hint: 'git vlb log',
        })
        expect(asUser(rig, ['log']).stdout).toContain('broken')
        expect(asUser(rig, ['doctor']).stdout).toMatch(/ok +root +sudo -n works/)
      } finally {
        rmSync(rule)
      }
    },
    ['root', 'fuse', 'loop', 'tool:sudo', 'tool:busybox', 'tool:mke2fs'],
  )
})
