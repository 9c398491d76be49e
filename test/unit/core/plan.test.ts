// Plans: which layers make a chain, and the key of each step.
import { describe, expect, test } from 'vitest'
import type { Config } from '../../../src/core/config.ts'
import { parseConfig } from '../../../src/core/config-file.ts'
import { contentId, digest, type LayerKey, treeId } from '../../../src/core/ids.ts'
import { keyOf } from '../../../src/core/key.ts'
import type { Layer } from '../../../src/core/layer.ts'
import {
  checkEnvironment,
  checkLayers,
  environmentOf,
  findLayer,
  type KeyContext,
  planSteps,
  upTo,
} from '../../../src/core/plan.ts'
import { complaint } from '../errors.ts'

const withBase = parseConfig('version: 1\nbase: { path: a }\n', 'vlb.yaml', 'x')
const without = parseConfig('version: 1\n', 'vlb.yaml', 'x')

function layer(name: string, more: Partial<Layer> & { env?: Record<string, string | undefined> } = {}): Layer {
  const { env = {}, ...rest } = more
  const directives = {
    nocache: false,
    noshare: false,
    env,
    network: true,
    secrets: [],
    caches: [],
    includes: [],
    binds: [],
    mounts: [],
  }
  const tree = treeId(Buffer.from(name.padEnd(20)).toString('hex'))
  return { name, kind: 'build-layer', tree, directives, interpreter: '/bin/sh', includes: {}, dirty: false, ...rest }
}
const base = layer('00_base', { kind: 'build-base' })
const [a, b, c] = [layer('10_a'), layer('20_b'), layer('100_c')] as const
const names = (layers: readonly Layer[]) => layers.map(({ name }) => name)

describe('the layers of a chain', () => {
  test('are sorted', () => {
    expect(names(checkLayers([c, b, a], withBase, 'vlb.yaml'))).toEqual(['10_a', '20_b', '100_c'])
    expect(names(checkLayers([b, base], without, 'vlb.yaml'))).toEqual(['00_base', '20_b'])
  })

  test.each<[string, Layer[], Config, string, string, string]>([
    ['none', [], withBase, 'VLB_NO_LAYERS', 'this project has no layers', 'git vlb new NAME'],
    [
      'a build-base that is not the first',
      [a, layer('20_x', { kind: 'build-base' })],
      withBase,
      'VLB_LAYER_KIND',
      '20_x holds a build-base script, but is not the first layer',
      'the first is 10_a',
    ],
    [
      'two bases',
      [base, a],
      withBase,
      'VLB_CONFIG',
      'vlb.yaml names a base, and 00_base makes one',
      'keep one of the two',
    ],
    [
      'no base',
      [a],
      without,
      'VLB_NO_BASE',
      'no base: vlb.yaml has no "base:", and 10_a holds no build-base',
      'base: { path: … }',
    ],
  ])('%s', (_name, layers, config, code, what, hint) => {
    const said = complaint(code as 'VLB_NO_BASE', () => checkLayers(layers, config, 'vlb.yaml'))
    expect(said).toContain(what)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })
})

describe('a layer by name or number', () => {
  const all = [a, b, c]

  test.each(['20_b', '20', '020', '20_b/'])('%s', (wanted) => expect(findLayer(all, wanted)).toBe(b))

  test.each([
    ['30', 'no layer "30"', 'layers: 10_a, 20_b, 100_c'],
    ['b', 'no layer "b"', 'layers: 10_a'],
    ['', 'no layer ""', 'layers: 10_a'],
    ['1', 'no layer "1"', 'layers: 10_a'],
  ])('%j is none', (wanted, what, hint) => {
    const said = complaint('VLB_LAYER_UNKNOWN', () => findLayer(all, wanted))
    expect(said).toContain(what)
    expect(said).toContain(hint)
  })

  test('a number that two have', () => {
    const said = complaint('VLB_LAYER_UNKNOWN', () => findLayer([b, layer('20_z')], '20'))
    expect(said).toContain('"20" could be 20_b or 20_z')
    expect(said).toContain('give the whole name')
  })

  test('all up to it', () => {
    expect(names(upTo(all, '20'))).toEqual(['10_a', '20_b'])
    expect(names(upTo(all, '100_c'))).toEqual(['10_a', '20_b', '100_c'])
    expect(names(upTo(all, undefined))).toEqual(['10_a', '20_b', '100_c'])
    expect(complaint('VLB_LAYER_UNKNOWN', () => upTo(all, '30'))).toContain('no layer "30"')
  })
})

describe('values', () => {
  const declares = layer('10_a', { env: { GIVEN: 'x', FILE: 'y', DEFAULT: 'z', EMPTY: '' } })
  const config = { ...withBase, env: { FILE: 'file', GIVEN: 'file', UNDECLARED: 'u' } }

  test('from --env, else vlb.yaml, else the default; never one that is not declared', () => {
    expect(environmentOf(declares, config, { GIVEN: 'cli' })).toEqual({
      GIVEN: 'cli',
      FILE: 'file',
      DEFAULT: 'z',
      EMPTY: '',
    })
    expect(environmentOf(a, config, {})).toEqual({})
  })

  test('an empty value given is a value', () => {
    expect(environmentOf(declares, config, { GIVEN: '', FILE: '' })).toMatchObject({ GIVEN: '', FILE: '' })
  })

  test.each(['RELEASE', 'constructor', 'toString'])('%s without a value is refused', (name) => {
    const said = complaint('VLB_ENV', () => environmentOf(layer('10_a', { env: { [name]: undefined } }), withBase, {}))
    expect(said).toContain(`10_a needs a value for ${name}`)
    expect(said).toContain(`--env ${name}=…`)
  })

  test('a value that no layer declares is refused', () => {
    const some = [layer('10_a', { env: { RELEASE: 'x' } }), layer('20_b', { env: { ARCH: 'y' } })]
    expect(() => checkEnvironment(some, { RELEASE: '1', ARCH: '2' })).not.toThrow()
    const said = complaint('VLB_ENV', () => checkEnvironment(some, { RELAESE: '1' }))
    expect(said).toContain('no layer declares the value RELAESE')
    expect(said).toContain('declared: ARCH, RELEASE')
    expect(complaint('VLB_ENV', () => checkEnvironment([a], { X: '' }))).toContain('# vlb: env X')
  })
})

describe('the steps of a plan', () => {
  const on = digest(`sha256:${'ab'.repeat(32)}`)
  const nothing: KeyContext = { arch: 'x86_64', base: on, env: {}, contentOf: async () => undefined }
  const plan = (config: Config, layers: Layer[], context: KeyContext = nothing) =>
    planSteps({ label: '', commit: undefined, config, layers }, layers, context)
  const keys = async (...args: Parameters<typeof plan>) => (await plan(...args)).map(({ key }) => key)

  test('the first stands on the base, each other on the one before it', async () => {
    const steps = await plan(withBase, [a, b])
    expect(steps.map(({ inputs }) => inputs)).toEqual([
      { kind: 'build-layer', engine: 1, base: on, tree: a.tree },
      { kind: 'build-layer', engine: 1, parent: steps[0]?.key, tree: b.tree },
    ])
    expect(steps.map(({ key }) => key)).toEqual(steps.map(({ inputs }) => keyOf(inputs)))
  })

  test('neither name nor number is part of a key', async () => {
    const renamed = [
      { ...a, name: '11_other' },
      { ...b, name: '99_b' },
    ]
    expect(await keys(withBase, renamed)).toEqual(await keys(withBase, [a, b]))
  })

  test('a change gives new keys from there on, and none before', async () => {
    const [before, after] = [
      await keys(withBase, [a, b, c]),
      await keys(withBase, [a, { ...b, tree: treeId('f'.repeat(40)) }, c]),
    ]
    expect(before.map((key, i) => key === after[i])).toEqual([true, false, false])
  })

  test('another base or root: other keys for all', async () => {
    const usual = await keys(withBase, [a, b])
    const others = await Promise.all([
      keys(withBase, [a, b], { ...nothing, base: digest(`sha256:${'cd'.repeat(32)}`) }),
      keys({ ...withBase, disk: { size: undefined, root: '2' } }, [a, b]),
    ])
    expect(new Set([...usual, ...others.flat()]).size).toBe(6)
  })

  test('another kind of host: another base from a script, and so another chain; the same where the base is given', async () => {
    const there = { ...nothing, arch: 'aarch64' }
    expect(await keys(withBase, [a, b], there)).toEqual(await keys(withBase, [a, b]))
    const made = [layer('00_base', { kind: 'build-base' }), a]
    const both = await Promise.all(
      [nothing, there].map((host) => keys(parseConfig('version: 1', 'vlb.yaml', 'x'), made, host)),
    )
    expect(new Set(both.flat()).size).toBe(4)
  })

  test('what else vlb.yaml says changes no key', async () => {
    const other = parseConfig(
      'version: 1\nname: y\nbase: { path: b }\nenv: { X: y }\noutput: { format: raw }\nboot: { cpus: 4 }\n',
      'vlb.yaml',
      'z',
    )
    expect(await keys(other, [a, b])).toEqual(await keys(withBase, [a, b]))
  })

  test('a grown disk is a step of its own, on the base', async () => {
    const config = { ...withBase, disk: { size: 2 ** 30, root: undefined } }
    const steps = await plan(config, [a])
    expect(steps.map(({ name, layer: l, inputs }) => [name, l?.name, inputs.kind, inputs.size])).toEqual([
      ['disk', undefined, 'disk', 2 ** 30],
      ['10_a', '10_a', 'build-layer', undefined],
    ])
    expect(steps[0]?.inputs.base).toBe(on)
    expect(steps[1]?.inputs).toMatchObject({ parent: steps[0]?.key })
    expect(steps[1]?.inputs.base).toBeUndefined()
  })

  test('a build-base layer stands on nothing, and the disk grows on it', async () => {
    const config = { ...without, disk: { size: 2 ** 30, root: undefined } }
    const steps = await plan(config, [base, a], { ...nothing, base: undefined })
    expect(steps.map(({ name }) => name)).toEqual(['00_base', 'disk', '10_a'])
    expect(steps[0]?.inputs).toEqual({ kind: 'build-base', arch: 'x86_64', engine: 1, tree: base.tree })
    expect(steps[1]?.inputs.parent).toBe(steps[0]?.key)
  })

  test('a child is made from what its parent is, not from what it was looked up by', async () => {
    const before = await plan(withBase, [a, b, c])
    const content = contentId('ee'.repeat(32))
    const contentOf = async (key: LayerKey) => (key === before[0]?.key ? content : undefined)
    const after = await plan(withBase, [a, b, c], { ...nothing, contentOf })
    expect(after[0]?.key).toBe(before[0]?.key)
    expect(after[1]?.inputs.parent).toBe(content)
    expect(after[1]?.key).not.toBe(before[1]?.key)
    expect(after[2]?.inputs.parent).toBe(after[1]?.key)
  })

  test('declared values are part of the key of the layer that declares them, and of no other below', async () => {
    const layers = [a, layer('20_b', { env: { R: 'x' } })]
    const steps = await plan(withBase, layers, { ...nothing, env: { R: 'y' } })
    expect(steps[1]?.inputs.env).toEqual({ R: 'y' })
    expect(steps[0]?.inputs).not.toHaveProperty('env')
    expect(steps[0]?.key).toBe((await keys(withBase, layers))[0])
    expect(steps[1]?.key).not.toBe((await keys(withBase, layers))[1])
  })

  test('a missing value is refused before anything is built', async () => {
    await expect(plan(withBase, [a, layer('20_b', { env: { R: undefined } })])).rejects.toThrow('20_b needs a value')
  })
})

test('a look at a chain: from the layer that lacks a value on, no keys', async () => {
  const look = { arch: 'x86_64', base: digest('sha256:0'), env: {}, contentOf: async () => undefined, look: true }
  const layers = [a, layer('20_x', { env: { R: undefined } }), c]
  const steps = await planSteps({ label: '', commit: undefined, config: withBase, layers }, layers, look)
  expect(steps.map(({ key }) => key !== '')).toEqual([true, false, false])
  expect(steps.map(({ lacks }) => lacks)).toEqual([undefined, 'R', undefined])
})
