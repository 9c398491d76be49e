// What `status` says: each layer's state, and why it is not cached.
import { execFileSync } from 'node:child_process'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { describe, expect } from 'vitest'
import { complains, refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

interface Layer {
  name: string
  key: string
  state: string
  reason: string
  // biome-ignore lint/suspicious/noExplicitAny: of several shapes
  why: any[]
  last: { layer: string } | null
}

async function layers(rig: Rig, ...args: string[]): Promise<Layer[]> {
  const ran = await rig.vlb(['status', '--json', ...args])
  expect(ran.code, ran.all).toBe(0)
  return JSON.parse(ran.stdout).layers
}

const states = (found: Layer[]) => found.map(({ name, state }) => `${name} ${state}`)

describe('values given with --env', () => {
  const project = (rig: Rig) =>
    rig.project({ '10_a': 'echo a', '20_b': '# vlb: env NAME\necho "$NAME" > /b', '30_c': 'echo c' })

  rigTest('a layer that lacks one is missing, as is all above it, and nothing fails', async (rig) => {
    project(rig)
    await rig.build('--env', 'NAME=x')
    const found = await layers(rig)
    expect(states(found)).toEqual(['10_a cached', '20_b missing', '30_c missing'])
    expect(found[1]?.reason).toBe('needs a value for NAME: give --env NAME=…, or env: { NAME: … } in vlb.yaml')
    expect(found[2]?.reason).toBe('20_b below it has to be built')
    expect(found.map(({ key }) => key !== '')).toEqual([true, false, false])
    expect(await rig.ok('status')).toContain('needs a value for NAME')
  })

  rigTest('status, log and shell take them as build does', async (rig) => {
    project(rig)
    await rig.build('--env', 'NAME=x')
    expect(states(await layers(rig, '--env', 'NAME=x'))).toEqual(['10_a cached', '20_b cached', '30_c cached'])
    expect(states(await layers(rig, '--env', 'NAME=y'))).toEqual(['10_a cached', '20_b missing', '30_c missing'])
    expect(await rig.ok('log', '30_c', '--env', 'NAME=x')).toContain('c')
    complains(await rig.vlb(['log', '30_c']), { says: '20_b needs a value for NAME', hint: '--env NAME=' })
    expect(await rig.ok('log', '10_a')).toContain('a')
    const shell = await rig.vlb(['shell', '30_c', '--env', 'NAME=x'])
    expect(shell.code, shell.all).toBe(0)
    expect(shell.stderr, 'built again').not.toContain('30_c built')
    complains(await rig.vlb(['shell']), { says: '20_b needs a value for NAME', hint: '--env NAME=' })
    for (const verb of ['status', 'shell'])
      await refused(rig, [verb, '--env', 'NAEM=x'], { says: 'no layer declares the value NAEM', hint: 'NAME' })
    await refused(rig, ['status', '--env', 'NAME'], { says: '--env takes NAME=VALUE', hint: '# vlb: env NAME' })
  })
})

describe('why a layer is not cached', () => {
  const why = async (rig: Rig, ...args: string[]) => (await layers(rig, ...args)).map((layer) => layer.why)
  const commit = {
    id: expect.stringMatching(/^[0-9a-f]{40}$/),
    author: 'A Tester',
    date: expect.stringMatching(/^2024-01-01T00:00:00(Z|\+00:00)$/),
  }

  rigTest('its files: which ones, how, and in which commit', async (rig) => {
    rig.project({ '10_a': { 'build-layer': '#!/bin/sh\ntrue\n', 'd/old': '1', same: '2', tool: '#!/bin/sh\n' } })
    rig.commit()
    await rig.build()
    expect(await why(rig)).toEqual([[]])
    rig.write({ '10_a/build-layer': '#!/bin/sh\ntrue 2\n', '10_a/d/new': '3' })
    rig.tool('rm', rig.path('10_a/d/old'))
    rig.tool('chmod', '-x', rig.path('10_a/tool'))
    const files = [
      { path: 'build-layer', change: 'modified' },
      { path: 'd/new', change: 'added' },
      { path: 'd/old', change: 'deleted' },
      { path: 'tool', change: 'mode' },
    ]
    expect(await why(rig)).toEqual([[expect.objectContaining({ files, more: 0, commit: null, uncommitted: true })]])
    rig.commit('another tool')
    rig.write({ other: '' })
    rig.commit('elsewhere')
    const told = { input: 'tree', files, uncommitted: false, commit: { ...commit, subject: 'another tool' } }
    expect(await why(rig)).toEqual([[expect.objectContaining(told)]])
    expect(await why(rig, 'HEAD')).toEqual([[expect.objectContaining(told)]])
    const id = rig.git('rev-parse', '--short=9', 'HEAD~').trim()
    expect(await rig.ok('status')).toContain(`build-layer changed, d/new added and 2 more in ${id} "another tool"\n`)
    rig.write({ '10_a/same': '4' })
    const [[since]] = (await why(rig)) as [[object]]
    expect(since).toMatchObject({ uncommitted: true, commit: { subject: 'another tool' } })
  })

  rigTest('also where the snapshot was made from files that were never committed', async (rig) => {
    rig.project({ '10_a': 'true 1' })
    await rig.build()
    rig.layer('10_a', 'true 2')
    const files = [{ path: 'build-layer', change: 'modified' }]
    expect(await why(rig)).toEqual([[expect.objectContaining({ files, commit: null, uncommitted: true })]])
    expect(await rig.ok('status')).toContain('build-layer changed, not committed\n')
  })

  rigTest(
    'no commit is named where a clone has not the history to tell, and nothing is fetched for it',
    async (rig) => {
      rig.project({ '10_a': 'true 1' })
      rig.commit('first')
      await rig.build()
      rig.layer('10_a', 'true 2')
      rig.commit('second')
      rig.write({ other: '' })
      rig.commit('third')
      rig.git('config', 'uploadpack.allowFilter', 'true')
      for (const [name, option] of [
        ['shallow', '--depth=1'],
        ['treeless', '--filter=tree:0'],
        ['blobless', '--filter=blob:none'],
      ] as const) {
        const clone = `${rig.folder}/${name}`
        execFileSync('git', ['clone', '--quiet', option, `file://${rig.repo}`, clone], { env: rig.env })
        execFileSync('git', ['config', 'vlb.store', rig.store()], { cwd: clone, env: rig.env })
        rig.tool('cp', rig.path('tiny.raw'), clone)
        const objects = () => rig.tool('find', `${clone}/.git/objects`, '-type', 'f')
        await rig.vlb(['status'], { cwd: clone })
        const before = objects()
        const ran = await rig.vlb(['status', '--json'], { cwd: clone })
        expect(ran.code, ran.all).toBe(0)
        const [only] = JSON.parse(ran.stdout).layers[0].why
        const known = name === 'blobless' ? { subject: 'second' } : null
        expect(only, name).toMatchObject({ input: 'tree', uncommitted: false, commit: known })
        expect(objects(), name).toBe(before)
      }
    },
  )

  rigTest('files are not named where what the snapshot was made from is not known any more', async (rig) => {
    rig.project({ '10_a': 'true 1' })
    await rig.build()
    const [id = ''] = readdirSync(rig.store('snapshots'))
    rmSync(rig.store('snapshots', id, 'sources.json'))
    rig.layer('10_a', 'true 2')
    expect(await why(rig)).toEqual([[expect.objectContaining({ input: 'tree', files: null, more: 0 })]])
    expect(await rig.ok('status')).toContain('its files changed, not committed\n')
    writeFileSync(rig.store('snapshots', id, 'sources.json'), '{"build-layer": 7}')
    expect((await layers(rig))[0]?.why[0].files).toBe(null)
  })

  rigTest('what it stands on: the lowest layer that is another one', async (rig) => {
    rig.project({ '10_a': 'true', '20_b': 'true b', '30_c': 'true c' })
    await rig.build()
    const above = (layer: string, change: string) => expect.objectContaining({ input: 'parent', layer, change })
    rig.layer('10_a', 'true 2')
    expect(await why(rig)).toMatchObject([[{ input: 'tree' }], [above('10_a', 'changed')], [above('10_a', 'changed')]])
    expect((await layers(rig))[2]?.why[0].inputs).toEqual(['tree'])
    await rig.build('--last', '20_b')
    rig.layer('30_c', 'true 3')
    const both = [{ input: 'tree' }, above('10_a', 'changed')]
    expect(await why(rig)).toMatchObject([[], [], both])
    await rig.build()
    rig.layer('15_new', 'true new')
    expect((await why(rig)).slice(2)).toEqual([[above('15_new', 'added')], [above('15_new', 'added')]])
    rmSync(rig.path('15_new'), { recursive: true })
    rmSync(rig.path('20_b'), { recursive: true })
    expect((await why(rig))[1]).toEqual([above('20_b', 'removed')])
    expect(await rig.ok('status')).toContain('20_b is not below it any more\n')
  })

  rigTest('a folder renamed or renumbered is still that layer', async (rig) => {
    rig.project({ '10_a': 'true 1', '20_b': 'true 2' })
    await rig.build()
    rig.tool('mv', rig.path('20_b'), rig.path('30_b'))
    expect(states(await layers(rig))).toEqual(['10_a cached', '30_b cached'])
    rig.layer('30_b', 'true 3')
    const [, moved] = await layers(rig)
    expect(moved).toMatchObject({ last: { layer: '20_b' }, reason: 'its files changed' })
    expect(moved?.why[0].files).toEqual([{ path: 'build-layer', change: 'modified' }])
    expect(await rig.ok('status')).toContain('(it was 20_b)')
    rig.layer('40_other', 'true 4')
    expect((await layers(rig))[2]).toMatchObject({ last: null })
  })

  rigTest('values by name only, included paths, disk.size, the base, nocache', async (rig) => {
    rig.project({ '10_a': '# vlb: env N=hunter2\n# vlb: include shared/x\ntrue', '20_b': 'true' })
    rig.write({ 'shared/x': '1' })
    rig.commit()
    await rig.build()
    const told = await rig.vlb(['status', '--json', '--env', 'N=swordfish'])
    expect(JSON.parse(told.stdout).layers[0].why).toEqual([{ input: 'env', name: 'N', change: 'changed' }])
    expect(told.stdout).not.toMatch(/hunter2|swordfish/)
    rig.write({ 'shared/x': '2' })
    rig.commit('more of it')
    const included = { input: 'include', path: 'shared/x', change: 'changed', uncommitted: false }
    expect((await why(rig))[0]).toMatchObject([{ ...included, commit: { subject: 'more of it' } }])
    expect(await rig.ok('status')).toMatch(/shared\/x, which it includes, changed in [0-9a-f]{9} "more of it"\n/)
    rig.git('reset', '-q', '--hard', 'HEAD~')
    const yaml = rig.read('vlb.yaml')
    rig.write({ 'vlb.yaml': `${yaml}disk: { size: 100M }\n` })
    const size = { input: 'size', before: null, after: 100 * 2 ** 20 }
    expect(await why(rig)).toEqual([[size], [size]])
    rig.write({ 'vlb.yaml': yaml })
    writeFileSync(rig.path('tiny.raw'), 'x', { flag: 'a' })
    const [[base], [above]] = (await why(rig)) as [[{ before: string }], [object]]
    expect(base).toEqual({
      input: 'base',
      before: expect.stringMatching(/^sha256:/),
      after: expect.stringMatching(/^sha/),
    })
    expect(above).toEqual({ input: 'parent', layer: '10_a', change: 'changed', inputs: ['base'] })
    rig.layer('10_a', '# vlb: nocache\ntrue')
  })
})

describe('with all cached', () => {
  rigTest('status reads neither the history nor the other snapshots', async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.commit('first')
    const origin = `${rig.folder}/origin.git`
    rig.git('init', '--quiet', '--bare', origin)
    rig.git('remote', 'add', 'origin', origin)
    rig.git('push', '--quiet', '--set-upstream', 'origin', 'main')
    rig.commit('second')
    rig.commit('third')
    await rig.build()
    // Whoever walks the history stumbles here, and whoever reads all snapshots waits for ever.
    const second = rig.git('rev-parse', 'HEAD~').trim()
    rmSync(rig.path('.git/objects', second.slice(0, 2), second.slice(2)))
    rig.tool('mkdir', rig.store('snapshots/other'))
    execFileSync('mkfifo', [rig.store('snapshots/other/manifest.json')])
    const running = rig.start(['status', '--json'])
    const timer = setTimeout(() => running.kill('SIGKILL'), 20_000)
    const ran = await running.ended
    clearTimeout(timer)
    expect(ran.code, ran.all).toBe(0)
    expect(states(JSON.parse(ran.stdout).layers)).toEqual(['10_a cached'])
    rmSync(rig.store('snapshots/other'), { recursive: true })
  })
})
