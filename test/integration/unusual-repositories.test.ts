// Repositories of every kind: the same keys wherever they were cloned to, and builds that work there.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, inject } from 'vitest'
import { hasReftable } from '../rig/need.ts'
import { complains } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const layers = {
  'vlb.yaml': 'version: 1\nbase: { path: base.qcow2 }\n',
  '.gitignore': '/build/\n',
  '10_a/build-layer': '#!/bin/sh\ncp a/motd /motd\n',
  '10_a/a/motd': 'hello\n',
  '20_b/build-layer': '#!/bin/sh\necho b > /b\n',
}

/** A project whose base is tracked, too, so that every clone has all of it. */
function project(rig: Rig): void {
  rig.write(layers)
  rig.tool('qemu-img', 'convert', '-c', '-O', 'qcow2', inject('tinyDisk'), rig.path('base.qcow2'))
  rig.commit()
}

function git(rig: Rig, cwd: string, ...args: string[]): string {
  return execFileSync('git', args, { cwd, env: rig.env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

async function json(rig: Rig, cwd: string, ...args: string[]) {
  const ran = await rig.vlb([...args, '--json'], { cwd })
  expect(ran.code, ran.all).toBe(0)
  return JSON.parse(ran.stdout)
}

async function build(rig: Rig, cwd: string, ...args: string[]): Promise<string[]> {
  const result = await json(rig, cwd, 'build', ...args)
  return result.layers.map((layer: { name: string; result: string }) => `${layer.name} ${layer.result}`)
}

async function keys(rig: Rig, cwd: string, ...args: string[]): Promise<string[]> {
  const result = await json(rig, cwd, 'status', ...args)
  return result.layers.map((layer: { key: string }) => layer.key)
}

const built = ['10_a built', '20_b built']
const cached = ['10_a cached', '20_b cached']

describe('the same keys', () => {
  rigTest('in every clone: plain, shallow, sharing objects, without blobs, packed', async (rig) => {
    project(rig)
    rig.write({ README: 'more history' })
    rig.commit()
    const expected = await keys(rig, rig.repo)
    const url = `file://${rig.repo}`
    rig.git('config', 'uploadpack.allowFilter', 'true')
    for (const [name, options, from] of [
      ['plain', [], rig.repo],
      ['shallow', ['--depth=1'], url],
      ['shared', ['--shared'], rig.repo],
      ['partial', ['--filter=blob:none'], url],
      ['treeless', ['--filter=tree:0'], url],
      ['referring', [`--reference=${rig.repo}`], url],
    ] as const) {
      const clone = `${rig.folder}/${name}`
      git(rig, rig.folder, 'clone', '--quiet', ...options, from, clone)
      expect(await keys(rig, clone), name).toEqual(expected)
      expect(await keys(rig, clone, 'HEAD'), `${name}, by revision`).toEqual(expected)
    }
    for (const name of ['shallow', 'partial', 'treeless']) {
      git(rig, `${rig.folder}/${name}`, 'worktree', 'add', '-q', '--detach', `${rig.folder}/${name}-2`)
      expect(await keys(rig, `${rig.folder}/${name}-2`), `${name}, linked worktree`).toEqual(expected)
    }
    rig.git('gc', '--quiet', '--aggressive')
    rig.git('pack-refs', '--all')
    expect(await keys(rig, rig.repo, 'main')).toEqual(expected)
    rig.git('multi-pack-index', 'write')
    rig.git('commit-graph', 'write', '--reachable', '--changed-paths')
    expect(await keys(rig, rig.repo)).toEqual(expected)
    expect(await build(rig, `${rig.folder}/shared`)).toEqual(built)
  })

  rigTest('whatever the umask, and whether committed, staged or neither', async (rig) => {
    project(rig)
    rig.git('rm', '-r', '-q', '--cached', '10_a', '20_b')
    rig.git('commit', '-q', '-m', 'without layers')
    const untracked = await keys(rig, rig.repo)
    rig.tool('chmod', '-R', 'go-rwx', rig.repo)
    expect(await keys(rig, rig.repo)).toEqual(untracked)
    rig.git('add', '--all')
    expect(await keys(rig, rig.repo)).toEqual(untracked)
    rig.commit()
    expect(await keys(rig, rig.repo)).toEqual(untracked)
    expect(await keys(rig, rig.repo, 'HEAD')).toEqual(untracked)
  })

  rigTest('whatever git replace and grafts show in place of an object', async (rig) => {
    project(rig)
    const expected = await keys(rig, rig.repo, 'HEAD')
    const original = rig.git('rev-parse', 'HEAD').trim()
    rig.write({ '10_a/a/motd': 'another\n', '20_b/build-layer': '#!/bin/sh\necho other > /b\n' })
    rig.commit('other')
    const other = await keys(rig, rig.repo)
    const id = (name: string) => rig.git('rev-parse', name).trim()
    const pairs = ['', '^{tree}', ':10_a', ':20_b/build-layer'].map((part) => [original + part, `HEAD${part}`].map(id))
    rig.git('checkout', '-q', original)
    for (const packed of [false, true]) {
      for (const [from = '', to = ''] of pairs) {
        rig.git('replace', from, to)
        if (packed) rig.git('pack-refs', '--all')
        expect(await keys(rig, rig.repo, original), `${from} replaced`).toEqual(expected)
        expect(await keys(rig, rig.repo), `${from} replaced, working tree`).toEqual(expected)
        rig.git('replace', '-d', from)
      }
    }
    const [script = '', otherScript = ''] = pairs.at(-1) ?? []
    rig.git('replace', script, otherScript)
    const image = `${rig.folder}/out.qcow2`
    expect(await build(rig, rig.repo, original, '-o', image)).toEqual(built)
    expect(rig.readFromImage(image, '/b'), 'what has that id is built').toBe('b\n')
    rig.git('replace', '-d', script)
    // What a replacement brought into the working tree is a change like any other.
    rig.git('replace', original, id('main'))
    rig.git('reset', '-q', '--hard')
    expect(await keys(rig, rig.repo)).toEqual(other)
    expect(await build(rig, rig.repo)).toEqual(built)
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/motd')).toBe('another\n')
    rig.git('replace', '-d', original)
    rig.git('reset', '-q', '--hard')
    rig.write({ '.git/info/grafts': `${original}\n` })
    expect(await keys(rig, rig.repo)).toEqual(expected)
  })

  rigTest('as a submodule of another repository, and beside one', async (rig) => {
    project(rig)
    const expected = await keys(rig, rig.repo)
    const above = `${rig.folder}/above`
    git(rig, rig.folder, 'init', '--quiet', above)
    git(rig, above, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', rig.repo, 'image')
    expect(await keys(rig, `${above}/image`)).toEqual(expected)
    expect(await keys(rig, `${above}/image`, 'HEAD')).toEqual(expected)
    expect(await build(rig, `${above}/image/10_a`)).toEqual(built)
    expect(existsSync(`${above}/.git/modules/image/vlb/snapshots`)).toBe(true)
    git(rig, above, 'commit', '-q', '-m', 'with an image')
    rig.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', above, 'shared')
    expect(await keys(rig, rig.repo)).toEqual(expected)
    rig.commit('with a submodule')
    expect(await keys(rig, rig.repo, 'HEAD')).toEqual(expected)
  })

  rigTest('with refs in a reftable, which a git before 2.45 does not know, and says so', async (rig) => {
    project(rig)
    if (!hasReftable()) {
      rig.git('config', 'core.repositoryFormatVersion', '1')
      rig.git('config', 'extensions.refStorage', 'reftable')
      const says = 'too old for the repository here: it does not know refstorage'
      complains(await rig.vlb(['status']), { status: 4, says, hint: 'came with 2.45' })
      return
    }
    const expected = await keys(rig, rig.repo)
    const repo = `${rig.folder}/reftable`
    git(rig, rig.folder, 'clone', '--quiet', '--ref-format=reftable', rig.repo, repo)
    expect(await keys(rig, repo)).toEqual(expected)
    git(rig, repo, 'tag', 'v1')
    git(rig, repo, 'checkout', '-q', '-b', 'next')
    writeFileSync(`${repo}/20_b/build-layer`, '#!/bin/sh\necho next > /b\n')
    git(rig, repo, 'commit', '-qam', 'next')
    for (const name of ['v1', 'main', 'HEAD~']) expect(await keys(rig, repo, name), name).toEqual(expected)
    const [a, b] = await keys(rig, repo)
    expect(a).toBe(expected[0])
    expect(b).not.toBe(expected[1])
    expect((await json(rig, repo, 'status')).rev).toBe('next')
    git(rig, repo, 'worktree', 'add', '-q', `${rig.folder}/linked`, 'main')
    expect(await keys(rig, `${rig.folder}/linked`)).toEqual(expected)
    expect(await build(rig, repo, 'v1', '-o', `${rig.folder}/out.qcow2`)).toEqual(built)
  })
})

describe('builds', () => {
  rigTest('before the first commit, and nothing again after it', async (rig) => {
    rig.write(layers)
    rig.tool('qemu-img', 'convert', '-c', '-O', 'qcow2', inject('tinyDisk'), rig.path('base.qcow2'))
    expect(await build(rig, rig.repo)).toEqual(built)
    expect((await json(rig, rig.repo, 'status')).layers.map((l: { dirty: boolean }) => l.dirty)).toEqual([true, true])
    complains(await rig.vlb(['build', 'HEAD']), { says: 'no such revision: "HEAD"', hint: 'no commits yet' })
    rig.commit()
    expect(await build(rig, rig.repo)).toEqual(cached)
  })

  rigTest('on a detached HEAD', async (rig) => {
    project(rig)
    rig.git('checkout', '-q', '--detach')
    expect(await build(rig, rig.repo)).toEqual(built)
    expect((await json(rig, rig.repo, 'status')).rev).toBe(rig.git('rev-parse', 'HEAD').slice(0, 12))
  })

  rigTest('in a bare repository: a revision, into a file', async (rig) => {
    project(rig)
    const bare = `${rig.folder}/bare.git`
    git(rig, rig.folder, 'clone', '--quiet', '--bare', rig.repo, bare)
    for (const verb of ['build', 'status'])
      complains(await rig.vlb([verb], { cwd: bare }), { says: 'this is a bare repository', hint: 'git vlb' })
    const image = `${rig.folder}/out.qcow2`
    expect(await build(rig, bare, 'main', '-o', image)).toEqual(built)
    expect(rig.readFromImage(image, '/motd')).toBe('hello\n')
    expect(await build(rig, bare, 'main', '-o', image)).toEqual(cached)
  })

  rigTest('in a linked worktree: what one has built, all have', async (rig) => {
    project(rig)
    expect(await build(rig, rig.repo)).toEqual(built)
    const other = `${rig.folder}/other`
    rig.git('worktree', 'add', '-q', '-b', 'other', other)
    expect(await build(rig, other)).toEqual(cached)
    expect(rig.readFromImage(`${other}/build/image.qcow2`, '/motd')).toBe('hello\n')
  })

  rigTest('in a repository of SHA-256 objects', async (rig) => {
    const repo = `${rig.folder}/sha256`
    git(rig, rig.folder, 'init', '--quiet', '--object-format=sha256', repo)
    project(rig)
    for (const name of ['vlb.yaml', '.gitignore', 'base.qcow2', '10_a', '20_b'])
      rig.tool('cp', '-a', rig.path(name), `${repo}/`)
    expect(await build(rig, repo)).toEqual(built)
    git(rig, repo, 'add', '--all')
    git(rig, repo, 'commit', '-q', '-m', 'x')
    expect(await build(rig, repo)).toEqual(cached)
    expect(await build(rig, repo, 'HEAD')).toEqual(cached)
  })

  rigTest('where the path holds blanks, commas, quotes and letters of any language', async (rig) => {
    project(rig)
    const place = `${rig.folder}/a b,c "d" 'e' ünï $x;%s,,y=z`
    git(rig, rig.folder, 'clone', '--quiet', rig.repo, place)
    expect(await build(rig, place)).toEqual(built)
    rig.tool('sh', '-c', 'echo changed >"$1/10_a/a/motd"', 'sh', place)
    expect(await build(rig, place)).toEqual(built)
    expect(rig.readFromImage(`${place}/build/image.qcow2`, '/motd')).toBe('changed\n')
  })

  rigTest('where the path holds a colon, a modify-disk script finds its helpers', async (rig) => {
    project(rig)
    rig.write({
      '30_disk/modify-disk': '#!/bin/sh\nset -eu\nqemu-img create -f qcow2 "$2" 8G\n[ -b "$(vlb-partition 1)" ]\n',
    })
    rig.tool('chmod', '755', rig.path('30_disk/modify-disk'))
    rig.commit()
    const place = `${rig.folder}/a:b c`
    git(rig, rig.folder, 'clone', '--quiet', rig.repo, place)
    expect(await build(rig, place)).toEqual([...built, '30_disk built'])
  })

  rigTest('where the path of the store holds a tab: refused, with a way out', async (rig) => {
    project(rig)
    const place = `${rig.folder}/a\tb`
    git(rig, rig.folder, 'clone', '--quiet', rig.repo, place)
    const ran = await rig.vlb(['build'], { cwd: place })
    expect(ran.code, ran.all).toBe(2)
    expect(ran.stderr).toMatch(
      /error: the path of the store holds control characters: .*\nhint: .*git config vlb.store/,
    )
    git(rig, place, 'config', 'vlb.store', `${rig.folder}/store`)
    expect(await build(rig, place)).toEqual(built)
  })

  rigTest('in a folder of the repository, from anywhere below it', async (rig) => {
    project(rig)
    mkdirSync(rig.path('images/web'), { recursive: true })
    for (const name of ['vlb.yaml', '.gitignore', 'base.qcow2', '10_a', '20_b'])
      rig.git('mv', name, `images/web/${name}`)
    rig.commit()
    const below = rig.path('images/web/10_a/a')
    expect(await build(rig, below)).toEqual(built)
    expect(await build(rig, rig.repo, '-C', 'images/web')).toEqual(cached)
    expect(await build(rig, below, 'HEAD')).toEqual(cached)
    rig.write({ 'images/web/10_a/a/motd': 'changed\n' })
    expect(await build(rig, below)).toEqual(built)
    expect(rig.readFromImage(rig.path('images/web/build/image.qcow2'), '/motd')).toBe('changed\n')
  })
})

rigTest('files of a layer may have any name, be links, and be empty or large', async (rig) => {
  project(rig)
  const script = `#!/bin/sh
set -e
for f in *; do printf '%s\\n' "$f"; done > /list
cat 'a file' 'ünï 漢字' "q'uo\\"te" -- -dash 'new
line' > /all
{ readlink link; readlink dangling; } > /links
stat -c %a 'a file' run.sh > /modes
md5sum big bigger > /sums
./run.sh >> /all
`
  const [big, bigger] = [Buffer.alloc(3_000_000, 'x'), Buffer.alloc(6_000_000, 'yz')]
  rig.write({
    '30_names/build-layer': script.replace('-- -dash', './-dash'),
    '30_names/a file': '1',
    '30_names/ünï 漢字': '2',
    '30_names/q\'uo"te': '3',
    '30_names/-dash': '4',
    '30_names/new\nline': '5',
    '30_names/run.sh': '#!/bin/sh\necho 6\n',
    '30_names/empty': '',
    // Some come in pieces; one is written by a git of its own, in the middle of the others.
    '30_names/big': big,
    '30_names/bigger': bigger,
  })
  rig.tool('ln', '-s', 'a file', rig.path('30_names/link'))
  rig.tool('ln', '-s', '/etc/ünï', rig.path('30_names/dangling'))
  const names = async () => (await build(rig, rig.repo)).at(-1)
  expect(await names()).toBe('30_names built')
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/all')).toBe('123456\n')
  expect(rig.readFromImage(image, '/links')).toBe('a file\n/etc/ünï\n')
  expect(rig.readFromImage(image, '/modes')).toBe('644\n755\n')
  const md5 = (bytes: Buffer) => createHash('md5').update(bytes).digest('hex')
  expect(rig.readFromImage(image, '/sums')).toBe(`${md5(big)}  big\n${md5(bigger)}  bigger\n`)
  expect(rig.readFromImage(image, '/list').split('\n')).toContain('ünï 漢字')
  rig.commit()
  expect(await names()).toBe('30_names cached')
})

rigTest('a project starts where git is told where its configuration lies', async (rig) => {
  const folder = join(rig.folder, 'new')
  const ran = await rig.vlb(['init', '--template', 'busybox', folder], {
    cwd: rig.folder,
    env: { GIT_CONFIG_GLOBAL: join(rig.folder, 'home/elsewhere') },
  })
  expect(ran.code, ran.all).toBe(0)
  expect(rig.tool('git', '-C', folder, 'rev-parse', '--is-inside-work-tree')).toBe('true\n')
})
