// rollup: layers made one, in the repository and in the store, without running a script again.
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

/** Writes something that no second run writes again. */
const dice = (file: string) => `cat /proc/sys/kernel/random/uuid > /${file}; echo "this is ${file}"`

/** 10_a to 40_d on main, each from a commit of its own; `other` has another 40_d. All is built. */
async function project(rig: Rig, build = true): Promise<void> {
  rig.project({ '10_a': dice('a') })
  rig.commit('add a')
  for (const name of ['20_b', '30_c', '40_d']) {
    rig.layer(
      name,
      name === '30_c' ? `${dice('c')}; rm /a; dd if=/dev/urandom of=/bulk bs=64k count=8` : dice(name[3] ?? ''),
    )
    rig.commit(`add ${name[3]}`)
  }
  rig.git('branch', 'other')
  if (build) await rig.ok('build')
}

interface State {
  head: string
  layers: string[]
  keys: Record<string, string>
  top: string
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON of any shape
const layersOf = async (rig: Rig, ...args: string[]): Promise<any[]> => (await rig.json('status', ...args)).layers

async function stateOf(rig: Rig): Promise<State> {
  const layers = await layersOf(rig)
  return {
    head: rig.git('rev-parse', 'HEAD').trim(),
    layers: layers.map(({ name, state }) => `${name} ${state}`),
    keys: Object.fromEntries(layers.map(({ name, key }) => [name, key])),
    top: rig.store('chain', `${layers.at(-1)?.key}.qcow2`),
  }
}

function clean(rig: Rig): void {
  expect(rig.git('status', '--porcelain', '--untracked-files=all')).toBe('')
  rig.git('fsck', '--strict', '--no-dangling')
  expect(readdirSync(rig.path()).filter((name) => name.startsWith('.vlb'))).toEqual([])
  expect(readdirSync(rig.path('.git')).filter((name) => name.endsWith('.lock') && name !== 'vlb-rollup.lock')).toEqual(
    [],
  )
  expect(rig.exists('.git/vlb-rollup')).toBe(false)
}

const same = (rig: Rig, a: string, b: string) => rig.tool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'qcow2', a, b)

rigTest('three layers become one: no script runs, the disk is the same, what is above stays', async (rig) => {
  await project(rig)
  const before = await stateOf(rig)
  const image = readFileSync(rig.path('build/image.qcow2'))
  const old = rig.store('chain', `${before.keys['30_c']}.qcow2`)
  // Ignored files and the modes of a folder move along.
  appendFileSync(rig.path('.git/info/exclude'), 'junk\n')
  rig.write({ '20_b/junk': 'ignored' })
  const result = await rig.json('rollup', '10..30', '--name', 'system')
  expect(result, JSON.stringify(result.error)).toMatchObject({ ok: true, branch: 'main', into: { name: '10_system' } })
  expect(result.layers.map(({ name, key }: { name: string; key: string }) => [name, key])).toEqual(
    ['10_a', '20_b', '30_c'].map((name) => [name, before.keys[name]]),
  )
  clean(rig)
  expect(rig.git('log', '--format=%s', '-2').trim()).toBe('Roll up 10_a, 20_b and 30_c into 10_system\nadd d')
  expect(rig.read('10_system/layers/20_b/junk')).toBe('ignored')
  expect(rig.git('show', '--stat', '--format=').trim().split('\n').at(-1)).toContain('0 insertions(+), 0 deletions(-)')
  expect(rig.git('log', '--follow', '--format=%s', '--', '10_system/layers/20_b/build-layer')).toContain('add b')
  const after = await stateOf(rig)
  expect(after.layers).toEqual(['10_system cached', '40_d cached'])
  expect(after.keys['40_d']).toBe(before.keys['40_d'])
  const merged = JSON.parse(
    readFileSync(rig.store('snapshots', after.keys['10_system'] ?? '', 'manifest.json'), 'utf8'),
  )
  expect(merged).toMatchObject({ key: result.into.key, contentId: before.keys['30_c'] })
  expect(merged.parent, 'it stands on the base').toBeUndefined()
  same(rig, old, rig.store('chain', `${after.keys['10_system']}.qcow2`))
  expect(await rig.build()).toEqual(['10_system cached', '40_d cached'])
  expect(readFileSync(rig.path('build/image.qcow2')).equals(image)).toBe(true)
  expect((await layersOf(rig, 'other')).map(({ name, state }) => `${name} ${state}`)).toEqual(before.layers)
  expect(await rig.ok('log', '10')).toContain('=== 10_system/layers/20_b\nthis is b\n')
  // What is built on it now stands on it.
  rig.layer('50_e', 'cat /b /c > /e; [ ! -e /a ]')
  expect(await rig.build()).toEqual(['10_system cached', '40_d cached', '50_e built'])
})

rigTest('the message has the history, and trailers that git reads', async (rig) => {
  await project(rig)
  const { keys } = await stateOf(rig)
  rig.write({ '20_b/x': '' })
  rig.commit('b: more\n\nand why')
  await rig.ok('build')
  const { key: b } = (await layersOf(rig))[1] as { key: string }
  await rig.ok('rollup', '10_a..20_b', '-m', 'One layer\n\nIt is enough.')
  const message = rig.git('log', '-1', '--format=%B')
  expect(message).toMatch(/^One layer\n\nIt is enough\.\n\n10_a:\n {2}[0-9a-f]+ 2024-01-01 A Tester: add a\n\n20_b:\n/)
  expect(message).toMatch(/\n {2}[0-9a-f]+ 2024-01-01 A Tester: b: more\n {2}[0-9a-f]+ 2024-01-01 A Tester: add b\n/)
  const [first, second, into] = rig.git('log', '-1', '--format=%(trailers:key=Vlb-Rollup,valueonly)').trim().split('\n')
  expect([first, second]).toEqual([`10_a ${keys['10_a']}`, `20_b ${b}`])
  expect(into).toBe(`10_a-b ${(await layersOf(rig))[0].key} -> ${b}`)
  expect(rig.git('reflog', '-1', '--format=%gs').trim()).toBe('rollup: One layer')
  expect(rig.git('log', '-1', '--format=%an <%ae> %cn').trim()).toBe('A Tester <tester@example.com> A Tester')
})

rigTest('a dry run says what would be done, and does nothing', async (rig) => {
  await project(rig, false)
  const before = [rig.git('for-each-ref'), rig.objects(), readFileSync(rig.path('.git/index'))]
  const first = await rig.ok('rollup', '10..20', '--dry-run')
  expect(first).toContain('10_a  ->  10_a-b/layers/10_a\n')
  expect(first).toContain('to be built first: 10_a, 20_b')
  await rig.ok('build')
  rig.git('update-ref', '-d', 'refs/notes/vlb')
  const second = await rig.json('rollup', '10..20', '--dry-run')
  expect(second).toMatchObject({ dryRun: true, commit: null, into: { name: '10_a-b', contentId: null } })
  expect(second.into.bytes).toBe(second.layers[0].bytes + second.layers[1].bytes)
  expect(second.above.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`)).toEqual([
    '30_c cached',
    '40_d cached',
  ])
  expect(rig.git('for-each-ref')).toBe(before[0])
  expect(readFileSync(rig.path('.git/index'))).toEqual(before[2])
  clean(rig)
  expect((await layersOf(rig)).map(({ name }) => name)).toEqual(['10_a', '20_b', '30_c', '40_d'])
})

rigTest('rolled up again: inner layers are lifted up, also where their own snapshots are gone', async (rig) => {
  rig.project({ '10_a': dice('a'), '20_b': dice('b') })
  rig.commit()
  await rig.ok('build')
  const inner = await stateOf(rig)
  await rig.ok('rollup', '10..20', '--name', 'ab')
  rig.layer('30_c', dice('c'))
  rig.layer('40_d', dice('d'))
  rig.commit()
  await rig.ok('build')
  const { keys, top } = await stateOf(rig)
  // Nothing stands on them now, and no layer is called like that any more.
  for (const name of ['10_a', '20_b']) rmSync(rig.store('snapshots', inner.keys[name] ?? ''), { recursive: true })
  const result = await rig.json('rollup', '10..30', '--name', 'ab')
  expect(result.ok, JSON.stringify(result.error)).toBe(true)
  clean(rig)
  expect(rig.git('ls-files', '10_ab').trim().split('\n')).toEqual(
    ['10_a', '20_b', '30_c'].map((name) => `10_ab/layers/${name}/build-layer`),
  )
  const after = await stateOf(rig)
  expect(after.layers).toEqual(['10_ab cached', '40_d cached'])
  expect(after.keys['40_d']).toBe(keys['40_d'])
  expect(after.keys['10_ab']).not.toBe(keys['10_ab'])
  same(rig, top, after.top)
  expect(await rig.build()).toEqual(['10_ab cached', '40_d cached'])
  expect(await rig.ok('log', '10_ab')).toBe(
    ['a', 'b', 'c'].map((name, i) => `=== 10_ab/layers/${i + 1}0_${name}\nthis is ${name}\n`).join('\n'),
  )
  expect(await rig.ok('log', '10_ab/layers/20_b')).toBe('this is b\n')
  // A number between those of the steps: they get new ones, for they must not change places.
  rig.layer('15_x', 'true')
  rig.commit()
  await rig.ok('rollup', '10..40')
  expect(readdirSync(rig.path('10_ab-x-d/layers'))).toEqual(['10_a', '20_b', '30_c', '40_x', '50_d'])
  expect((await stateOf(rig)).layers).toEqual(['10_ab-x-d cached'])
})

rigTest('a fresh clone with an empty store builds it from its steps, under the same keys', async (rig) => {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'cat /a /a > /b', '30_c': 'cat /b /a > /c' })
  rig.commit()
  await rig.ok('build')
  await rig.ok('rollup', '10..20')
  const { keys } = await stateOf(rig)
  const before = rig.readFromImage(rig.path('build/image.qcow2'), '/c')
  rig.forget()
  expect(await rig.build()).toEqual(['10_a-b built', '30_c built'])
  expect((await stateOf(rig)).keys).toEqual(keys)
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/c')).toBe(before)
  expect(before).toBe('a\na\na\n')
})

rigTest('--no-commit leaves it staged, with the message for git commit, and hooks run then', async (rig) => {
  await project(rig)
  writeFileSync(rig.path('.git/hooks/pre-commit'), '#!/bin/sh\ntouch hooked\n', { mode: 0o755 })
  const head = rig.git('rev-parse', 'HEAD')
  expect(await rig.ok('rollup', '10..20', '--no-commit')).toContain('not committed: git commit')
  expect(rig.git('rev-parse', 'HEAD')).toBe(head)
  expect(rig.git('status', '--porcelain').trim().split('\n')).toEqual([
    'R  10_a/build-layer -> 10_a-b/layers/10_a/build-layer',
    'R  20_b/build-layer -> 10_a-b/layers/20_b/build-layer',
  ])
  expect((await stateOf(rig)).layers).toEqual(['10_a-b cached', '30_c cached', '40_d cached'])
  rig.git('commit', '--quiet', '--no-edit')
  expect(rig.exists('hooked')).toBe(true)
  expect(rig.git('log', '-1', '--format=%s').trim()).toBe('Roll up 10_a and 20_b into 10_a-b')
  rig.git('checkout', '--quiet', '-b', 'second', head.trim())
  await rig.ok('rollup', '10..20')
  expect(rig.git('log', '-1', '--format=%s').trim()).toBe('Roll up 10_a and 20_b into 10_a-b')
})

rigTest('a detached HEAD, a linked worktree, a project in a subfolder, and a signed commit', async (rig) => {
  rig.project({ 'x y/web/10_a': 'echo a > /a', 'x y/web/20_b': 'echo b > /b' })
  rig.write({ 'x y/web/vlb.yaml': `version: 1\nbase: { path: ${rig.path('tiny.raw')} }\n` })
  rmSync(rig.path('vlb.yaml'))
  rig.commit()
  const tree = join(rig.folder, 'linked')
  rig.git('worktree', 'add', '--quiet', '--detach', tree)
  const signer = join(rig.folder, 'signer')
  writeFileSync(
    signer,
    '#!/bin/sh\ncat >/dev/null; printf "\\n[GNUPG:] SIG_CREATED \\n" >&2; echo "-----BEGIN PGP SIGNATURE-----"\n',
    {
      mode: 0o755,
    },
  )
  rig.git('config', 'gpg.program', signer)
  rig.git('config', 'commit.gpgSign', 'true')
  const branch = rig.git('rev-parse', 'main')
  const ran = await rig.vlb(['rollup', '10_a..20_b', '--json'], { cwd: join(tree, 'x y/web') })
  expect(ran.code, ran.all).toBe(0)
  const { commit } = JSON.parse(ran.stdout)
  expect(rig.git('rev-parse', 'main')).toBe(branch)
  expect(rig.git('-C', tree, 'rev-parse', 'HEAD').trim()).toBe(commit)
  expect(rig.git('cat-file', 'commit', commit)).toContain('gpgsig -----BEGIN PGP SIGNATURE-----')
  expect(rig.git('-C', tree, 'status', '--porcelain')).toBe('')
  expect(readdirSync(join(tree, 'x y/web'))).toContain('10_a-b')
  writeFileSync(signer, '#!/bin/sh\nexit 1\n')
  rig.git('-C', tree, 'reset', '--quiet', '--keep', 'HEAD~1')
  const failed = await rig.vlb(['rollup', '10..20'], { cwd: join(tree, 'x y/web') })
  expect(failed.code, failed.all).toBe(4)
  expect(failed.stderr).toContain('git cannot make the commit')
  expect(rig.git('-C', tree, 'rev-parse', 'HEAD')).toBe(branch)
  expect(rig.git('-C', tree, 'status', '--porcelain')).toBe('')
})

rigTest('while another build uses the layers: both end well', async (rig) => {
  await project(rig)
  const hold = await rig.hold()
  rig.layer('50_e', `cat /c > /e\n${hold.line}\ncat /b >> /e`)
  rig.commit()
  const building = rig.start(['build'])
  await hold.reached()
  await rig.ok('rollup', '10..40', '--name', 'all')
  hold.release()
  expect((await building.ended).code).toBe(0)
  clean(rig)
  expect(await rig.build()).toEqual(['10_all cached', '50_e cached'])
})

rigTest(
  'a grown disk below, one that grows in the range, and a start from one of the folders that move',
  async (rig) => {
    rig.project({ '10_a': dice('a'), '30_c': dice('c') }, 'disk: { size: 100M }\n')
    const grow = 'vlb-resize 150M; echo ", +" | sfdisk --quiet --no-reread --force -N 1 "$3" 2>&1'
    const script = `${grow}\nroot=$(vlb-partition 1); e2fsck -fp "$root"; resize2fs "$root"`
    rig.layer('20_b', { 'modify-disk': `#!/bin/sh\nset -eu\n${script}\n` })
    rig.commit()
    await rig.ok('build')
    const { top } = await stateOf(rig)
    const ran = await rig.vlb(['rollup', '10..30'], { cwd: rig.path('20_b') })
    expect(ran.code, ran.all).toBe(0)
    clean(rig)
    const after = await stateOf(rig)
    expect(after.layers).toEqual(['10_a-b-c cached'])
    same(rig, top, after.top)
    const { disk, parent } = JSON.parse(
      readFileSync(rig.store('snapshots', after.keys['10_a-b-c'] ?? '', 'manifest.json'), 'utf8'),
    )
    expect(disk.size).toBe(150 * 2 ** 20)
    expect(parent, 'it stands on the grown disk').toMatch(/^[0-9a-f]{64}$/)
    expect(await rig.build()).toEqual(['disk cached', '10_a-b-c cached'])
  },
)

describe('refused', () => {
  const cases: [name: string, prepare: (rig: Rig) => void, args: string[], says: string | string[], hint: string][] = [
    ['no range', () => {}, ['10'], 'rollup takes a range FROM..TO, not "10"', 'such as 10_a..40_d'],
    ['one layer', () => {}, ['20..20_b'], '20..20_b is one layer, 20_b', 'two layers or more'],
    ['reversed', () => {}, ['30..10'], '30_c comes after 10_a', 'git vlb rollup 10_a..30_c'],
    ['an unknown number', () => {}, ['10..25'], 'no layer "25"', 'nearest: 20_b, 30_c'],
    ['an unknown name', () => {}, ['10_a..30_d'], 'no layer "30_d"', 'nearest: '],
    ['a name that cannot be', () => {}, ['10..20', '--name', 'a b'], '"a b" cannot be the name', 'letters'],
    ['another number', () => {}, ['10..20', '--name', '15_x'], 'and so its number', '--name x'],
    [
      'a name that is taken',
      (rig) => writeFileSync(rig.path('10_taken'), ''),
      ['10..20', '--name', 'taken'],
      '10_taken is there already',
      '--name NAME',
    ],
    [
      'a file that is not committed',
      (rig) => {
        rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}# more\n`, '40_d/new': '' })
      },
      ['10..20'],
      ['not committed: ', 'vlb.yaml', '40_d/new'],
      'git stash --include-untracked',
    ],
    [
      'a staged file',
      (rig) => rig.git('rm', '--quiet', '--cached', '.gitignore'),
      ['10..20'],
      '.gitignore',
      'git commit',
    ],
    [
      'nocache',
      (rig) => {
        rig.layer('20_b', { 'build-layer': '#!/bin/sh\n# vlb: nocache\n' })
        rig.commit()
      },
      ['10..30'],
      '20_b says nocache: every build would build the rolled-up layer anew',
      'roll up what is below',
    ],
    [
      'noshare and not',
      (rig) => {
        rig.layer('20_b', { 'build-layer': '#!/bin/sh\n# vlb: noshare\n' })
        rig.commit()
      },
      ['10..30'],
      '20_b says noshare, and the others do not',
      'all of them',
    ],
    [
      'a build-base',
      (rig) => {
        rig.layer('00_base', { 'build-base': `#!/bin/sh\ncp ${rig.path('tiny.raw')} "$1"\n` })
        rig.write({ 'vlb.yaml': 'version: 1\n' })
        rig.commit()
      },
      ['00..20'],
      '00_base makes the base',
      'git vlb rollup 10_a..20_b',
    ],
    [
      'a path in it that another layer includes',
      (rig) => {
        rig.layer('40_d', { 'build-layer': '#!/bin/sh\n# vlb: include 20_b/build-layer\n' })
        rig.commit()
      },
      ['10..20'],
      '40_d needs 20_b/build-layer, and 20_b would move',
      'move what it needs out of 20_b',
    ],
    [
      'a merge',
      (rig) => writeFileSync(rig.path('.git/MERGE_HEAD'), rig.git('rev-parse', 'HEAD')),
      ['10..20'],
      'a merge is not finished here',
      'git merge --abort',
    ],
    ['a rebase', (rig) => mkdirSync(rig.path('.git/rebase-merge')), ['10..20'], 'a rebase', 'git rebase --abort'],
    [
      'a cherry-pick',
      (rig) => writeFileSync(rig.path('.git/CHERRY_PICK_HEAD'), rig.git('rev-parse', 'HEAD')),
      ['10..20'],
      'a cherry-pick',
      'git cherry-pick --abort',
    ],
    ['a bisect', (rig) => rig.git('bisect', 'start'), ['10..20'], 'a bisect', 'git bisect reset'],
    [
      'a sparse checkout',
      (rig) => rig.git('sparse-checkout', 'set', '10_a', '20_b', '30_c', '40_d'),
      ['10..20'],
      'a sparse checkout',
      'git sparse-checkout disable',
    ],
    [
      'a submodule',
      (rig) => {
        const head = rig.git('rev-parse', 'HEAD').trim()
        rig.git('update-index', '--add', '--cacheinfo', `160000,${head},20_b/module`)
        mkdirSync(rig.path('20_b/module'))
        rig.git('commit', '--quiet', '-m', 'module')
      },
      ['10..20'],
      '20_b/module is a submodule',
      'move the submodule out',
    ],
    [
      'a file that git was told not to look at',
      (rig) => rig.git('update-index', '--assume-unchanged', '20_b/build-layer'),
      ['10..20', '--dry-run'],
      'git was told not to look at 20_b/build-layer',
      'git update-index --no-skip-worktree --no-assume-unchanged',
    ],
    [
      'a lock of the index',
      (rig) => writeFileSync(rig.path('.git/index.lock'), ''),
      ['10..20'],
      'another git or git vlb command is at work',
      'rm ',
    ],
    [
      'something besides the layers of one that was rolled up',
      (rig) => {
        rig.write({ '20_b/layers/10_x/build-layer': '#!/bin/sh\n', '20_b/README': 'notes' })
        rig.git('rm', '--quiet', '20_b/build-layer')
        rig.commit()
      },
      ['10..20'],
      '20_b holds README, for which the new layer has no place',
      'move it into one of its layers',
    ],
  ]
  for (const [name, prepare, args, says, hint] of cases) {
    rigTest(name, async (rig) => {
      await project(rig, false)
      prepare(rig)
      await refused(rig, ['rollup', ...args], { says, hint })
      expect(rig.exists('.git/vlb-rollup')).toBe(false)
    })
  }

  rigTest('a layer that cannot be built: it is said, and nothing moves', async (rig) => {
    await project(rig, false)
    rig.layer('20_b', 'exit 3')
    rig.commit()
    const head = rig.git('rev-parse', 'HEAD')
    const ran = await rig.vlb(['rollup', '10..30'])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('20_b/build-layer ended with status 3')
    expect(rig.git('rev-parse', 'HEAD')).toBe(head)
    clean(rig)
  })

  rigTest('no commits yet, and a bare repository', async (rig) => {
    rig.project({ '10_a': 'true', '20_b': 'true' })
    await refused(rig, ['rollup', '10..20'], { says: 'no commits yet', hint: 'git commit' })
    rig.commit()
    const bare = join(rig.folder, 'bare.git')
    rig.git('clone', '--quiet', '--bare', rig.repo, bare)
    const ran = await rig.vlb(['rollup', '10..20'], { cwd: bare })
    expect(ran.code).toBe(2)
    expect(ran.stderr).toContain('this is a bare repository')
  })
})
