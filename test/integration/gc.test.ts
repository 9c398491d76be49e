// git vlb gc: what goes, in which order, and what never goes.
import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

interface Gone {
  layer: string
  state: string
  bytes: number
  key: string
}

/** "layer state" of what goes, in its order. */
async function gc(rig: Rig, ...args: string[]): Promise<string[]> {
  const result = await rig.json('gc', ...args)
  return result.removed.map(({ layer, state }: Gone) => `${layer} ${state}`)
}

/** "layer state" of what the store holds, by name. */
async function held(rig: Rig): Promise<string[]> {
  const { snapshots } = await rig.json('cache', 'ls')
  return snapshots.map(({ layer, state }: Gone) => `${layer} ${state}`).sort()
}

/** As if it had been used last so many hours ago. */
function age(rig: Rig, id: string, hours: number): void {
  const at = Date.now() / 1000 - hours * 3600
  utimesSync(rig.store('used', id), at, at)
  utimesSync(rig.store('snapshots', id, 'manifest.json'), at, at)
}

async function keys(rig: Rig, ...args: string[]): Promise<Record<string, string>> {
  const { layers } = await rig.json('status', ...args)
  return Object.fromEntries(layers.map(({ name, key }: { name: string; key: string }) => [name, key]))
}

rigTest(
  'what nothing needs goes first, leaves before what they stand on; the rest stays within the budget',
  async (rig) => {
    rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b' })
    rig.commit()
    await rig.ok('build')
    rig.layer('20_b', 'echo dirty > /b')
    rig.layer('30_c', 'echo c > /c')
    await rig.ok('build')
    rig.git('checkout', '--quiet', '.')
    rmSync(rig.path('30_c'), { recursive: true })
    expect(await held(rig)).toEqual(['10_a needed', '20_b needed', '20_b unneeded', '30_c unneeded'])
    expect(await gc(rig)).toEqual([])
    expect(await gc(rig, '--prune', '--dry-run')).toEqual(['30_c unneeded', '20_b unneeded'])
    expect(await gc(rig, '--prune')).toEqual(['30_c unneeded', '20_b unneeded'])
    expect(await held(rig)).toEqual(['10_a needed', '20_b needed'])
    expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
    expect(readdirSync(rig.store('graves'))).toEqual([])
  },
)

rigTest('the budget wins: needed ones go by last use, and are built again when they are wanted', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  for (const [i, branch] of ['one', 'two', 'three'].entries()) {
    rig.git('checkout', '--quiet', '-b', branch, 'main')
    rig.layer('20_b', `echo ${branch} > /b`)
    rig.commit()
    await rig.ok('build')
    age(rig, (await keys(rig))['20_b'] ?? '', [3, 5, 4][i] ?? 0)
  }
  rig.git('checkout', '--quiet', 'main')
  const all = await rig.json('gc', '--dry-run', '--budget', '0')
  const order = (key: string) => all.removed.findIndex((one: Gone) => one.key === key)
  const tops = await Promise.all(
    ['two', 'three', 'one'].map(async (name) => order((await keys(rig, name))['20_b'] ?? '')),
  )
  expect(tops).toEqual([0, 1, 2])
  expect(all.removed.map(({ layer }: Gone) => layer)).toEqual(['20_b', '20_b', '20_b', '10_a'])
  const { keptBytes } = await rig.json('gc', '--budget', 'none')
  const first = await rig.json('gc', '--budget', String(keptBytes - 1))
  expect(first.removed.map(({ key }: Gone) => key)).toEqual([all.removed[0].key])
  expect(first.keptBytes).toBeLessThan(keptBytes)
  expect(first.budgetBytes).toBe(keptBytes - 1)
  // A use changes the order.
  await rig.ok('build', 'three', '--no-flatten')
  const next = await rig.json('gc', '--dry-run', '--budget', String(first.keptBytes - 1))
  expect(next.removed.map(({ key }: Gone) => key)).toEqual([(await keys(rig, 'one'))['20_b']])
  expect(await gc(rig, '--budget', '0')).toHaveLength(3)
  expect((await rig.json('status')).store.bytes).toBeLessThan(2 ** 20)
  expect(await rig.build('two')).toEqual(['10_a built', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image-two.qcow2'), '/b')).toBe('two\n')
})

rigTest('branches, remote-tracking ones, tags, stashes and working trees keep what they need', async (rig) => {
  const layer = (text: string) => rig.layer('20_b', `echo ${text} > /b`)
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const build = async (text: string) => {
    layer(text)
    await rig.ok('build')
  }
  await build('tag')
  rig.commit()
  rig.git('tag', '-a', '-m', 'x', 'v1')
  await build('remote')
  rig.commit()
  rig.git('update-ref', 'refs/remotes/origin/topic', 'HEAD')
  rig.git('checkout', '--quiet', '-b', 'side')
  await build('side')
  rig.commit()
  await build('stash')
  rig.write({ '20_b/more': 'untracked' })
  await rig.ok('build')
  rig.git('stash', '--include-untracked', '--quiet')
  const linked = join(rig.folder, 'linked')
  rig.git('worktree', 'add', '--quiet', '--detach', linked, 'main~2')
  symlinkSync(rig.path('tiny.raw'), join(linked, 'tiny.raw'))
  mkdirSync(join(linked, '20_b'))
  writeFileSync(join(linked, '20_b/build-layer'), '#!/bin/sh\necho worktree > /b\n', { mode: 0o755 })
  expect((await rig.vlb(['build'], { cwd: linked })).code).toBe(0)
  rig.git('checkout', '--quiet', 'main')
  rig.git('reset', '--quiet', '--hard', 'main~1')
  await build('gone')
  rig.git('checkout', '--quiet', '.')
  const { snapshots } = await rig.json('cache', 'ls')
  const why = snapshots
    .filter(({ layer: name }: Gone) => name === '20_b')
    .map(({ state, keptBy: [kept] }: Gone & { keptBy: { kind: string; name: string }[] }) =>
      `${state} ${kept ? `${kept.kind} ${kept.name}` : ''}`.trim(),
    )
  expect(why.sort()).toEqual([
    'needed branch main',
    'needed branch side',
    'needed remote origin/topic',
    'needed stash stash@{0}',
    `needed worktree ${linked}`,
    'unneeded',
    'unneeded',
  ])
  expect(await gc(rig, '--prune')).toEqual(['20_b unneeded', '20_b unneeded'])
  const text = await rig.ok('cache', 'ls', '--why', '20_b')
  expect(text).toMatch(/stash stash@\{0\} in /)
  expect(text).toMatch(/tag v1/)
  rig.git('stash', 'drop', '--quiet')
  rig.git('worktree', 'remove', '--force', linked)
  rig.git('branch', '--quiet', '-D', 'side')
  rig.git('update-ref', '-d', 'refs/remotes/origin/topic')
  // What was built of a clean commit has a record, which says for which commit.
  const gone = await gc(rig, '--budget', '0', '--dry-run')
  expect(gone.slice(0, 2).sort()).toEqual(['20_b unneeded', '20_b unneeded'])
  expect(await gc(rig, '--prune')).toHaveLength(4)
})

rigTest('values of --env: what was built with others stays needed', async (rig) => {
  rig.project({ '10_a': '# vlb: env NAME=x\necho $NAME > /a', '20_b': 'cat /a > /b' })
  rig.commit()
  await rig.ok('build', '--env', 'NAME=y')
  await rig.ok('build')
  expect(await gc(rig, '--prune')).toEqual([])
  expect(await held(rig)).toEqual(['10_a needed', '10_a needed', '20_b needed', '20_b needed'])
  rig.layer('10_a', 'echo none > /a')
  rig.commit()
  expect((await held(rig)).every((one) => /unneeded|recorded/.test(one))).toBe(true)
})

rigTest('a commit that no branch is at any more: its record keeps it behind what nothing names', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  await rig.ok('build')
  rig.layer('10_a', 'echo b > /a')
  await rig.ok('build')
  rig.layer('10_a', 'echo c > /a')
  rig.git('add', '--all')
  rig.git('commit', '--quiet', '--amend', '-m', 'c')
  await rig.ok('build')
  expect(await held(rig)).toEqual(['10_a needed', '10_a recorded', '10_a unneeded'])
  expect(await gc(rig, '--budget', '0')).toEqual(['10_a unneeded', '10_a recorded', '10_a needed'])
})

rigTest('a rollup: the old snapshots are needed until no branch has the layers, and then go', async (rig) => {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b', '30_c': 'echo c > /c' })
  rig.commit()
  await rig.ok('build')
  rig.git('branch', 'old')
  await rig.ok('rollup', '10..20', '--name', 'all')
  await rig.ok('build')
  expect(await held(rig)).toEqual(['10_a needed', '10_all needed', '20_b needed', '30_c needed'])
  rig.git('branch', '--quiet', '-D', 'old')
  // What was built above before the rollup stands on them.
  expect(await held(rig)).toEqual(['10_a needed', '10_all needed', '20_b needed', '30_c needed'])
  rig.layer('30_c', 'echo changed > /c')
  rig.commit()
  await rig.ok('build')
  const gone = await rig.json('gc', '--budget', '0', '--dry-run')
  expect(gone.removed.slice(0, 3).map(({ layer }: Gone) => layer)).toEqual(['30_c', '20_b', '10_a'])
  rig.git('notes', '--ref', 'vlb', 'prune')
  rig.git('update-ref', '-d', 'refs/notes/vlb')
  expect(await gc(rig, '--prune')).toEqual(['30_c unneeded', '20_b unneeded', '10_a unneeded'])
  expect(await rig.build()).toEqual(['10_all cached', '30_c cached'])
})

rigTest('steps of a rolled-up layer that is not merged yet are needed', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.layer('20_x/layers/10_b', 'echo b > /b')
  rig.layer('20_x/layers/20_c', 'exit 1')
  rig.commit()
  expect((await rig.vlb(['build'])).code).toBe(1)
  expect(await held(rig)).toEqual(['10_a needed', '20_x/layers/10_b needed'])
  expect(await gc(rig, '--prune')).toEqual([])
  rig.layer('20_x/layers/20_c', 'echo c > /c')
  rig.commit()
  await rig.ok('build')
  expect(await gc(rig, '--prune')).toEqual(['20_x/layers/20_c unneeded', '20_x/layers/10_b unneeded'])
})

describe('what a running command uses stays', () => {
  rigTest('a build: what it found, and what it made', async (rig) => {
    const hold = await rig.hold()
    rig.project({ '10_a': 'echo a > /a' })
    rig.commit()
    await rig.ok('build')
    rig.layer('20_b', 'echo b > /b')
    rig.layer('30_c', hold.line)
    const running = rig.start(['build'])
    await hold.reached()
    rig.git('update-ref', '-d', 'refs/heads/main')
    rmSync(rig.path('10_a'), { recursive: true })
    const result = await rig.json('gc', '--budget', '0')
    expect(result.removed).toEqual([])
    expect(result.usedBytes).toBeGreaterThan(0)
    expect(await held(rig)).toEqual(['10_a used', '20_b used'])
    const [top] = (await rig.json('cache', 'ls', '20_b')).snapshots
    expect(top.keptBy[0]).toMatchObject({ kind: 'process', name: `build (pid ${running.child.pid})` })
    const refused = await rig.vlb(['cache', 'rm', '10_a'])
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('20_b is in use by git vlb build')])
    hold.release()
    const ran = await running.ended
    expect(ran.code, ran.all).toBe(0)
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('b\n')
  })

  rigTest('a build that is killed uses nothing any more, and neither does its pid', async (rig) => {
    const hold = await rig.hold()
    rig.project({ '10_a': 'echo a > /a', '20_b': hold.line })
    rig.commit()
    const running = rig.start(['build'])
    await hold.reached()
    expect(await gc(rig, '--budget', '0')).toEqual([])
    expect(readdirSync(rig.store('leases'))).toHaveLength(1)
    running.kill('SIGKILL')
    await running.ended
    hold.release()
    // A number that somebody else has now makes no lease of it.
    writeFileSync(rig.store('leases', '1-000000000000'), `1 build\n${'0'.repeat(64)}\n`)
    expect(await gc(rig, '--budget', '0')).toEqual(['10_a needed'])
    expect(readdirSync(rig.store('leases'))).toEqual([])
  })

  rigTest('a shell in what a failed script left, as long as it is open', async (rig) => {
    const hold = await rig.hold()
    rig.project({ '10_a': 'echo a > /a', '20_b': 'exit 3' })
    rig.commit()
    expect((await rig.vlb(['build', '--keep-failed'])).code).toBe(1)
    rig.git('update-ref', '-d', 'refs/heads/main')
    const command = `printf '%s\\n' '${hold.line}' | ${rig.command} shell --failed`
    const shell = spawn('sh', ['-c', command], { cwd: rig.repo, env: rig.env, stdio: 'ignore' })
    const ended = new Promise((resolve) => shell.once('close', resolve))
    await hold.reached()
    const meanwhile = await rig.json('gc', '--budget', '0')
    expect([meanwhile.removed, meanwhile.others]).toEqual([[], []])
    hold.release()
    await ended
    const after = await rig.json('gc', '--dry-run', '--budget', '0')
    expect(after.removed.map(({ layer }: Gone) => layer)).toEqual(['10_a'])
    expect(after.others.map(({ kind }: { kind: string }) => kind)).toEqual(['failure', 'base'])
  })
})

rigTest(
  'after a build over the budget: one line, what the build itself uses stays, an error for nonsense',
  async (rig) => {
    rig.project({ '10_a': 'dd if=/dev/urandom of=/a bs=1M count=4 2>/dev/null' })
    rig.commit()
    await rig.ok('build')
    const first = (await rig.json('status')).store
    expect(first).toMatchObject({ configured: false, path: rig.store() })
    expect(first.budgetBytes).toBeGreaterThan(first.bytes)
    expect(await rig.ok('status')).toMatch(/\nstore \d+\.\d MiB of \d+(\.\d)? GiB\n$/)
    rig.git('config', 'vlb.budget', String(first.bytes + 6 * 2 ** 20))
    rig.layer('10_a', 'dd if=/dev/urandom of=/b bs=1M count=4 2>/dev/null')
    expect((await rig.vlb(['build'])).stderr).not.toContain('dropped')
    rig.layer('10_a', 'dd if=/dev/urandom of=/c bs=1M count=4 2>/dev/null')
    const over = await rig.vlb(['build'])
    expect(over.stderr).toMatch(/dropped 1 snapshot of \d+\.\d MiB: the store holds .* of .* \(vlb\.budget\)\n/)
    expect(await held(rig)).toEqual(['10_a needed', '10_a needed'])
    rig.git('config', 'vlb.budget', '1M')
    rig.layer('10_a', 'dd if=/dev/urandom of=/d bs=1M count=4 2>/dev/null')
    const tiny = await rig.vlb(['build'])
    expect(tiny.code).toBe(0)
    expect(tiny.stderr).toMatch(
      /more than its budget of 1\.0 MiB, and all of it is in use: git config vlb\.budget SIZE/,
    )
    expect(await rig.build()).toEqual(['10_a cached'])
    rig.git('config', 'vlb.budget', 'plenty')
    for (const verb of ['build', 'status', 'gc']) {
      const wrong = await rig.vlb([verb])
      expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('vlb.budget takes a size such as 20G')])
      expect(wrong.stderr).toContain('git config vlb.budget 20G')
    }
    rig.git('config', 'vlb.budget', 'none')
    expect((await rig.json('status')).store.budgetBytes).toBeNull()
  },
)

rigTest('a store of several repositories: all count; one that is gone is forgotten', async (rig) => {
  const store = join(rig.folder, 'store')
  rig.project({ '10_a': 'echo a > /a' })
  rig.git('config', 'vlb.store', store)
  rig.commit()
  const other = join(rig.folder, 'other')
  rig.git('clone', '--quiet', rig.repo, other)
  rig.tool('git', '-C', other, 'config', 'vlb.store', store)
  rig.tool('cp', rig.path('tiny.raw'), other)
  mkdirSync(join(other, '20_b'))
  writeFileSync(join(other, '20_b/build-layer'), '#!/bin/sh\necho other > /b\n', { mode: 0o755 })
  expect((await rig.vlb(['build'], { cwd: other })).code).toBe(0)
  await rig.ok('build')
  expect(await gc(rig, '--prune')).toEqual([])
  rmSync(other, { recursive: true })
  expect(await gc(rig, '--prune')).toEqual(['20_b unneeded'])
  expect(readdirSync(join(store, 'repositories'))).toHaveLength(1)
  expect(await rig.build()).toEqual(['10_a cached'])
})

rigTest('an overlay of --no-flatten needs what it stands on, until it is gone', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  await rig.ok('build', '--no-flatten', '-o', rig.path('build/top.qcow2'))
  rig.layer('10_a', 'echo b > /a')
  expect(await gc(rig, '--prune')).toEqual([])
  expect(await rig.ok('cache', 'ls')).toContain('image build/top.qcow2')
  rmSync(rig.path('build/top.qcow2'))
  expect(await gc(rig, '--prune')).toEqual(['10_a unneeded'])
  expect(readdirSync(rig.store('images'))).toEqual([])
})

rigTest('a layer that is always built: what it left before goes first, and never comes back', async (rig) => {
  rig.project({ '10_a': '# vlb: nocache\ncat /proc/sys/kernel/random/uuid > /a' })
  rig.commit()
  await rig.ok('build')
  await rig.ok('build')
  const newest = rig.readFromImage(rig.path('build/image.qcow2'), '/a')
  expect(await held(rig)).toEqual(['10_a needed', '10_a unneeded'])
  expect(await gc(rig, '--prune')).toEqual(['10_a unneeded'])
  const [{ id, key }] = (await rig.json('cache', 'ls')).snapshots
  expect(id).not.toBe(key)
  expect(rig.readFromImage(rig.store('chain', `${id}.qcow2`), '/a')).toBe(newest)
  expect(await gc(rig, '--budget', '0')).toEqual(['10_a needed'])
  expect(readdirSync(rig.store('keys'))).toEqual([])
  expect(readdirSync(rig.store('chain'))).toEqual([])
})

rigTest('what points nowhere is tidied up; bases, failures and caches count', async (rig) => {
  rig.project({ '10_a': '# vlb: cache /var/cache\necho x > /var/cache/x', '20_b': 'exit 1' })
  rig.commit()
  expect((await rig.vlb(['build'])).code).toBe(1)
  symlinkSync('../snapshots/none/layer.qcow2', rig.store('chain/none.qcow2'))
  writeFileSync(rig.store('used/none'), '')
  writeFileSync(rig.store('keys/none'), `${'0'.repeat(64)}\n`)
  writeFileSync(rig.store('downloads/sha256-00.part'), 'half')
  const [digest = ''] = readdirSync(rig.store('digests'))
  expect(readFileSync(rig.store('digests', digest), 'utf8')).toContain('tiny.raw')
  const { others } = await rig.json('gc', '--prune')
  expect(others.map(({ kind }: { kind: string }) => kind).sort()).toEqual(['cache', 'download', 'failure'])
  expect(existsSync(rig.store('digests', digest))).toBe(true)
  for (const folder of ['chain', 'used', 'keys']) expect(readdirSync(rig.store(folder)).join()).not.toContain('none')
  expect((await rig.ok('log')).trim()).toBe('')
  rmSync(rig.path('tiny.raw'))
  await rig.ok('gc')
  expect(readdirSync(rig.store('digests'))).toEqual([])
  const all = await rig.json('gc', '--budget', '0')
  expect(all.others.map(({ kind }: { kind: string }) => kind)).toEqual(['base'])
  expect(readdirSync(rig.store('bases'))).toEqual([])
})

rigTest('a repository that cannot be read keeps what was built for it, but not from the budget', async (rig) => {
  const store = join(rig.folder, 'store')
  rig.project({ '10_a': 'echo a > /a' })
  rig.git('config', 'vlb.store', store)
  rig.commit()
  const other = join(rig.folder, 'other')
  rig.git('clone', '--quiet', rig.repo, other)
  rig.tool('git', '-C', other, 'config', 'vlb.store', store)
  rig.tool('cp', rig.path('tiny.raw'), other)
  mkdirSync(join(other, '20_b'))
  writeFileSync(join(other, '20_b/build-layer'), '#!/bin/sh\necho other > /b\n', { mode: 0o755 })
  expect((await rig.vlb(['build'], { cwd: other })).code).toBe(0)
  // git does not work in what belongs to somebody else.
  rig.tool('chown', '-R', '12345', other)
  expect(await gc(rig, '--prune')).toEqual([])
  expect(await rig.ok('cache', 'ls', '20_b')).toContain(`${join(other, '.git')}, which cannot be read`)
  expect(await gc(rig, '--budget', '0')).toEqual(['20_b needed', '10_a needed'])
})
