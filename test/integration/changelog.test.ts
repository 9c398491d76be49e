// `git vlb changelog`: what changed between two tags, here and on a clone that has only git and the notes.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const status = (packages: Record<string, string>) =>
  Object.entries(packages)
    .map(
      ([name, version]) => `Package: ${name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: ${version}\n`,
    )
    .join('\n')

const installer = '#!/bin/sh\nset -eu\nmkdir -p /var/lib/dpkg\ncp status /var/lib/dpkg/status\n'

function commitAs(rig: Rig, name: string, message: string): void {
  rig.git('add', '--all')
  rig.git('-c', 'user.useConfigOnly=false', 'commit', '--quiet', `--author=${name}`, '-m', message)
}

/** v1 and v2 of a project: packages upgraded, a script changed, a layer renumbered, one added, one removed. */
function story(rig: Rig): void {
  rig.project({}, 'name: web\n')
  rig.write({
    '10_packages/build-layer': installer,
    '10_packages/status': status({ libc6: '2.36-9', nginx: '1.22.1-9', gone: '1', zlib1g: '1:1.2' }),
    '20_site/build-layer': '#!/bin/sh\nset -eu\ncp index.html /index.html\n',
    '20_site/index.html': '<h1>one</h1>\n',
    '30_motd/build-layer': '#!/bin/sh\necho hello > /motd\n',
    '40_old/build-layer': '#!/bin/sh\ntrue\n',
    'README.md': 'web\n',
  })
  commitAs(rig, 'Ann <ann@old.example.com>', 'first')
  rig.git('tag', 'v1')
  rig.write({
    '10_packages/status': status({ libc6: '2.36-10', nginx: '1.22.0-1', fresh: '3', zlib1g: '1:1.2' }),
  })
  commitAs(rig, 'Ann <ann@old.example.com>', 'packages of <today> & @everyone | `x`')
  rig.write({ '20_site/index.html': '<h1>two</h1>\n</details>\n```\n' })
  commitAs(rig, 'Bob <bob@example.com>', 'site: second edition')
  rig.git('mv', '30_motd', '35_motd')
  commitAs(rig, 'Bob <bob@example.com>', 'renumbered')
  rig.write({ 'README.md': 'web!\n', '.mailmap': 'Ann Onymous <ann@example.com> <ann@old.example.com>\n' })
  commitAs(rig, 'Bob <bob@example.com>', 'docs only')
  rig.git('rm', '-rq', '40_old')
  rig.write({
    '50_new/build-layer': '#!/bin/sh\necho new > /new\n',
    'vlb.yaml': `${rig.read('vlb.yaml')}seal: false\n`,
  })
  commitAs(rig, 'Bob <bob@example.com>', 'old for new')
  rig.git('tag', 'v2')
}

rigTest('the changelog of two tags names what changed, on a clone that only fetched the notes, too', async (rig) => {
  story(rig)
  await rig.ok('build', 'v1')
  await rig.ok('build', 'v2')
  const here = await rig.json('changelog', 'v1..v2')
  expect(here.layers.map((l: { name: string; change: string }) => `${l.name} ${l.change}`)).toEqual([
    '10_packages changed',
    '20_site changed',
    '35_motd renumbered',
    '40_old removed',
    '50_new added',
  ])
  expect(here.packages).toMatchObject({
    known: true,
    manager: 'dpkg',
    upgraded: [
      { name: 'libc6', from: '2.36-9', to: '2.36-10', direction: 'upgraded' },
      { name: 'nginx', from: '1.22.1-9', to: '1.22.0-1', direction: 'downgraded' },
    ],
    added: [{ name: 'fresh', version: '3' }],
    removed: [{ name: 'gone', version: '1' }],
    major: ['libc6'],
  })
  expect(
    here.commits.map((c: { author: string; subject: string; touched: string[] }) => [c.author, ...c.touched]),
  ).toEqual([
    ['Bob', '40_old', '50_new', 'vlb.yaml'],
    ['Bob', '35_motd'],
    ['Bob', '20_site'],
    ['Ann Onymous', '10_packages'],
  ])
  expect(here.from).toMatchObject({ rev: 'v1', record: 'notes' })
  expect(here.config.patch).toContain('+seal: false')

  const { files } = await rig.json('changelog', 'v1..v2', '--files')
  expect(files.map(({ path, change }: Record<string, string>) => `${change} ${path}`)).toEqual([
    'changed /index.html',
    'added /new',
    'changed /var/lib/dpkg/status',
  ])
  expect((await rig.vlb(['changelog', '--env', 'A=b'])).code).toBe(2)

  const clone = join(rig.folder, 'clone')
  rig.git('clone', '--quiet', `file://${rig.repo}`, clone)
  const there = async (...args: string[]) => {
    const ran = await rig.vlb(['changelog', ...args], { cwd: clone })
    expect(ran.code, ran.all).toBe(0)
    return ran.stdout
  }
  const without = await there('v1..v2')
  expect(without).toContain('git fetch origin refs/notes/vlb:refs/notes/vlb')
  expect(without).toContain('git vlb build v1')
  expect(without).toContain('`35_motd`')
  expect(without).not.toContain('2.36-10 |')
  rig.tool('git', '-C', clone, 'fetch', '--quiet', 'origin', 'refs/notes/vlb:refs/notes/vlb')
  const markdown = await there('v1..v2')
  expect(markdown).toContain('| libc6 | 2.36-9 | 2.36-10 | upgraded |')
  expect(markdown).toContain('| nginx | 1.22.1-9 | 1.22.0-1 | **downgraded** |')
  expect(JSON.parse(await there('v1..v2', '--json'))).toEqual(here)
  expect(await there(), 'HEAD is v2').toBe(await there('v2'))
  expect(await there('v2')).toBe(markdown)
})

const layersOf = (data: { layers: { name: string; change: string; was: string[] }[] }) =>
  data.layers.map(({ name, change, was }) => [name, change, ...was].join(' '))

rigTest('without builds all but packages and sizes is told; ends, errors and tags', async (rig) => {
  rig.project({ '10_a': 'echo a', '20_b': 'echo b' })
  rig.commit('first')
  const none = await rig.vlb(['changelog'])
  expect([none.code, none.stderr]).toEqual([2, expect.stringContaining('there is no tag before HEAD')])
  expect(none.stderr).toContain('git tag v1.0')
  rig.git('tag', 'v1')
  for (const range of ['v1...HEAD', 'v1..gone', '-o']) expect((await rig.vlb(['changelog', range])).code, range).toBe(2)
  rig.layer('10_a', 'echo more')
  rig.commit('second')
  const data = await rig.json('changelog')
  expect(data).toMatchObject({ from: { rev: 'v1', record: null }, to: { rev: 'HEAD' }, linear: true })
  expect(layersOf(data)).toEqual(['10_a changed', '20_b unchanged'])
  expect(data.layers[0].files).toMatchObject([
    { path: '10_a/build-layer', patch: expect.stringContaining('+echo more') },
  ])
  expect(data.packages.known).toBe(false)
  rig.git('tag', 'v2')
  rig.git('tag', '-a', '-m', 'the same', 'v2.1')
  expect(await rig.json('changelog')).toMatchObject({ from: { rev: 'v1' }, to: { rev: 'v2.1' } })
  expect(await rig.json('changelog', 'v1..')).toMatchObject({ from: { rev: 'v1' }, to: { rev: 'HEAD' } })
  expect(layersOf(await rig.json('changelog', 'v2..v1'))).toEqual(['10_a changed', '20_b unchanged'])
  const same = await rig.ok('changelog', 'v2..v2')
  expect(same).toContain('All unchanged: `10_a`, `20_b`.')
  await rig.ok('changelog', 'v2', '-o', 'out/changes.json')
  expect(JSON.parse(rig.read('out/changes.json'))).toMatchObject({ to: { rev: 'v2' } })
  expect((await rig.vlb(['changelog', '--format', 'pdf'])).stderr).toContain('md, json, html')
})

rigTest('branches that parted, merges, several renames, and a project in a folder', async (rig) => {
  rig.project({})
  rmSync(rig.path('vlb.yaml'))
  rig.write({ README: 'nothing yet\n' })
  rig.commit('before the project')
  rig.git('tag', 'empty')
  const script = (text: string) =>
    `#!/bin/sh\n# vlb: include lib\n${Array.from({ length: 9 }, (_, i) => `echo ${i}\n`).join('')}${text}\n`
  rig.write({
    'web/vlb.yaml': 'version: 1\nbase: { path: ../tiny.raw }\n',
    'web/lib/common.sh': 'echo lib\n',
    'web/10_a/build-layer': script('a'),
    'web/20_b/build-layer': script('b'),
  })
  rig.commit('the project')
  rig.git('tag', 'v1')
  rig.git('mv', 'web/20_b', 'web/25_b')
  rig.commit('to 25')
  rig.write({ 'web/25_b/build-layer': script('b2') })
  rig.commit('changed as 25')
  rig.git('mv', 'web/25_b', 'web/30_b')
  rig.commit('to 30')
  rig.git('checkout', '--quiet', '-b', 'side', 'v1')
  rig.write({ 'web/lib/common.sh': 'echo library\n' })
  rig.commit('on the side ⤳')
  rig.git('tag', 'side-1')
  rig.git('checkout', '--quiet', 'main')
  rig.git('merge', '--quiet', '--no-edit', 'side')
  rig.write({ README: 'web\n' })
  rig.commit('not of the project')

  for (const setting of [
    'diff.relative true',
    'color.ui always',
    'i18n.logOutputEncoding latin1',
    'diff.noprefix true',
  ])
    rig.git('config', ...setting.split(' '))
  const cwd = rig.path('web')
  const json = async (range: string) => JSON.parse((await rig.vlb(['changelog', range, '--json'], { cwd })).stdout)
  const data = await json('v1..main')
  expect(layersOf(data)).toEqual(['10_a changed', '30_b renumbered 20_b'])
  expect(data.commits.map(({ subject, touched }: Record<string, string[]>) => [subject, ...(touched ?? [])])).toEqual(
    expect.arrayContaining([
      ['to 25', '30_b'],
      ['changed as 25', '30_b'],
      ['to 30', '30_b'],
      ['on the side ⤳', 'lib'],
    ]),
  )
  expect(data.commits).toHaveLength(4)
  expect(data.layers[0].files).toMatchObject([
    { path: 'lib/common.sh', patch: expect.stringContaining('+echo library') },
  ])
  expect(data.layers[1].files).toMatchObject([
    { path: '30_b/build-layer', was: '20_b/build-layer' },
    { path: 'lib/common.sh', cut: 'included, the same as in 10_a' },
  ])

  const parted = await json('side-1..main~2')
  expect(parted.linear).toBe(false)
  expect(parted.missing.map(({ subject }: { subject: string }) => subject)).toEqual(['on the side ⤳'])
  expect(parted.notes[0]).toContain('not an ancestor')
  const early = await rig.vlb(['changelog', 'empty..main'], { cwd })
  expect([early.code, early.stderr]).toEqual([2, expect.stringContaining('the project is not in empty')])
})

rigTest('layers that were rolled up are no change of content, and nothing else is', async (rig) => {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b', '30_c': 'echo c > /c' })
  rig.commit()
  rig.git('tag', 'v1')
  await rig.ok('build', 'v1')
  rig.tool('mkdir', '-p', rig.path('20_all/layers'))
  rig.git('mv', '20_b', '30_c', '20_all/layers')
  rig.commit('rolled up\n\nVlb-Rollup: 20_b..30_c')
  await rig.ok('build')
  const data = await rig.json('changelog')
  expect(layersOf(data)).toEqual(['10_a unchanged', '20_all rolled-up 20_b 30_c'])
  expect(data.layers[1]).toMatchObject({ edited: false, kind: 'layers', files: [] })
  expect(data.commits).toMatchObject([{ touched: ['20_all'], rollup: '20_b..30_c' }])
  expect(data.to).toMatchObject({ record: 'notes' })
  expect(await rig.ok('changelog')).toContain('rolled up from `20_b`, `30_c`: no change of content')
  rig.write({ '20_all/layers/30_c/build-layer': '#!/bin/sh\necho other > /c\n' })
  rig.commit('changed inside')
  expect(layersOf(await rig.json('changelog', 'HEAD~..'))).toEqual(['10_a unchanged', '20_all changed'])
  expect((await rig.json('changelog')).layers[1]).toMatchObject({ change: 'rolled-up', edited: true })
})
