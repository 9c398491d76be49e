// What is built again, and what never is.
import { chmodSync, readFileSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const two = { '10_a': 'echo a > /a', '20_b': { 'build-layer': '#!/bin/sh\ncat data > /b\n', data: 'b\n' } }

/** Keys by layer, of what would be built. */
async function keys(rig: Rig, ...args: string[]): Promise<Record<string, string>> {
  const { layers } = await rig.json('build', '--dry-run', ...args)
  return Object.fromEntries(layers.map((layer: { name: string; key: string }) => [layer.name, layer.key]))
}

rigTest('a second build builds nothing, and does not write the image again', async (rig) => {
  rig.project(two)
  rig.commit()
  expect(await rig.build()).toEqual(['10_a built', '20_b built'])
  const again = await rig.json('build')
  expect(again.layers.map((l: { result: string }) => l.result)).toEqual(['cached', 'cached'])
  expect(again.image.written).toBe(false)
  expect(rig.readFromImage(again.image.path, '/b')).toBe('b\n')
})

rigTest('an edit of the last layer builds that one, and committing it builds nothing', async (rig) => {
  rig.project(two)
  rig.commit()
  await rig.build()
  rig.write({ '20_b/data': 'edited\n' })
  expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('edited\n')
  rig.commit()
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  rig.write({ '20_b/data': 'b\n' })
  expect(await rig.build(), 'back to what was built before').toEqual(['10_a cached', '20_b cached'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('b\n')
})

rigTest('switching to a branch with other layers and back builds nothing', async (rig) => {
  rig.project(two)
  rig.commit()
  await rig.build()
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.write({ '20_b/data': 'other\n' })
  rig.layer('30_c', 'echo c > /c')
  rig.commit()
  expect(await rig.build()).toEqual(['10_a cached', '20_b built', '30_c built'])
  rig.git('checkout', '--quiet', 'main')
  const back = await rig.json('build')
  expect(back.layers.map((l: { result: string }) => l.result)).toEqual(['cached', 'cached'])
  expect(rig.readFromImage(back.image.path, '/b'), 'the image follows the branch').toBe('b\n')
  rig.git('checkout', '--quiet', 'other')
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached', '30_c cached'])
})

rigTest('every change of a layer that git would record is seen, and nothing else', async (rig) => {
  rig.project({
    '10_a': 'echo a > /a',
    '20_b': { 'build-layer': '#!/bin/sh\ncat data > /b\n', data: 'b\n', more: 'more\n' },
  })
  writeFileSync(rig.path('.gitignore'), '/build/\n/tiny.raw\n*.log\n')
  rig.commit()
  await rig.build()
  const first = await keys(rig)
  const changes: Record<string, () => void> = {
    'a file renamed': () => renameSync(rig.path('20_b/more'), rig.path('20_b/most')),
    'a file made executable': () => chmodSync(rig.path('20_b/data'), 0o755),
    'a file turned into a symlink': () => {
      rmSync(rig.path('20_b/more'))
      symlinkSync('data', rig.path('20_b/more'))
    },
    'an untracked file': () => rig.write({ '20_b/new': '' }),
    'a deleted file': () => rmSync(rig.path('20_b/more')),
    'a file of the same length': () => rig.write({ '20_b/data': 'c\n' }),
  }
  const seen = new Set([first['20_b']])
  for (const [name, change] of Object.entries(changes)) {
    change()
    const plan = await rig.json('build', '--dry-run')
    expect(
      plan.layers.map((l: { name: string; result: string }) => `${l.name} ${l.result}`),
      name,
    ).toEqual(['10_a cached', '20_b skipped'])
    expect(seen, name).not.toContain(plan.layers[1].key)
    seen.add(plan.layers[1].key)
    rig.git('checkout', '--quiet', '--', '.')
    rig.git('clean', '--quiet', '-d', '--force')
    chmodSync(rig.path('20_b/data'), 0o644)
  }
  rig.write({ '20_b/noise.log': 'ignored', 'elsewhere/file': 'outside of all layers' })
  chmodSync(rig.path('20_b/data'), 0o640)
  expect(await rig.build(), 'ignored, outside, and a mode that git does not hold').toEqual([
    '10_a cached',
    '20_b cached',
  ])
})

rigTest('an edit in the very moment of a checkout, of the same length, is not missed', async (rig) => {
  rig.project(two)
  // Times alone decide then: as if all happened within one tick of the clock.
  rig.git('config', 'core.trustctime', 'false')
  rig.write({ '20_b/data': 'x\n' })
  const moment = new Date('2024-01-01T00:00:00Z')
  utimesSync(rig.path('20_b/data'), moment, moment)
  rig.commit()
  await rig.build()
  writeFileSync(rig.path('20_b/data'), 'y\n')
  for (const file of ['20_b/data', '.git/index']) utimesSync(rig.path(file), moment, moment)
  expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('y\n')
})

rigTest('a dirty layer is built with its changes, an ignored file stays out', async (rig) => {
  rig.project({
    '10_a': { 'build-layer': '#!/bin/sh\nls -A > /list; readlink link > /link; cat new > /new\n', old: '' },
  })
  writeFileSync(rig.path('.gitignore'), '/build/\n/tiny.raw\n*.log\n')
  rig.commit()
  rmSync(rig.path('10_a/old'))
  rig.write({ '10_a/new': 'new\n', '10_a/noise.log': '' })
  symlinkSync('new', rig.path('10_a/link'))
  await rig.build()
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/list')).toBe('build-layer\nlink\nnew\n')
  expect(rig.readFromImage(image, '/link')).toBe('new\n')
  expect(rig.readFromImage(image, '/new')).toBe('new\n')
})

rigTest('another number or name of a folder changes no key', async (rig) => {
  rig.project(two)
  rig.commit()
  await rig.build()
  renameSync(rig.path('20_b'), rig.path('45_renamed'))
  renameSync(rig.path('10_a'), rig.path('0011_a'))
  expect(await rig.build()).toEqual(['0011_a cached', '45_renamed cached'])
})

rigTest('two clones with other umasks: the same keys, the same modes in the image', async (rig) => {
  rig.project({
    '10_a': {
      'build-layer': '#!/bin/sh\nstat -c "%a %n" . build-layer data sub sub/tool > /modes; touch /made\n',
      data: '',
      'sub/tool': '#!/bin/sh\n',
    },
  })
  rig.commit()
  const before = process.umask(0o002)
  try {
    const found: unknown[] = []
    for (const umask of [0o002, 0o022, 0o077]) {
      process.umask(umask)
      const clone = join(rig.folder, `clone-${umask}`)
      rig.git('clone', '--quiet', rig.repo, clone)
      writeFileSync(join(clone, 'tiny.raw'), readFileSync(rig.path('tiny.raw')))
      const ran = await rig.vlb(['build', '--json'], { cwd: clone })
      expect(ran.code, ran.all).toBe(0)
      const image = join(clone, 'build/image.qcow2')
      found.push([
        JSON.parse(ran.stdout).layers[0].key,
        rig.readFromImage(image, '/modes'),
        modeOf(rig, image, '/made'),
      ])
    }
    const [first] = found as [string, string, string][]
    expect(first?.[1]).toBe('755 .\n755 build-layer\n644 data\n755 sub\n755 sub/tool\n')
    expect(first?.[2]).toBe('0644')
    expect(found).toEqual([first, first, first])
  } finally {
    process.umask(before)
  }
})

function modeOf(rig: Rig, image: string, path: string): string {
  return /Mode: +(\d+)/.exec(rig.debugfs(image, `stat ${path}`))?.[1] ?? ''
}

rigTest('nocache: that layer and all above it are built each time, none below', async (rig) => {
  rig.project({ '10_a': 'true', '20_b': '# vlb: nocache\ntrue', '30_c': 'true' })
  rig.commit()
  await rig.build()
  expect(await rig.build()).toEqual(['10_a cached', '20_b built', '30_c built'])
  expect(await rig.build()).toEqual(['10_a cached', '20_b built', '30_c built'])
})

rigTest('ttl: a snapshot that is older counts as missing', async (rig) => {
  rig.project({ '10_a': '# vlb: ttl 1h\ntrue', '20_b': 'true' })
  rig.commit()
  const first = await rig.json('build')
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  const manifest = rig.store('snapshots', first.layers[0].key, 'manifest.json')
  const data = JSON.parse(readFileSync(manifest, 'utf8'))
  writeFileSync(manifest, JSON.stringify({ ...data, builtAt: new Date(Date.now() - 3_601_000).toISOString() }))
  expect(await rig.build()).toEqual(['10_a built', '20_b built'])
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
})

rigTest('--rebuild builds that layer and all above; what other branches stand on stays as it is', async (rig) => {
  rig.project({ '10_a': 'cat /proc/sys/kernel/random/uuid > /a', '20_b': 'cat /a > /b' })
  rig.commit()
  const first = await rig.json('build')
  const image = rig.path('build/image.qcow2')
  const uuid = rig.readFromImage(image, '/a')
  const overlays = first.layers.map((l: { key: string }) => rig.store('snapshots', l.key, 'layer.qcow2'))
  const bytes = overlays.map((file: string) => readFileSync(file))
  expect(await rig.build('--rebuild', '10_a')).toEqual(['10_a built', '20_b built'])
  const now = rig.readFromImage(image, '/a')
  expect(now).not.toBe(uuid)
  expect(rig.readFromImage(image, '/b')).toBe(now)
  expect(await rig.build(), 'the newer one is the current one').toEqual(['10_a cached', '20_b cached'])
  for (const [i, overlay] of overlays.entries()) {
    expect(readFileSync(overlay).equals(bytes[i])).toBe(true)
  }
  const [, upper] = first.layers.map((l: { key: string }) => rig.store('chain', `${l.key}.qcow2`))
  rig.tool('qemu-img', 'check', '-q', upper)
  expect(rig.readFromImage(upper, '/b')).toBe(uuid)
  expect(await rig.build('--rebuild', '20')).toEqual(['10_a cached', '20_b built'])
  expect((await rig.vlb(['build', '--rebuild', '99'])).code).toBe(2)
})

rigTest('--rebuild of what several revisions share builds it once', async (rig) => {
  rig.project({ '10_a': 'cat /proc/sys/kernel/random/uuid > /a', '20_b': 'true' })
  rig.commit()
  rig.git('branch', 'other')
  await rig.build()
  const names = ['main', 'other']
  const expected = ['10_a built', '20_b built', '10_a cached', '20_b cached']
  expect(await rig.build('--rebuild', '10_a', ...names)).toEqual(expected)
})

rigTest('--frozen builds nothing and fails where something is missing', async (rig) => {
  rig.project(two)
  rig.commit()
  const fresh = await rig.vlb(['build', '--frozen'])
  expect(fresh.code).toBe(1)
  expect(fresh.stderr).toContain('10_a is not in the store')
  await rig.build()
  expect(await rig.build('--frozen')).toEqual(['10_a cached', '20_b cached'])
  rig.write({ '20_b/data': 'edited\n' })
  const edited = await rig.vlb(['build', '--frozen'])
  expect(edited.code).toBe(1)
  expect(edited.stderr).toContain('20_b is not in the store')
})

rigTest('--dry-run tells what would be built, and does nothing', async (rig) => {
  rig.project(two)
  rig.commit()
  const ran = await rig.vlb(['build', '--dry-run'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stdout).toMatch(/10_a +to build/)
  expect(rig.exists('build')).toBe(false)
  expect(rig.exists('.git/vlb/snapshots'), 'not even a store').toBe(false)
})

rigTest('--last, by name and number', async (rig) => {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b', '30_c': 'echo c > /c' })
  rig.commit()
  expect(await rig.build('--last', '20_b')).toEqual(['10_a built', '20_b built'])
  const image = rig.path('build/image.qcow2')
  expect([rig.readFromImage(image, '/b'), rig.readFromImage(image, '/c')]).toEqual(['b\n', ''])
  expect(await rig.build('--last', '10')).toEqual(['10_a cached'])
  expect(rig.readFromImage(image, '/b')).toBe('')
  expect((await rig.vlb(['build', '--last', '4'])).code).toBe(2)
})

rigTest('a declared value is part of the key of the layers that declare it, and of no other', async (rig) => {
  rig.project(
    {
      // biome-ignore lint/suspicious/noTemplateCurlyInString: sh reads it
      '10_a': 'echo "${RELEASE-unset}" > /a',
      '20_b': '# vlb: env RELEASE\n# vlb: env KIND=plain\necho "$RELEASE $KIND" > /b',
    },
    'env: { RELEASE: stable, OTHER: x }\n',
  )
  rig.commit()
  const image = rig.path('build/image.qcow2')
  await rig.build()
  expect([rig.readFromImage(image, '/a'), rig.readFromImage(image, '/b')]).toEqual(['unset\n', 'stable plain\n'])
  expect(await rig.build('--env', 'RELEASE=sid', '--env', 'KIND=')).toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(image, '/b')).toBe('sid \n')
  expect(await rig.build('--env', 'RELEASE=stable')).toEqual(['10_a cached', '20_b cached'])
  expect(rig.readFromImage(image, '/b')).toBe('stable plain\n')
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('OTHER: x', 'OTHER: y') })
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('RELEASE: stable', 'RELEASE: testing') })
  expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
})

rigTest('another base builds all again, the former one nothing', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const base = readFileSync(rig.path('tiny.raw'))
  await rig.build()
  const other = Buffer.from(base)
  other[440] = 7
  writeFileSync(rig.path('tiny.raw'), other)
  expect(await rig.build()).toEqual(['10_a built'])
  writeFileSync(rig.path('tiny.raw'), base)
  expect(await rig.build()).toEqual(['10_a cached'])
})

rigTest('a store that is moved stays valid', async (rig) => {
  rig.project(two)
  rig.commit()
  await rig.build()
  await rig.ok('build', '--no-flatten', '-o', rig.path('build/overlay.qcow2'))
  const elsewhere = join(rig.folder, 'a store, elsewhere')
  renameSync(rig.store(), elsewhere)
  rig.git('config', 'vlb.store', elsewhere)
  expect(await rig.build('-o', rig.path('build/other.qcow2'))).toEqual(['10_a cached', '20_b cached'])
  expect(rig.readFromImage(rig.path('build/other.qcow2'), '/b')).toBe('b\n')
  rig.write({ '20_b/data': 'edited\n' })
  expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('edited\n')
  rig.write({ '20_b/data': 'b\n' })
  await rig.ok('build', '--no-flatten', '-o', rig.path('build/overlay.qcow2'))
  expect(rig.readFromImage(rig.path('build/overlay.qcow2'), '/b'), 'an overlay follows its chain').toBe('b\n')
})

rigTest('in a git hook, with its variables set, and from a subfolder or with -C', async (rig) => {
  rig.project(two)
  rig.commit()
  await rig.build()
  const hook = `#!/bin/sh\nexec ${rig.command} build --json > "$HOME/from-hook" 2> "$HOME/said"\n`
  rig.write({ '.git/hooks/pre-commit': hook })
  rig.write({ '20_b/data': 'edited\n' })
  const index = () => rig.git('ls-files', '--stage')
  // For `git commit FILE` git gives hooks an index of its own, by GIT_INDEX_FILE.
  rig.git('commit', '--quiet', '-m', 'edit', '20_b/data')
  const result = JSON.parse(readFileSync(join(rig.folder, 'home/from-hook'), 'utf8'))
  expect(result.layers.map((l: { result: string }) => l.result)).toEqual(['cached', 'built'])
  rmSync(rig.path('.git/hooks/pre-commit'))
  const before = index()
  const misleading = {
    GIT_DIR: '/nonexistent',
    GIT_INDEX_FILE: '/nonexistent/index',
    GIT_WORK_TREE: '/',
    GIT_PREFIX: 'x/',
  }
  for (const [args, cwd] of [
    [['build', '--json'], rig.path('20_b')],
    [['-C', rig.repo, 'build', '--json'], rig.folder],
    [['build', '-C', '10_a', '--json'], rig.repo],
  ] as const) {
    const ran = await rig.vlb([...args], { cwd, env: misleading })
    expect(ran.code, `${args.join(' ')}\n${ran.all}`).toBe(0)
    const { layers, image } = JSON.parse(ran.stdout)
    expect(layers.map((l: { result: string }) => l.result)).toEqual(['cached', 'cached'])
    expect(image).toMatchObject({ path: rig.path('build/image.qcow2'), written: false })
  }
  expect(index()).toBe(before)
})
