// Results as text for people.
import { describe, expect, test, vi } from 'vitest'
import { VlbError } from '../../../src/core/errors.ts'
import type { CommandResult } from '../../../src/core/results.ts'
import type { BootResult } from '../../../src/core/results-boot.ts'
import type { BuildResult } from '../../../src/core/results-build.ts'
import type { PrebuildStatus, StatusResult } from '../../../src/core/results-status.ts'
import { buildErrorText, errorText } from '../../../src/report/error.ts'
import { shownPath } from '../../../src/report/layers.ts'
import { makeStyle, type Style } from '../../../src/report/style.ts'
import { resultText } from '../../../src/report/text.ts'

const style: Style = (_look, text) => text
const text = (result: CommandResult) => resultText(result, { style, cwd: '/p' })
// The clock stands still: ages are the same however slow the machine is.
vi.useFakeTimers({ toFake: ['Date'] })
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000).toISOString()
const key = 'abcdef0123456789'.repeat(4)

const status: StatusResult = {
  project: 'web',
  rev: 'main',
  base: { digest: `sha256:${key}`, size: 2 ** 31, source: 'debian.qcow2', diskSize: 10 * 2 ** 30 },
  layers: [
    {
      name: '10_a',
      kind: 'build-layer',
      tree: 't',
      key,
      state: 'cached',
      reason: '',
      why: [],
      last: null,
      dirty: false,
      bytes: 5 * 2 ** 20,
      seconds: 3.2,
      builtAt: ago(7300),
    },
    {
      name: '20_b',
      kind: 'build-layer',
      tree: 't',
      key,
      state: 'missing',
      reason: 'its files changed',
      why: [],
      last: null,
      dirty: true,
      bytes: 0,
      seconds: 0,
      builtAt: null,
    },
  ],
  rollup: null,
  prebuild: null,
  store: { path: '/p/.git/vlb', bytes: null, budgetBytes: null, configured: false },
  image: { path: '/p/build/image.qcow2', state: 'stale', tested: null },
}

const layer = { key, contentId: key, seconds: 1.5, bytes: 2 ** 20 }
const build: BuildResult = {
  ok: true,
  dryRun: false,
  layers: [
    { ...layer, name: 'disk', result: 'cached' },
    { ...layer, name: '10_a', result: 'built' },
  ],
  image: null,
  images: [
    { path: '/p/build/i.qcow2', format: 'qcow2', bytes: 2 ** 20, sha256: null, seal: [], written: true, seconds: 0.5 },
    { path: '/else/i.raw', format: 'raw', bytes: 2 ** 20, sha256: null, seal: [], written: false, seconds: 0 },
  ],
  seconds: 2,
  exitStatus: 0,
}

describe('status', () => {
  test('a table, the base, and what to do', () => {
    expect(text({ kind: 'status', data: status })).toBe(
      [
        'web at main, base debian.qcow2 (abcdef012345), disk of 10.0 GiB',
        '  layer         state    key              size  built in    built',
        '  10_a          cached   abcdef012345  5.0 MiB     3.2 s  2 h ago',
        '  20_b (dirty)  missing  abcdef012345                              its files changed',
        'image build/image.qcow2: stale   (git vlb build)',
        '',
      ].join('\n'),
    )
  })

  test('nothing to do when all is there', () => {
    const data = { ...status, layers: status.layers.slice(0, 1), image: { ...status.image, state: 'current' as const } }
    expect(text({ kind: 'status', data })).not.toContain('git vlb build')
  })

  test('a rollup that would pay: one line', () => {
    const data = { ...status, rollup: { from: '10_a', to: '59_x', layers: 50 } }
    expect(text({ kind: 'status', data })).toContain(
      '(git vlb build)\nwith 2 layers each build takes longer: git vlb rollup 10_a..59_x makes one of 50, the same disk\n',
    )
  })

  test('a base that a layer makes', () => {
    const data = { ...status, base: { digest: null, size: null, source: '00_base', diskSize: null } }
    expect(text({ kind: 'status', data })).toContain('web at main, base from 00_base\n')
  })
})

describe('build', () => {
  test('layers, images, and a sum', () => {
    expect(text({ kind: 'build', data: build })).toBe(
      [
        '  (disk grown)  cached         1.0 MiB',
        '  10_a          built   1.5 s  1.0 MiB',
        'image build/i.qcow2  1.0 MiB qcow2, written in 0.5 s',
        'image /else/i.raw  1.0 MiB raw, already current',
        '1 built, 1 from the store, 2.0 s in all',
        '',
      ].join('\n'),
    )
  })

  test('several revisions, each under its name', () => {
    const layers = ['v1', 'v2'].map((rev) => ({ ...layer, name: '10_a', result: 'cached' as const, rev }))
    expect(text({ kind: 'build', data: { ...build, layers, images: [] } })).toMatch(/^v1\n {2}10_a.*\nv2\n {2}10_a/)
  })

  test('a dry run says what would be done, and no sum', () => {
    const layers = [{ ...layer, name: '10_a', result: 'skipped' as const, bytes: 0 }]
    expect(text({ kind: 'build', data: { ...build, dryRun: true, layers, images: [] } })).toBe('  10_a  to build\n')
  })

  test('a failure', () => {
    const layers = [
      { ...layer, name: '10_a', result: 'failed' as const, bytes: 0 },
      { ...layer, name: '20_b', result: 'skipped' as const, bytes: 0 },
    ]
    expect(text({ kind: 'build', data: { ...build, ok: false, layers, images: [] } })).toBe(
      '  10_a  failed   1.5 s\n  20_b  skipped\n',
    )
  })
})

describe('the others', () => {
  test('init', () => {
    const data = { directory: '/p/try', template: 'busybox', files: ['vlb.yaml'], createdRepository: true }
    expect(text({ kind: 'init', data })).toBe(
      'busybox project in try in a new git repository:\n  vlb.yaml\nnext: cd try && git vlb build\n',
    )
    expect(text({ kind: 'init', data: { ...data, directory: '/p', createdRepository: false } })).toBe(
      'busybox project in /p:\n  vlb.yaml\nnext: git vlb build\n',
    )
  })

  test('new', () => {
    expect(text({ kind: 'new', data: { name: '10_a', script: '/p/10_a/build-layer' } })).toBe(
      'made 10_a; edit its script: 10_a/build-layer\n',
    )
  })

  test('a log is handed on as it is', () => {
    expect(text({ kind: 'log', data: { layer: 'a', key, failed: true, path: '/x', text: 'a\nb' } })).toBe('a\nb')
  })

  test('doctor', () => {
    const checks = [
      { name: 'git', ok: true, required: true, found: '2.39.5', neededFor: 'everything' },
      { name: 'qemu-img', ok: false, required: true, found: '5.2.0, needs 6.0', neededFor: 'images' },
      { name: 'zstd', ok: false, required: false, found: 'missing', neededFor: 'some bases' },
    ]
    const data = { ok: false, checks, install: ['apt-get', 'install', 'qemu-utils'], missing: ['qemu-img'] }
    const said = text({ kind: 'doctor', data })
    expect(said).toContain('  ok       git       2.39.5            everything\n')
    expect(said).toContain('  missing  qemu-img  5.2.0, needs 6.0  images\n')
    expect(said).toContain('  absent   zstd      missing           some bases\n')
    expect(said).toMatch(/cannot build images yet\ninstall what is missing: (sudo )?apt-get install qemu-utils\n$/)
    expect(text({ kind: 'doctor', data: { ...data, install: null } })).toContain('install what is missing: qemu-img\n')
    expect(text({ kind: 'doctor', data: { ...data, ok: true, install: null, missing: [] } })).toMatch(
      /\nthis host can build images\n$/,
    )
  })
})

test('paths are shown from where the user is', () => {
  expect(shownPath('/p/a', '/p')).toBe('a')
  expect(shownPath('/pa', '/p')).toBe('/pa')
  expect(shownPath('/p', '/p')).toBe('/p')
})

describe('errors', () => {
  test('an expected one: what and what to do, no stack', () => {
    expect(errorText(new VlbError('VLB_CONFIG', 'vlb.yaml:1:1: bad', { hint: 'mend it' }), style)).toBe(
      'error: vlb.yaml:1:1: bad\nhint: mend it\n',
    )
  })

  test('one of ours: the stack, and where to turn', () => {
    const said = errorText(new TypeError('x is not a function'), style)
    expect(said).toMatch(/^bug in git vlb: TypeError: x is not a function\n\s+at /)
    expect(said).toContain('git vlb doctor')
  })

  test('a failed layer: its last lines first, which cannot steer the terminal', () => {
    const lastLines = ['\u001b[31mred\u001b[0m\u001b]0;title\u0007', 'b\u0008\tc', '\u202eabc']
    const error = {
      code: 'VLB_LAYER_FAILED',
      message: '10_a/build-layer ended with status 1',
      hint: 'h',
      layer: '10_a',
    }
    expect(buildErrorText({ ...error, lastLines }, style)).toBe(
      'last lines of 10_a:\n  | red\n  | b  c\n  | abc\nerror: 10_a/build-layer ended with status 1\nhint: h\n',
    )
    expect(buildErrorText(error, style)).toBe('error: 10_a/build-layer ended with status 1\nhint: h\n')
  })
})

describe('colours', () => {
  test.each<[string, boolean, NodeJS.ProcessEnv, boolean]>([
    ['on a terminal', true, {}, true],
    ['not in a pipe', false, {}, false],
    ['not with NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['an empty NO_COLOR is none', true, { NO_COLOR: '' }, true],
    ['not on a dumb terminal', true, { TERM: 'dumb' }, false],
  ])('%s', (_name, isTTY, env, coloured) => {
    expect(makeStyle({ isTTY }, env)('red', 'x') !== 'x').toBe(coloured)
  })
})

describe('the prebuild in a status', () => {
  const ended: PrebuildStatus = {
    state: 'done',
    layer: null,
    built: [],
    reason: '',
    pid: 7,
    startedAt: ago(200),
    endedAt: ago(125),
    log: '/p/.git/vlb-prebuild/prebuild.log',
  }
  test.each([
    [{}, 'prebuild done 2 min ago: nothing to build'],
    [{ built: ['10_a'] }, 'prebuild done 2 min ago: built 1 layer'],
    [
      { state: 'running', layer: '10_a', startedAt: ago(12), endedAt: null },
      'prebuild running for 12.0 s: 10_a   (log: .git/vlb-prebuild/prebuild.log)',
    ],
    [
      { state: 'failed', built: ['10_a', '20_b'], reason: 'x\u001b[31m' },
      'prebuild failed 2 min ago: built 2 layers; x?[31m   (log: .git/vlb-prebuild/prebuild.log)',
    ],
    [
      { state: 'stopped', reason: 'it was killed', endedAt: null },
      'prebuild stopped: it was killed   (log: .git/vlb-prebuild/prebuild.log)',
    ],
  ] satisfies [Partial<PrebuildStatus>, string][])('%j', (more, line) => {
    const prebuild = { ...ended, ...more }
    expect(text({ kind: 'status', data: { ...status, prebuild } })).toContain(`\n${line}\n`)
  })
})

test('a boot that nothing was expected of says nothing, unless it failed', () => {
  const data: BootResult = {
    ...{ ok: true, verdict: 'ended', image: '/p/x.qcow2', accelerator: 'tcg', firmware: 'bios', expect: null },
    ...{ expected: [], matched: null, seconds: 3, reason: 'qemu ended with status 1', screenshot: null, kept: null },
    ...{ exitStatus: 0, forwards: [] },
  }
  expect(text({ kind: 'test-boot', data })).toBe('')
  expect(text({ kind: 'test-boot', data: { ...data, ok: false } })).toBe(
    'failed (tcg, 3.0 s): qemu ended with status 1\n',
  )
})
