// One store for several: for containers that do not see each other's processes, and for the users of a group.
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

/** As in a container: a PID namespace of its own, which ends with its first process. */
const contained = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', '--']

rigTest('containers do not sweep away what others work with, and wait for each other', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `${hold.line}\necho a > /a`, '20_b': 'echo b > /b' })
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.layer('10_a', 'true')
  rig.commit()
  rig.git('checkout', '--quiet', 'main')
  const one = rig.start(['build', '-o', rig.path('build/one.qcow2')], { by: contained })
  await hold.reached()
  const scratch = readdirSync(rig.store('tmp'))
  expect(scratch.length).toBeGreaterThan(1)
  const two = rig.start(['build', '-o', rig.path('build/two.qcow2')], { by: contained })
  await two.says('waiting for pid')
  // Every build sweeps first: one of another container, and one that sees the processes of all.
  for (const by of [contained, []]) {
    const other = await rig.vlb(['build', 'other', '-o', rig.path('build/other.qcow2')], { by })
    expect(other.code, other.all).toBe(0)
    expect(readdirSync(rig.store('tmp'))).toEqual(expect.arrayContaining(scratch))
  }
  hold.release()
  for (const ran of await Promise.all([one.ended, two.ended])) expect(ran.code, ran.all).toBe(0)
  expect(hold.calls).toBe(1)
  expect(rig.readFromImage(rig.path('build/two.qcow2'), '/a')).toBe('a\n')
})

rigTest(
  'whoever sweeps at the moment in which scratch folders get their owner does not take them for left ones',
  async (rig) => {
    const hold = await rig.hold()
    rig.project({ '10_a': hold.line })
    rig.commit()
    // The first time, as if somebody who sweeps had the lock just then.
    const shims = join(rig.folder, 'shims')
    mkdirSync(shims)
    const once = `case "$*" in *' 3') [ -e "$0.done" ] || { touch "$0.done"; exit 75; } ;; esac`
    writeFileSync(join(shims, 'flock'), `#!/bin/sh\n${once}\nexec /usr/bin/flock "$@"\n`, { mode: 0o755 })
    const running = rig.start(['build'], { env: { PATH: `${shims}:${rig.env['PATH']}` } })
    await hold.reached()
    const folders = readdirSync(rig.store('tmp')).filter((name) => !name.endsWith('.lock'))
    expect(folders.length).toBeGreaterThan(0)
    for (const name of folders) {
      const lock = rig.store('tmp', `${name.slice(0, name.lastIndexOf('-'))}.lock`)
      expect(() => rig.tool('flock', '--nonblock', lock, 'true'), lock).toThrow()
    }
    hold.release()
    expect((await running.ended).code).toBe(0)
  },
)

rigTest('a container ends at once with all in it: the next build sweeps', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': hold.line })
  rig.commit()
  const running = rig.start(['build'], { by: contained })
  await hold.reached()
  // The janitor, too.
  running.kill('SIGKILL')
  await running.ended
  expect(readdirSync(rig.store('tmp'))).not.toEqual([])
  hold.release()
  expect(await rig.build()).toEqual(['10_a built'])
})

const group = 'vlb-test-group'
const names = ['vlb-test-one', 'vlb-test-two'] as const
const rule = '/etc/sudoers.d/git-vlb-test-group'

/** One of the users of a group, with a clone of the repository; the store is that of the group. */
interface Member {
  rig: Rig
  folder: string
  by: string[]
}

function account(...command: string[]): void {
  const [tool = '', ...args] = command
  execFileSync(tool, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
}

function removeAccounts(): void {
  rmSync(rule, { force: true })
  for (const [tool, name] of [...names.map((user) => ['userdel', user]), ['groupdel', group]] as const) {
    try {
      account(tool ?? '', name ?? '')
    } catch {
      // It was not there.
    }
  }
}

function clone(rig: Rig, name: string, user: string, umask: string): Member {
  const folder = join(rig.folder, name)
  rig.git('clone', '--quiet', rig.repo, folder)
  rig.tool('cp', rig.path('tiny.raw'), folder)
  rig.tool('git', '-C', folder, 'config', 'vlb.store', join(rig.folder, 'store'))
  mkdirSync(join(folder, 'home'))
  writeFileSync(join(folder, '.git/info/exclude'), '/home\n')
  rig.tool('chown', '-R', `${user}:`, folder)
  const by = ['sh', '-c', `umask ${umask}; exec "$@"`, 'sh', 'setpriv']
  const ids = user === 'root' ? [] : [`--reuid=${user}`, `--regid=${user}`, '--init-groups']
  return { rig, folder, by: [...by, ...ids, '--'] }
}

function vlb({ rig, folder, by }: Member, ...args: string[]) {
  return rig.start(args, { cwd: folder, by, env: { HOME: join(folder, 'home'), USER: '' } })
}

async function results(member: Member, ...args: string[]): Promise<string[]> {
  const ran = await vlb(member, 'build', '--json', ...args).ended
  expect(ran.code, ran.all).toBe(0)
  return JSON.parse(ran.stdout).layers.map((l: { name: string; result: string }) => `${l.name} ${l.result}`)
}

/** What in the store is not the group's as much as its owner's. */
function withheld(rig: Rig): string[] {
  const store = join(rig.folder, 'store')
  const wrong = [
    '!',
    '-group',
    group,
    '-o',
    '-type',
    'd',
    '!',
    '-perm',
    '-2070',
    '-o',
    '-type',
    'f',
    '!',
    '-perm',
    '-040',
  ]
  // When something was last used is asked for, not read.
  return rig
    .tool('find', store, '-path', join(store, 'used', '*'), '-o', '(', ...wrong, ')', '-print')
    .split('\n')
    .filter((line) => line !== '')
}

rigTest(
  'users of a group share a store, root among them: whatever one made, the others build on, replace and remove',
  async (rig) => {
    const hold = await rig.hold()
    rig.project({ '10_a': '# vlb: cache /var/cache/apt\necho a > /a; echo x > /var/cache/apt/x', '20_b': 'cp /a /b' })
    rig.commit()
    chmodSync(rig.folder, 0o755)
    chmodSync(rig.temporary, 0o1777)
    removeAccounts()
    try {
      account('groupadd', group)
      for (const user of names) account('useradd', '--no-create-home', '--user-group', '--groups', group, user)
      writeFileSync(rule, `%${group} ALL=(root) NOPASSWD: ALL\n`, { mode: 0o440 })
      const store = join(rig.folder, 'store')
      mkdirSync(store)
      rig.tool('chgrp', group, store)
      rig.tool('chmod', '2775', store)
      const one = clone(rig, 'one', names[0], '077')
      const two = clone(rig, 'two', names[1], '022')
      const root = clone(rig, 'root', 'root', '027')

      expect(await results(one)).toEqual(['10_a built', '20_b built'])
      expect(withheld(rig)).toEqual([])
      expect(await results(two)).toEqual(['10_a cached', '20_b cached'])
      expect(await results(root)).toEqual(['10_a cached', '20_b cached'])
      expect(rig.readFromImage(join(two.folder, 'build/image.qcow2'), '/b')).toBe('a\n')
      // The image is its user's alone, in a folder of theirs.
      expect(rig.tool('stat', '-c', '%a %U', join(one.folder, 'build/image.qcow2'))).toBe(`600 ${names[0]}\n`)

      expect(await results(root, '--rebuild', '20_b')).toEqual(['10_a cached', '20_b built'])
      expect(await results(one, '--rebuild', '10_a')).toEqual(['10_a built', '20_b built'])
      expect(await results(two)).toEqual(['10_a cached', '20_b cached'])
      expect(withheld(rig)).toEqual([])

      // Damage to what another made: dropped, and built anew.
      for (const id of readdirSync(join(store, 'snapshots')))
        rig.tool('truncate', '-s', '4096', join(store, 'snapshots', id, 'layer.qcow2'))
      expect(await results(two)).toEqual(['10_a built', '20_b built'])

      // The same failure, of one after the other.
      for (const { folder } of [one, two, root]) {
        mkdirSync(join(folder, '30_c/sub'), { recursive: true })
        writeFileSync(join(folder, '30_c/build-layer'), '#!/bin/sh\necho broken\nexit 3\n', { mode: 0o755 })
        writeFileSync(join(folder, '30_c/sub/file'), 'x')
        chmodSync(join(folder, '30_c'), 0o755)
      }
      for (const member of [one, root, two]) {
        expect((await vlb(member, 'build').ended).code).toBe(1)
        expect((await vlb(one, 'log', '30_c').ended).stdout).toBe('broken\n')
        expect(withheld(rig)).toEqual([])
      }

      // At the same time: built once.
      for (const { folder } of [one, two, root])
        writeFileSync(join(folder, '30_c/build-layer'), `#!/bin/sh\n${hold.line}\necho c > /c\n`, { mode: 0o755 })
      const first = vlb(one, 'build')
      await hold.reached()
      const others = [vlb(two, 'build'), vlb(root, 'build')]
      for (const other of others) await other.says('30_c: waiting for pid')
      hold.release()
      for (const ran of await Promise.all([first, ...others].map((running) => running.ended)))
        expect(ran.code, ran.all).toBe(0)
      expect(hold.calls).toBe(1)
      for (const { folder } of [one, two, root])
        expect(rig.readFromImage(join(folder, 'build/image.qcow2'), '/c')).toBe('c\n')

      // What one who died leaves keeps nobody from building, and is gone with their own next build at the latest.
      hold.close()
      for (const { folder } of [one, two])
        writeFileSync(join(folder, '30_c/build-layer'), `#!/bin/sh\n${hold.line}\necho d > /c\n`, { mode: 0o755 })
      const dying = vlb(one, 'build')
      await hold.reached()
      for (const pid of rig.processes('git-vlb-janitor')) process.kill(Number(pid), 'SIGKILL')
      dying.kill('SIGKILL')
      await dying.ended
      hold.release()
      expect(await results(two)).toEqual(['10_a cached', '20_b cached', '30_c built'])
      expect(await results(one)).toEqual(['10_a cached', '20_b cached', '30_c cached'])
      expect(readdirSync(join(store, 'tmp'))).toEqual([])
      expect(withheld(rig)).toEqual([])
    } finally {
      await rig.idle()
      removeAccounts()
    }
  },
  ['root', 'fuse', 'loop', 'tool:sudo', 'tool:useradd', 'tool:setpriv', 'tool:busybox', 'tool:mke2fs'],
)

rigTest('a set-user-id program that a script puts into a cache is out of reach of other users', async (rig) => {
  const script = '# vlb: cache /var/cache/x\ncp /bin/busybox /var/cache/x/it && chmod 4755 /var/cache/x/it'
  rig.project({ '10_a': script })
  rig.commit()
  // As with a repository below a home folder that others may look into.
  rig.tool('chmod', '755', rig.folder)
  const asNobody = (path: string) => () =>
    rig.tool('setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--', 'ls', path)
  await rig.build()
  const program = rig.tool('find', rig.store('caches'), '-perm', '-4000').trim()
  expect(program).toContain('/it')
  asNobody(rig.repo)()
  expect(asNobody(program)).toThrow()
  // What an earlier git vlb laid out is closed by the next build.
  for (const folder of ['caches', 'tmp']) chmodSync(rig.store(folder), 0o755)
  asNobody(program)()
  rig.layer('20_b', 'true')
  await rig.build()
  expect(asNobody(program)).toThrow()
  expect(asNobody(rig.store('tmp'))).toThrow()
})
