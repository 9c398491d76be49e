// Rolled-up layers: a folder of layers that give one snapshot.
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { expect } from 'vitest'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const script = (body: string, directives = '') => `#!/bin/sh\n${directives}set -eu\n${body}\n`

/** A project whose layer 20_all is made of these steps, with a layer below and one above. */
function project(rig: Rig, steps: Record<string, Record<string, string>>): void {
  rig.project({ '10_a': 'echo a > /a; echo below' })
  for (const [step, files] of Object.entries(steps)) rig.layer(`20_all/layers/${step}`, files)
  rig.layer('30_c', 'cat /1 /2 > /c 2>/dev/null || :')
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON of any shape
const steps = (result: any): string[] => {
  // biome-ignore lint/suspicious/noExplicitAny: the same
  const layer = result.layers.find(({ name }: any) => name === '20_all')
  return (layer.steps ?? []).map((one: { name: string; result: string }) => `${one.name} ${one.result}`)
}

// biome-ignore lint/suspicious/noExplicitAny: the same
function manifest(rig: Rig, key: string): any {
  return JSON.parse(readFileSync(rig.store('snapshots', key, 'manifest.json'), 'utf8'))
}

rigTest('its steps run in order, each with its own directives, into one snapshot on the layer below', async (rig) => {
  rig.write({ 'shared/lib': 'from the library\n' })
  project(rig, {
    '10_one': {
      'build-layer': script(
        'set +u; pwd; echo "$VLB_LAYER $X $Y"; cat "$VLB_INCLUDE/shared/lib" data > /1; cat /proc/sys/kernel/hostname',
        '# vlb: env X=one\n# vlb: include shared/lib\n# vlb: hostname first\n',
      ),
      data: 'data\n',
    },
    '20_two': {
      'build-layer': script(
        'set +u; echo "$VLB_LAYER $X $Y $VLB_INCLUDE."; ls; cat /1; echo 2 > /2; rm /a; cat /proc/sys/kernel/hostname',
        '# vlb: env X=two\n# vlb: env Y=y\n# vlb: cache /var/cache/x\n',
      ),
    },
    '30_disk': {
      'modify-disk': script(
        'vlb-resize 100M; [ -e "$1" ]; echo ", +" | sfdisk --quiet --no-reread --force -N 1 "$3" 2>&1\nroot=$(vlb-partition 1); e2fsck -fp "$root" >/dev/null; resize2fs "$root" 2>&1 | tail -1',
      ),
    },
    '100_last': { 'build-layer': script('stat -f -c "%b %S" /; cat /1 /2') },
  })
  rig.commit()
  const built = await rig.json('build')
  expect(built.ok, JSON.stringify(built.error)).toBe(true)
  expect(steps(built)).toEqual(['10_one', '20_two', '30_disk', '100_last'].map((n) => `20_all/layers/${n} built`))
  const [, all] = built.layers
  const { parent, steps: merged, disk, inputs } = manifest(rig, all.key)
  expect(parent).toBe(built.layers[0].key)
  expect(merged.map(({ layer }: { layer: string }) => layer)).toEqual(['10_one', '20_two', '30_disk', '100_last'])
  expect(disk.size).toBe(100 * 2 ** 20)
  expect(inputs.env).toEqual({ '10_one/X': 'one', '20_two/X': 'two', '20_two/Y': 'y' })
  expect(Object.keys(inputs.includes)).toEqual(['shared/lib'])
  expect(manifest(rig, built.layers[2].key).parent, 'the chain does not go through the steps').toBe(all.key)
  const snapshots = rig.store('chain')
  rig.tool('qemu-img', 'compare', `${snapshots}/${all.key}.qcow2`, `${snapshots}/${merged[3].key}.qcow2`)
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/c')).toBe('from the library\ndata\n2\n')
  expect(rig.readFromImage(image, '/a')).toBe('')
  const log = await rig.ok('log', '20_all')
  expect(log).toContain('=== 20_all/layers/10_one\n/mnt\n10_one one \nfirst\n')
  expect(log).toContain('=== 20_all/layers/20_two\n20_two two y .\nbuild-layer\nfrom the library\ndata\nlocalhost\n')
  expect(log.indexOf('=== 20_all/layers/30_disk')).toBeGreaterThan(log.indexOf('20_two'))
  expect(log.indexOf('=== 20_all/layers/100_last')).toBeGreaterThan(log.indexOf('30_disk'))
  expect(await rig.ok('log', '20_all/layers/20_two')).toMatch(/^20_two two y \.\n/)
  expect(await rig.build()).toEqual(['10_a cached', '20_all cached', '30_c cached'])
  expect(
    (await rig.json('build', '--dry-run', '--env', 'X=both')).layers.map((l: { result: string }) => l.result),
  ).toEqual(['cached', 'skipped', 'skipped'])
})

rigTest('a step that fails is shown as such, with its state and its log; those before it are kept', async (rig) => {
  project(rig, {
    '10_one': { 'build-layer': script('echo first; echo 1 > /1') },
    '20_two': { 'build-layer': script('echo half > /half; echo it breaks; exit 7') },
    '30_three': { 'build-layer': script('cat /1 /half') },
  })
  rig.commit()
  const failed = await rig.json('build')
  expect(failed).toMatchObject({ ok: false, error: { code: 'VLB_LAYER_FAILED', layer: '20_all/layers/20_two' } })
  expect(failed.error.message).toBe('20_all/layers/20_two/build-layer ended with status 7')
  expect(failed.error.hint).toContain('git vlb log 20_all/layers/20_two')
  expect(failed.layers.map(({ result }: { result: string }) => result)).toEqual(['built', 'failed', 'skipped'])
  expect(steps(failed)).toEqual(['20_all/layers/10_one built', '20_all/layers/20_two failed'])
  expect(await rig.ok('log')).toBe('it breaks\n')
  expect(await rig.ok('log', '20_all/layers/20_two')).toBe('it breaks\n')
  expect(await rig.ok('log', '20')).toBe('=== 20_all/layers/10_one\nfirst\n\n=== 20_all/layers/20_two\nit breaks\n')
  const [failure] = readdirSync(rig.store('failed'))
  const state = rig.store('failed', failure ?? '', 'layer.qcow2')
  expect(rig.readFromImage(state, '/half')).toBe('half\n')
  expect(rig.readFromImage(state, '/1'), 'with what the steps before it left').toBe('1\n')
  const status = await rig.json('status')
  expect(status.layers[1]).toMatchObject({ name: '20_all', kind: 'layers', state: 'missing' })
  expect(status.layers[1].steps.map(({ name, state }: { name: string; state: string }) => `${name} ${state}`)).toEqual([
    '20_all/layers/10_one cached',
    '20_all/layers/20_two missing',
    '20_all/layers/30_three missing',
  ])
  expect(await rig.ok('status')).toMatch(/^ +20_all \(3 steps\) +missing/m)
  expect(await rig.ok('status', '-v')).toMatch(/^ {4}20_two +missing .* not built yet$/m)
  rig.layer('20_all/layers/20_two', { 'build-layer': script('echo whole > /half') })
  expect((await rig.json('status')).layers[1].steps.map(({ dirty }: { dirty: boolean }) => dirty)).toEqual([
    false,
    true,
    false,
  ])
  expect(steps(await rig.json('build'))).toEqual([
    '20_all/layers/10_one cached',
    '20_all/layers/20_two built',
    '20_all/layers/30_three built',
  ])
  expect(await rig.ok('log', '20')).toContain('=== 20_all/layers/30_three\n1\nwhole\n')
})

rigTest('the keys above are those that the steps would give outside of it; renaming changes nothing', async (rig) => {
  project(rig, {
    '10_one': { 'build-layer': script('echo 1 > /1') },
    '20_two': { 'build-layer': script('echo 2 > /2') },
  })
  rig.commit()
  const keys = async () => {
    const { layers } = await rig.json('status')
    return layers.map(({ key }: { key: string }) => key)
  }
  const before = await keys()
  rig.git('mv', '20_all', '21_other')
  expect(await keys()).toEqual(before)
  rig.git('mv', '21_other/layers/10_one', '20_one')
  rig.git('mv', '21_other/layers/20_two', '21_two')
  rmSync(rig.path('21_other'), { recursive: true })
  const [a, one, two, c] = await keys()
  expect([a, c]).toEqual([before[0], before[2]])
  expect([one, two]).not.toContain(before[1])
  await rig.ok('build')
  // Built outside; so inside they are only put together.
  rig.git('reset', '--quiet', '--hard')
  rmSync(rig.path('20_one'), { recursive: true, force: true })
  rmSync(rig.path('21_two'), { recursive: true, force: true })
  const built = await rig.json('build')
  expect(steps(built)).toEqual(['20_all/layers/10_one cached', '20_all/layers/20_two cached'])
  expect(built.layers.map(({ result }: { result: string }) => result)).toEqual(['cached', 'built', 'cached'])
  expect(built.layers.map(({ key }: { key: string }) => key)).toEqual(before)
})

rigTest('nocache, ttl and --rebuild run again what has to, and no more', async (rig) => {
  const dice = 'cat /proc/sys/kernel/random/uuid >> /1'
  project(rig, {
    '10_one': { 'build-layer': script(dice) },
    '20_two': { 'build-layer': script(dice, '# vlb: nocache\n') },
    '30_three': { 'build-layer': script(dice) },
  })
  rig.commit()
  await rig.ok('build')
  const again = ['20_all/layers/10_one cached', '20_all/layers/20_two built', '20_all/layers/30_three built']
  expect(steps(await rig.json('build'))).toEqual(again)
  expect((await rig.json('status')).layers[1]).toMatchObject({
    state: 'nocache',
    reason: 'one of its scripts says nocache',
  })
  rig.layer('20_all/layers/20_two', { 'build-layer': script(dice, '# vlb: ttl 1s\n') })
  await rig.ok('build')
  await new Promise((resolve) => setTimeout(resolve, 1100))
  expect((await rig.json('status')).layers[1]).toMatchObject({ state: 'missing', reason: 'older than its ttl' })
  expect(steps(await rig.json('build'))).toEqual(again)
  rig.layer('20_all/layers/20_two', { 'build-layer': script(dice) })
  await rig.ok('build')
  expect(await rig.build()).toEqual(['10_a cached', '20_all cached', '30_c cached'])
  const all = await rig.json('build', '--rebuild', '20_all')
  expect(steps(all).map((one) => one.split(' ')[1])).toEqual(['built', 'built', 'built'])
  expect(await rig.build()).toEqual(['10_a cached', '20_all cached', '30_c cached'])
})

rigTest('what cannot be a rolled-up layer is refused', async (rig) => {
  project(rig, { '10_one': { 'build-layer': script('true') } })
  rig.commit()
  const back = () => {
    rig.git('clean', '-qfd')
    rig.git('reset', '--quiet', '--hard')
  }
  rig.layer('20_all', 'true')
  await refused(rig, ['build'], { says: '20_all holds both a script and layers/', hint: 'split it' })
  back()
  rig.layer('20_all/layers/20_in/layers/10_x', 'true')
  await refused(rig, ['build'], {
    says: '20_all/layers/20_in is a rolled-up layer inside a rolled-up layer',
    hint: 'git mv 20_all/layers/20_in/layers/* 20_all/layers/',
  })
  back()
  rig.layer('20_all/layers/20_in', { 'build-base': script('true') })
  await refused(rig, ['build'], { says: '20_all/layers/20_in holds a build-base script', hint: 'first layer' })
  back()
  rig.git('mv', '20_all/layers/10_one', '20_all/layers/other')
  await refused(rig, ['build'], { says: '20_all/layers/ holds no layer', hint: 'put layer folders into it' })
  back()
  rig.layer('20_all/layers/20_in', { 'modify-disk': script('true', '# vlb: secret x\n') })
  await refused(rig, ['build'], { says: '20_all/layers/20_in/modify-disk: "# vlb: secret"', hint: 'layer above' })
})
