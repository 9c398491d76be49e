// Building revisions that are not checked out, and what goes on in the working tree meanwhile.
import { readFileSync, utimesSync } from 'node:fs'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

/** main and other share 10_a; each has a 20_b of its own. */
function twoBranches(rig: Rig, first = 'echo a > /a'): void {
  rig.project({ '10_a': first, '20_b': { 'build-layer': '#!/bin/sh\ncat data > /b\n', data: 'main\n' } })
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.write({ '20_b/data': 'other\n' })
  rig.commit()
  rig.git('checkout', '--quiet', 'main')
}

const results = (result: { layers: { rev?: string; name: string; result: string }[] }): string[] =>
  result.layers.map(({ rev, name, result }) => `${rev} ${name} ${result}`)

rigTest('another branch is built without touching working tree, index and HEAD', async (rig) => {
  twoBranches(rig)
  rig.write({ '20_b/data': 'dirty\n', '10_a/untracked': '' })
  rig.git('config', 'vlb.notes', 'false')
  // git would like to refresh what it holds of these files.
  for (const file of ['10_a/build-layer', 'vlb.yaml']) utimesSync(rig.path(file), 1, 1)
  const before = [readFileSync(rig.path('.git/index')), readFileSync(rig.path('.git/HEAD')), rig.objects()]
  const built = await rig.json('build', 'other')
  expect(results(built)).toEqual(['other 10_a built', 'other 20_b built'])
  expect(built.image.path).toBe(rig.path('build/image-other.qcow2'))
  expect(rig.readFromImage(built.image.path, '/b')).toBe('other\n')
  await rig.build()
  await rig.ok('status')
  expect([readFileSync(rig.path('.git/index')), readFileSync(rig.path('.git/HEAD')), rig.objects()]).toEqual(before)
  expect(rig.read('20_b/data')).toBe('dirty\n')
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('dirty\n')
  expect(rig.readFromImage(built.image.path, '/b'), "the other's image stays").toBe('other\n')
})

for (const jobs of ['1', '2']) {
  rigTest(`several revisions with -j ${jobs}: what they share is built once`, async (rig) => {
    twoBranches(rig, 'cat /proc/sys/kernel/random/uuid > /a')
    rig.git('tag', 'v1', 'other')
    const built = await rig.json('build', '-j', jobs, 'main', 'other', 'v1')
    const all = results(built)
    for (const name of ['10_a built', 'main 20_b built']) expect(all.filter((r) => r.includes(name))).toHaveLength(1)
    expect(all.filter((r) => r.includes('20_b built'))).toHaveLength(2)
    const images = built.images.map((image: { path: string }) => image.path)
    expect(images).toEqual(['main', 'other', 'v1'].map((name) => rig.path(`build/image-${name}.qcow2`)))
    const [a, b, c] = images.map((image: string) => rig.readFromImage(image, '/a'))
    expect(a).toMatch(/-/)
    expect([b, c]).toEqual([a, a])
    expect(images.map((image: string) => rig.readFromImage(image, '/b'))).toEqual(['main\n', 'other\n', 'other\n'])
  })
}

rigTest('one revision cannot be built: the others are told, nothing runs on behind the error', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': hold.line })
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'broken')
  rig.write({ 'vlb.yaml': `version: 1\nbase: { path: tiny.raw, sha256: ${'f'.repeat(64)} }\n` })
  rig.commit()
  const running = rig.start(['build', '-j', '2', 'main', 'broken'])
  const ran = await running.ended
  expect(ran.code, ran.all).toBe(2)
  expect(ran.stderr).toContain('expected sha256 ffff')
  expect(running.descendants()).toEqual([])
})

rigTest('edits and another branch in mid-build change nothing in what is built', async (rig) => {
  const hold = await rig.hold()
  twoBranches(rig, hold.line)
  const running = rig.start(['build', '--json'])
  await hold.reached()
  rig.write({ '20_b/data': 'edited\n', '20_b/build-layer': '#!/bin/sh\necho other script > /b\n' })
  hold.release()
  const ran = await running.ended
  expect(ran.code, ran.all).toBe(0)
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('main\n')
  expect(await rig.build(), 'the edit is not missed').toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('other script\n')
})

rigTest('a dirty tree is built as it was when the build began, whatever is checked out meanwhile', async (rig) => {
  const hold = await rig.hold()
  twoBranches(rig, hold.line)
  rig.write({ '20_b/data': 'dirty\n' })
  const running = rig.start(['build', '--json'])
  await hold.reached()
  rig.git('checkout', '--quiet', '--force', 'other')
  rig.git('gc', '--quiet', '--prune=now')
  hold.release()
  const ran = await running.ended
  expect(ran.code, ran.all).toBe(0)
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('dirty\n')
  expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('other\n')
})

rigTest('a linked worktree shares the store', async (rig) => {
  twoBranches(rig)
  await rig.build()
  const linked = `${rig.folder}/linked`
  rig.git('worktree', 'add', '--quiet', linked, 'other')
  rig.tool('cp', rig.path('tiny.raw'), linked)
  const ran = await rig.vlb(['build', '--json'], { cwd: linked })
  expect(ran.code, ran.all).toBe(0)
  const { layers, image } = JSON.parse(ran.stdout)
  expect(layers.map((l: { result: string }) => l.result)).toEqual(['cached', 'built'])
  expect(image.path).toBe(`${linked}/build/image.qcow2`)
})
