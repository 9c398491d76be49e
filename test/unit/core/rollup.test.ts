// Rollup as a plan: ranges, what can be rolled up, what moves where, what the commit says.
import { describe, expect, test } from 'vitest'
import { parseDirectives } from '../../../src/core/directives.ts'
import { treeId } from '../../../src/core/ids.ts'
import type { Layer } from '../../../src/core/layer.ts'
import { combineDirectives } from '../../../src/core/rolled-up.ts'
import {
  checkRollable,
  listed,
  parseRange,
  planRollup,
  readRollupTrailers,
  rollupMessage,
} from '../../../src/core/rollup.ts'
import { complaint } from '../errors.ts'

function layer(name: string, directives = '', more: Partial<Layer> = {}): Layer {
  const read = more.steps ? combineDirectives(more.steps) : parseDirectives(directives, name)
  const kind = more.steps ? 'layers' : 'build-layer'
  const rest = { interpreter: '/bin/sh', includes: {}, dirty: false }
  return { name, kind, tree: treeId(name), directives: read, ...rest, ...more }
}

const [a, b, c, d] = ['10_a', '20_b', '30_c', '0040_d'].map((name) => layer(name)) as [Layer, Layer, Layer, Layer]
const all = [a, b, c, d]
const names = (layers: readonly Layer[]) => layers.map(({ name }) => name)

describe('a range', () => {
  test.each([
    ['10..30', ['10_a', '20_b', '30_c']],
    ['10_a..20_b/', ['10_a', '20_b']],
    ['20..0040_d', ['20_b', '30_c', '0040_d']],
    ['030..40', ['30_c', '0040_d']],
  ])('%s', (text, expected) => expect(names(parseRange(text, all))).toEqual(expected))

  test('of names that hold dots themselves', () => {
    const dotted = ['10_a..b', '20_c.', '30_.d'].map((name) => layer(name))
    expect(names(parseRange('10_a..b..20_c.', dotted))).toEqual(['10_a..b', '20_c.'])
    expect(names(parseRange('20_c...30_.d', dotted))).toEqual(['20_c.', '30_.d'])
  })

  test.each(['', '10', '..', '10..', '..20', '10.20', '10-20', '10_a 20_b'])('%j is none', (text) => {
    expect(complaint('VLB_USAGE', () => parseRange(text, all))).toContain('rollup takes a range FROM..TO')
  })

  test('unknown ends: the nearest layers are named', () => {
    expect(complaint('VLB_LAYER_UNKNOWN', () => parseRange('10..25', all))).toContain('nearest: 20_b, 30_c')
    expect(complaint('VLB_LAYER_UNKNOWN', () => parseRange('5..20', all))).toContain('nearest: 10_a')
    expect(complaint('VLB_LAYER_UNKNOWN', () => parseRange('99..20', all))).toContain('nearest: 0040_d')
    expect(complaint('VLB_LAYER_UNKNOWN', () => parseRange('10_a..30_x', all))).toContain('nearest: 30_c')
    expect(complaint('VLB_LAYER_UNKNOWN', () => parseRange('10_a..\u001b[31m', all))).not.toContain('\u001b')
  })

  test('one layer, and the wrong way round', () => {
    expect(complaint('VLB_USAGE', () => parseRange('20..20_b', all))).toContain('is one layer, 20_b')
    expect(complaint('VLB_USAGE', () => parseRange('30..10_a', all))).toContain('git vlb rollup 10_a..30_c')
  })
})

describe('what cannot be rolled up', () => {
  const refused = (range: Layer[], layers = range, base?: string) =>
    complaint('VLB_ROLLUP', () => checkRollable(range, layers, base))
  const always = layer('20_b', '# vlb: nocache')
  const kept = layer('20_b', '# vlb: noshare')

  test('nocache, also in a rolled-up layer', () => {
    expect(refused([a, always])).toContain('20_b says nocache')
    expect(refused([a, layer('20_all', '', { steps: [c, always] })])).toContain('20_all/layers/20_b says nocache')
  })

  test('noshare and not; but all of them is fine', () => {
    expect(refused([a, kept])).toContain('20_b says noshare')
    expect(() => checkRollable([layer('10_a', '# vlb: noshare'), kept], all, undefined)).not.toThrow()
  })

  test('a base of its own', () => {
    expect(refused([layer('00_base', '', { kind: 'build-base' }), a, b])).toContain('00_base makes the base')
  })

  test('paths in it that somebody needs', () => {
    const user = layer('30_c', '# vlb: include 10_a/lib')
    expect(refused([a, b], [a, b, user])).toContain('30_c needs 10_a/lib, and 10_a would move')
    expect(refused([a, user], [a, user])).toContain('10_a would move')
    expect(refused([a, b], [a, b], './10_a/disk.raw')).toContain('vlb.yaml needs 10_a/disk.raw')
    expect(() => checkRollable([a, b], [a, b, layer('30_c', '# vlb: include 10_ab/lib')], '10_ab.raw')).not.toThrow()
  })

  test('a ttl stays what it is', () => {
    expect(() => checkRollable([layer('10_a', '# vlb: ttl 1d'), b], all, undefined)).not.toThrow()
  })
})

describe('the plan', () => {
  const moves = (range: Layer[], wanted?: string, layers = range) =>
    planRollup(range, layers, wanted).moves.map(({ from, to }) => `${from} ${to}`)

  test('folders keep their names below the new one, which has the number of the first', () => {
    expect(moves([b, c, d], undefined, all)).toEqual([
      '20_b 20_b-c-d/layers/20_b',
      '30_c 20_b-c-d/layers/30_c',
      '0040_d 20_b-c-d/layers/0040_d',
    ])
    expect(moves([a, b], 'a')[0]).toBe('10_a 10_a/layers/10_a')
    expect(planRollup([a, b], all, '10_web').name).toBe('10_web')
  })

  test('long names are cut short', () => {
    const long = Array.from({ length: 9 }, (_, i) => layer(`1${i}_abcdefgh`))
    expect(planRollup(long, long, undefined).name).toBe('10_abcdefgh-to-abcdefgh')
    const longer = ['10', '20'].map((n) => layer(`${n}_${'x'.repeat(200)}`))
    expect(planRollup(longer, longer, undefined).name).toBe('10_rolled-up')
  })

  test('steps of rolled-up layers are lifted up, and what held them is empty then', () => {
    const rolled = layer('20_all', '', { steps: [b, c] })
    const plan = planRollup([a, rolled, d], [a, rolled, d], 'x')
    expect(plan.moves.map(({ to }) => to)).toEqual(
      ['10_a', '20_b', '30_c', '0040_d'].map((name) => `10_x/layers/${name}`),
    )
    expect(plan.moves[1]?.from).toBe('20_all/layers/20_b')
    expect(plan.emptied).toEqual(['20_all/layers', '20_all'])
  })

  test('numbers that would change the order are given anew', () => {
    const rolled = layer('10_all', '', { steps: [a, layer('90_z')] })
    expect(moves([rolled, b], 'x')).toEqual([
      '10_all/layers/10_a 10_x/layers/10_a',
      '10_all/layers/90_z 10_x/layers/20_z',
      '20_b 10_x/layers/30_b',
    ])
    const twice = layer('10_all', '', { steps: [b] })
    expect(moves([twice, b], 'x').map((move) => move.split('/').at(-1))).toEqual(['10_b', '20_b'])
    const many = layer('10_all', '', { steps: Array.from({ length: 11 }, (_, i) => layer(`9${9 - (i % 2)}_${i}`)) })
    expect(moves([many, b], 'x').at(-1)).toContain('layers/120_b')
    expect(moves([many, b], 'x')[0]).toContain('layers/010_0')
  })

  test('names that cannot be, or would stand elsewhere', () => {
    const plan =
      (wanted: string, layers = all) =>
      () =>
        planRollup([layers[1] as Layer, layers[2] as Layer], layers, wanted)
    for (const name of ['', 'a b', '../x', 'a/b', '-\n']) complaint('VLB_LAYER_NAME', plan(name))
    expect(complaint('VLB_LAYER_NAME', plan('30_x'))).toContain('--name x')
    const crowded = ['10_m', '10_n', '20_o', '20_p'].map((name) => layer(name))
    expect(complaint('VLB_ROLLUP', plan('a', crowded))).toContain('10_a would change places with 10_m')
    expect(complaint('VLB_EXISTS', plan('m', crowded))).toContain('10_m')
    const last = ['10_m', '10_n', '10_p'].map((name) => layer(name))
    expect(complaint('VLB_ROLLUP', () => planRollup(last.slice(0, 2), last, 'z'))).toContain('10_p')
  })
})

describe('the message', () => {
  const key = (digit: string) => digit.repeat(64)
  const commits = [{ id: 'abc1234', date: '2024-01-01', author: 'A', subject: 'do it\u001b[31m' }]
  const layers = [
    { name: '10_a', key: key('a'), commits, more: 3 },
    { name: '20_b', key: key('b'), commits: [], more: 0 },
  ]
  const into = { name: '10_x', key: key('c'), contentId: key('b') }

  test('subject, history, trailers', () => {
    expect(rollupMessage(undefined, layers, into)).toBe(`Roll up 10_a and 20_b into 10_x

The image stays the same, bit by bit.

10_a:
  abc1234 2024-01-01 A: do it?[31m
  and 3 before

20_b:
  (no commit is known)

Vlb-Rollup: 10_a ${key('a')}
Vlb-Rollup: 20_b ${key('b')}
Vlb-Rollup: 10_x ${key('c')} -> ${key('b')}
`)
  })

  test('a subject that would be too long', () => {
    const many = Array.from({ length: 9 }, (_, i) => ({ name: `1${i}_abcdef`, key: key('a'), commits: [], more: 0 }))
    expect(rollupMessage(undefined, many, into).split('\n')[0]).toBe('Roll up 10_abcdef..18_abcdef into 10_x')
  })

  test('what is given comes first; an empty text is none', () => {
    expect(rollupMessage('One\n\ntwo\n', layers, into)).toMatch(/^One\n\ntwo\n\n10_a:\n/)
    expect(rollupMessage(' \n', layers, into)).toMatch(/^Roll up/)
  })

  test('its trailers are read back, and nothing else is taken for them', () => {
    const message = rollupMessage('x', layers, into)
    expect(readRollupTrailers(message)).toEqual({ layers: layers.map(({ name, key: k }) => ({ name, key: k })), into })
    expect(readRollupTrailers('x\n')).toBeUndefined()
    expect(readRollupTrailers(message.replace(' -> ', ' '))).toBeUndefined()
    expect(readRollupTrailers(message.replace(key('a'), 'xyz'))).toBeUndefined()
  })

  test('lists', () => {
    expect([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map(listed)).toEqual(['', 'a', 'a and b', 'a, b and c'])
  })
})
