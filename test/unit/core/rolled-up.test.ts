// Rolled-up layers: what their steps mean together, and the keys of and above them.
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../../src/core/config-file.ts'
import { parseDirectives } from '../../../src/core/directives.ts'
import { contentId, digest, type LayerKey, treeId } from '../../../src/core/ids.ts'
import type { Layer, TreeEntry } from '../../../src/core/layer.ts'
import { type KeyContext, leaves, planSteps, type Step } from '../../../src/core/plan.ts'
import { checkStep, combineDirectives, logHeading, splitLog, stepEntries } from '../../../src/core/rolled-up.ts'
import { complaint } from '../errors.ts'

const config = parseConfig('version: 1\nbase: { path: a }\n', 'vlb.yaml', 'x')

function layer(name: string, directives = '', steps?: Layer[]): Layer {
  return {
    name,
    kind: steps ? 'layers' : 'build-layer',
    tree: treeId(Buffer.from(name.padEnd(20)).toString('hex')),
    directives: steps ? combineDirectives(steps) : parseDirectives(directives, name),
    interpreter: '/bin/sh',
    includes: {},
    dirty: false,
    ...(steps ? { steps } : {}),
  }
}

const [a, b, c, d] = [layer('10_a'), layer('20_b', '# vlb: env X=b'), layer('30_c', '# vlb: env X=c'), layer('40_d')]
const rolled = layer('20_all', '', [b, c])
const context: KeyContext = {
  arch: 'x86_64',
  base: digest(`sha256:${'ab'.repeat(32)}`),
  env: {},
  contentOf: async () => undefined,
}
const plan = (layers: Layer[], more: Partial<KeyContext> = {}): Promise<Step[]> =>
  planSteps({ label: '', commit: undefined, config, layers }, layers, { ...context, ...more })

describe('keys', () => {
  test('the steps have those that they would have outside, and so has what stands on the layer', async () => {
    const apart = await plan([a, b, c, d])
    const together = await plan([a, rolled, d])
    expect(leaves(together).map(({ key }) => key)).toEqual(apart.map(({ key }) => key))
    expect(leaves(together).map(({ name }) => name)).toEqual([
      '10_a',
      '20_all/layers/20_b',
      '20_all/layers/30_c',
      '40_d',
    ])
    expect(together[1]?.content).toBe(apart[2]?.content)
    expect(apart.map(({ key }) => key)).not.toContain(together[1]?.key)
  })

  test('as the first layer, it stands on the base', async () => {
    const [first] = await plan([rolled])
    expect(first?.inputs.base).toBe(context.base)
    expect(first?.inner?.[0]?.inputs).toMatchObject({ base: context.base, kind: 'build-layer' })
  })

  test('a snapshot that is there says what it is', async () => {
    const [, known] = await plan([a, rolled, d])
    const content = contentId('ee'.repeat(32))
    const [, whole, top] = await plan([a, rolled, d], {
      contentOf: async (key: LayerKey) => (key === known?.key ? content : undefined),
    })
    expect(whole?.content).toBe(content)
    expect(top?.inputs.parent).toBe(content)
  })

  test('values stand with the step that declares them: equal names with different defaults are kept apart', async () => {
    const keyWith = async (env: Record<string, string>) => (await plan([rolled], { env }))[0]
    const byDefault = await keyWith({})
    expect(byDefault?.inputs.env).toEqual({ '20_b/X': 'b', '30_c/X': 'c' })
    const keys = [byDefault, await keyWith({ X: 'b' }), await keyWith({ X: 'c' })].map((step) => step?.key)
    expect(new Set(keys).size).toBe(3)
  })

  test('a step that lacks a value makes the whole and all above it keyless, for a look', async () => {
    const lacking = layer('20_all', '', [b, layer('30_c', '# vlb: env MISSING')])
    const steps = await plan([a, lacking, d], { look: true })
    expect(steps.map(({ key, lacks }) => [key === '', lacks])).toEqual([
      [false, undefined],
      [true, 'MISSING'],
      [true, undefined],
    ])
    await expect(plan([a, lacking, d])).rejects.toThrow('30_c needs a value for MISSING')
  })
})

describe('directives together', () => {
  const together = (...texts: string[]) => combineDirectives(texts.map((text, i) => layer(`${10 + i}_x`, text)))

  test('what one needs or forbids, all need or forbid', () => {
    expect(together('# vlb: nocache', '')).toMatchObject({ nocache: true, noshare: false })
    expect(together('', '# vlb: noshare')).toMatchObject({ nocache: false, noshare: true })
    expect(together('# vlb: ttl 2h', '# vlb: ttl 1h', '').ttl).toBe(3600)
    expect(together('', '')).not.toHaveProperty('ttl')
    expect(together('# vlb: secret a\n# vlb: include x', '# vlb: secret b\n# vlb: include x')).toMatchObject({
      secrets: ['a', 'b'],
      includes: ['x'],
    })
  })

  test('a value needs to be given if one step has no default for it', () => {
    expect(together('# vlb: env A=1', '# vlb: env A').env).toEqual({ A: undefined })
    expect(together('# vlb: env A', '# vlb: env A=1').env).toEqual({ A: undefined })
    expect(together('# vlb: env A=1', '# vlb: env B').env).toEqual({ A: '1', B: undefined })
  })
})

describe('a log of several steps', () => {
  const join = (parts: [string, string][]) => parts.map(([name, text]) => `${logHeading(name)}${text}`).join('\n')
  const parts: [string, string][] = [
    ['10_x/layers/10_a', 'one\n\n=== 10_x/layers/30_c\nwhat a script prints\n'],
    ['10_x/layers/20_b', ''],
    ['10_x/layers/30_c', '=== 10_x/layers/20_b\n\n'],
  ]

  test('is taken apart again', () => {
    const names = parts.map(([name]) => name)
    expect([...splitLog(join(parts), names)]).toEqual(parts)
    expect([...splitLog(join(parts.slice(1)), names.slice(1))]).toEqual(parts.slice(1))
  })

  test('a step that is not in it, and what comes behind, have none', () => {
    expect(splitLog(join(parts.slice(0, 1)), ['10_x/layers/10_a', '10_x/layers/15_n'])).toEqual(new Map())
    expect(splitLog('', ['10_x/layers/10_a'])).toEqual(new Map())
  })
})

describe('what git holds', () => {
  const folder = (name: string): TreeEntry => ({ name, mode: '40000', oid: 'x' })

  test('layer folders in their order; other things are no steps', () => {
    const entries = [folder('100_c'), folder('20_b'), folder('docs'), { ...folder('10_x'), mode: '100644' }]
    expect(stepEntries('10_all', entries).map(({ name }) => name)).toEqual(['20_b', '100_c'])
  })

  test('no layer at all, one inside another, a build-base', () => {
    expect(complaint('VLB_LAYER_KIND', () => stepEntries('10_all', [folder('docs')]))).toContain('holds no layer')
    expect(complaint('VLB_LAYER_KIND', () => checkStep('10_all', { name: '20_b', kind: 'layers' }))).toContain('git mv')
    expect(complaint('VLB_LAYER_KIND', () => checkStep('10_all', { name: '20_b', kind: 'build-base' }))).toContain(
      'first layer',
    )
    expect(() => checkStep('10_all', { name: '20_b', kind: 'modify-disk' })).not.toThrow()
  })
})
