// Prebuilds: they build layers and nothing else, one at a time, and get out of everybody's way.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Background } from '../rig/background.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

/** main, and a branch `other` with another second layer. */
async function twoBranches(rig: Rig, first: string, second: string, other = 'echo other > /b'): Promise<Background> {
  rig.project({ '10_a': first, '20_b': second })
  rig.commit()
  rig.git('branch', 'start')
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.layer('20_b', other)
  rig.commit()
  rig.git('checkout', '--quiet', '--orphan', 'empty')
  rig.git('rm', '-rq', '--force', '.')
  rig.write({ '.gitignore': '/build/\n/tiny.raw\n', 'vlb.yaml': 'version: 1\nbase: { path: tiny.raw }\n' })
  rig.layer('10_empty', 'true')
  rig.commit()
  const background = new Background(rig)
  await rig.ok('hooks', 'install')
  return background
}

const quietly = (rig: Rig, name: string) => rig.git('-c', 'core.hooksPath=/dev/null', 'checkout', '--quiet', name)

rigTest('it builds the layers and no image, for people, too', async (rig) => {
  rig.project({ '10_a': 'cat /proc/self/stat | cut -d" " -f19 > /nice', '20_b': 'true' })
  rig.commit()
  const result = await rig.json('prebuild')
  expect([result.ok, result.state, result.layers.map((l: { result: string }) => l.result)]).toEqual([
    true,
    'done',
    ['built', 'built'],
  ])
  expect(rig.exists('build')).toBe(false)
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/nice')).toBe('19\n')
  expect(await rig.ok('prebuild')).toContain('0 built')
  const { prebuild } = await rig.json('status')
  expect(prebuild).toMatchObject({ state: 'done', built: [], reason: '', layer: null })
  expect((await rig.json('status', 'HEAD')).prebuild).toBe(null)
})

rigTest('a build takes over what is finished, and waits for the layer in work; then the prebuild ends', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, hold.line, 'echo b > /b')
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  const { prebuild, layers } = await rig.json('status')
  expect([prebuild.state, prebuild.layer, layers[0].state]).toEqual(['running', '10_a', 'building'])
  expect(await rig.ok('status')).toMatch(/^prebuild running for .*: 10_a .*prebuild\.log\)$/m)
  const build = rig.start(['build', '--json'])
  await build.says(`10_a: waiting for pid ${prebuild.pid}`)
  hold.release()
  const ran = await build.ended
  const results = JSON.parse(ran.stdout).layers.map((layer: { result: string }) => layer.result)
  expect(results, ran.all).toEqual(['cached', 'built'])
  expect(await background.ended()).toMatchObject({
    state: 'stopped',
    reason: 'it made way for a build',
    built: ['10_a'],
  })
  expect(hold.calls).toBe(1)
})

rigTest('a build of something else does not wait for it', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, 'true', hold.line)
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  const ran = await rig.vlb(['build', 'other'])
  expect([ran.code, ran.stderr]).toEqual([0, expect.not.stringContaining('waiting')])
  expect(background.state()?.state).toBe('running')
  hold.release()
  expect((await background.ended()).built).toEqual(['10_a', '20_b'])
})

rigTest('a newer one ends an older one whose layer nobody wants any more', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, 'true', hold.line)
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  const older = background.state()
  background.git('checkout', '--quiet', 'other')
  // It is not let go on: it is given up.
  const newer = await background.ended(older)
  expect(newer).toMatchObject({ state: 'done', built: ['20_b'] })
  expect(existsSync(`/proc/${older?.pid}`)).toBe(false)
  hold.release()
  quietly(rig, 'start')
  expect((await rig.json('status')).layers.map((l: { state: string }) => l.state)).toEqual(['cached', 'missing'])
})

rigTest('a layer in work that is still wanted is finished; then the newer one goes on', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, hold.line, 'echo b > /b')
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  const older = background.state()
  background.git('checkout', '--quiet', 'other')
  await background.until('a newer one waiting', () => background.log().includes('waiting for the prebuild'))
  hold.release()
  expect(await background.ended(older)).toMatchObject({ state: 'done', built: ['20_b'] })
  expect(hold.calls).toBe(1)
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
})

rigTest('one that wants the same leaves the older alone; of those that wait there is one', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, hold.line, 'echo b > /b')
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  const again = await rig.json('prebuild', '--hook')
  expect([again.ok, again.state]).toEqual([true, 'skipped'])
  quietly(rig, 'other')
  const waiting = rig.start(['prebuild', '--hook', '--json'])
  await waiting.says('waiting for the prebuild')
  expect((await rig.json('prebuild', '--hook')).state).toBe('skipped')
  hold.release()
  const last = JSON.parse((await waiting.ended).stdout)
  expect([last.state, last.layers.map((l: { result: string }) => l.result)]).toEqual(['done', ['cached', 'built']])
})

rigTest('it makes way between the steps of a rolled-up layer, too', async (rig) => {
  const hold = await rig.hold()
  rig.project({})
  rig.layer('10_all/layers/10_a', hold.line)
  rig.layer('10_all/layers/20_b', 'echo b > /b')
  rig.commit()
  const background = new Background(rig)
  const prebuild = rig.start(['prebuild', '--json'])
  await hold.reached()
  const build = rig.start(['build', '--json'])
  await build.says('waiting for pid')
  hold.release()
  expect(JSON.parse((await prebuild.ended).stdout)).toMatchObject({
    state: 'stopped',
    reason: 'it made way for a build',
  })
  const ran = await build.ended
  const [layer] = JSON.parse(ran.stdout).layers
  expect([layer.result, ...layer.steps.map((step: { result: string }) => step.result)]).toEqual([
    'built',
    'cached',
    'built',
  ])
  expect([hold.calls, background.state()?.built]).toEqual([1, []])
})

rigTest('it ends by itself when what is checked out does not want its next layer', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, hold.line, 'echo b > /b')
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  quietly(rig, 'other')
  hold.release()
  expect(await background.ended()).toMatchObject({
    state: 'stopped',
    built: ['10_a'],
    reason: 'what is checked out now does not want the next layer',
  })
})

rigTest('killed in the middle of a layer, it leaves nothing; status says so, and a build builds', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, hold.line, 'true')
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  process.kill(background.state()?.pid ?? 0, 'SIGKILL')
  expect(await rig.leaks()).toEqual([])
  expect((await rig.json('status')).prebuild).toMatchObject({ state: 'stopped', reason: 'it was killed' })
  hold.release()
  expect(await rig.build()).toEqual(['10_a built', '20_b built'])
})

rigTest('each worktree has its own', async (rig) => {
  const hold = await rig.hold()
  const background = await twoBranches(rig, 'true', hold.line)
  background.git('checkout', '--quiet', 'start')
  await hold.reached()
  const linked = join(rig.folder, 'linked')
  rig.git('worktree', 'add', '--quiet', linked, 'other')
  rig.tool('cp', rig.path('tiny.raw'), linked)
  const ran = await rig.vlb(['prebuild', '--hook'], { cwd: linked })
  expect(ran.code, ran.all).toBe(0)
  expect(background.state(rig.path('.git/worktrees/linked'))).toMatchObject({ state: 'done', built: ['20_b'] })
  expect(background.state()?.state).toBe('running')
  await rig.ok('hooks', 'uninstall')
  expect(background.state(rig.path('.git/worktrees/linked'))).toBe(undefined)
  // What is at work stays, and says so.
  expect((await rig.json('status')).prebuild.state).toBe('running')
  hold.release()
  await background.ended()
  await rig.ok('hooks', 'uninstall')
  expect(rig.exists('.git/vlb-prebuild')).toBe(false)
})

rigTest('vlb.prebuild says for which branches', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  rig.git('config', 'vlb.prebuild', 'release/* topic')
  const asked = async () => {
    const { state, reason, layers } = await rig.json('prebuild', '--hook')
    return [state, reason, layers.length]
  }
  expect(await asked()).toEqual(['stopped', 'vlb.prebuild does not name this branch', 0])
  rig.git('checkout', '--quiet', '-b', 'release/1')
  expect(await asked()).toEqual(['done', '', 1])
  // A person who asks for it has it.
  rig.git('checkout', '--quiet', '-b', 'elsewhere')
  expect((await rig.json('prebuild')).state).toBe('done')
})

rigTest('what only a person can give is left to a build', async (rig) => {
  const reasons = {
    '# vlb: nocache': '20_b says nocache: it and what stands on it are left to a build',
    '# vlb: secret S': '20_b needs a secret: it and what stands on it are left to a build',
    '# vlb: env V': '20_b lacks the value V: it and what stands on it are left to a build',
  }
  for (const [directive, reason] of Object.entries(reasons)) {
    rig.project({ '10_a': `echo '${directive}'`, '30_c': 'true' })
    rig.layer('20_b', { 'build-layer': `#!/bin/sh\n${directive}\ntrue\n` })
    const result = await rig.json('prebuild', '--hook')
    expect([result.state, result.reason]).toEqual(['done', reason])
    expect(result.layers.map((l: { name: string; result: string }) => `${l.name} ${l.result}`)).toEqual(['10_a built'])
  }
})

rigTest('a layer that fails, and a project that cannot be read: told in status', async (rig) => {
  rig.project({ '10_a': 'true', '20_b': 'exit 3', '30_c': 'true' })
  const failed = await rig.vlb(['prebuild', '--hook'])
  expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('ended with status 3')])
  expect((await rig.json('status')).prebuild).toMatchObject({
    state: 'failed',
    layer: '20_b',
    built: ['10_a'],
    reason: '20_b/build-layer ended with status 3',
  })
  expect(await rig.ok('log', '20_b')).toBe('')
  rig.write({ 'vlb.yaml': 'version: 2\n' })
  const broken = await rig.vlb(['prebuild', '--hook'])
  expect(broken.code).toBe(0)
  expect(readFileSync(rig.path('.git/vlb-prebuild/prebuild.json'), 'utf8')).toContain('vlb.yaml:1:10')
  expect((await rig.vlb(['prebuild'])).code).toBe(2)
})

rigTest(
  'who cannot become root without a password is told in status, and asked for nothing',
  async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.commit()
    rig.tool('chown', '-R', '65534:65534', rig.folder)
    const [node = '', program = ''] = rig.command.split(' ')
    const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', node, program, '-C', rig.repo]
    const ran = spawnSync('setpriv', [...nobody, 'prebuild', '--hook'], { env: rig.env, encoding: 'utf8' })
    expect([ran.status, ran.stderr]).toEqual([0, expect.not.stringContaining('assword:')])
    const status = spawnSync('setpriv', [...nobody, 'status', '--json'], { env: rig.env, encoding: 'utf8' })
    const { prebuild } = JSON.parse(status.stdout)
    expect([prebuild.state, prebuild.reason]).toEqual(['stopped', expect.stringMatching(/needs root for mounts.*sudo/)])
  },
  ['root', 'tool:busybox', 'tool:mke2fs', 'tool:qemu-img'],
)
