import { describe, expect, test } from 'vitest'
import { compareLayers, type LayerSide, type LayerStep } from '../../../src/core/changelog.ts'

const step = (path: string, tree: string, includes: Record<string, string> = {}): LayerStep => ({
  path,
  name: path.split('/').at(-1) ?? '',
  tree,
  includes,
})
const layer = (name: string, tree: string, includes?: Record<string, string>): LayerSide => ({
  name,
  kind: 'build-layer',
  steps: [step(name, tree, includes)],
})
const rolled = (name: string, inner: Record<string, string>): LayerSide => ({
  name,
  kind: 'layers',
  steps: Object.entries(inner).map(([one, tree]) => step(`${name}/layers/${one}`, tree)),
})

/** `10_b changed, was 10_a`; an asterisk for an edited layer. */
function told(from: LayerSide[], to: LayerSide[], similar?: (a: LayerStep, b: LayerStep) => boolean): string[] {
  return compareLayers(from, to, similar).map(
    ({ name, change, edited, was }) =>
      `${name} ${change}${edited ? '*' : ''}${was.length > 0 ? `, was ${was.join(' ')}` : ''}`,
  )
}

describe('plain layers', () => {
  const base = [layer('10_a', 'A'), layer('20_b', 'B'), layer('30_c', 'C')]

  test('that are the same', () => {
    expect(told(base, base)).toEqual(['10_a unchanged', '20_b unchanged', '30_c unchanged'])
    expect(told([], [])).toEqual([])
  })

  test('changed, added, removed', () => {
    expect(told(base, [layer('10_a', 'A'), layer('20_b', 'B2'), layer('40_d', 'D')])).toEqual([
      '10_a unchanged',
      '20_b changed*',
      '30_c removed*',
      '40_d added*',
    ])
  })

  test('renumbered and renamed, with other content or the same', () => {
    expect(told(base, [layer('11_a', 'A'), layer('22_b', 'B2'), layer('30_see', 'C')])).toEqual([
      '11_a renumbered, was 10_a',
      '22_b renumbered*, was 20_b',
      '30_see renamed, was 30_c',
    ])
    const similar = (a: LayerStep, b: LayerStep) => a.tree[0] === b.tree[0]
    expect(told([layer('10_a', 'A1')], [layer('10_x', 'A2')], similar)).toEqual(['10_x renamed*, was 10_a'])
    expect(told([layer('10_a', 'A1')], [layer('10_x', 'A2')])).toEqual(['10_a removed*', '10_x added*'])
  })

  test('a new layer under the name of one that was renumbered', () => {
    expect(told([layer('10_a', 'A')], [layer('10_a', 'N'), layer('20_a', 'A')])).toEqual([
      '10_a added*',
      '20_a renumbered, was 10_a',
    ])
  })

  test('moved: only those that left the order', () => {
    expect(told(base, [layer('10_b', 'B'), layer('20_c', 'C'), layer('30_a', 'A')])).toEqual([
      '10_b renumbered, was 20_b',
      '20_c renumbered, was 30_c',
      '30_a moved, was 10_a',
    ])
  })

  test('what they include is part of them', () => {
    const from = [layer('10_a', 'A', { 'lib.sh': '100644 1' }), layer('20_b', 'A', { 'lib.sh': '100644 9' })]
    const to = [layer('10_a', 'A', { 'lib.sh': '100644 2' }), layer('20_b', 'A', { 'lib.sh': '100644 9' })]
    expect(told(from, to)).toEqual(['10_a changed*', '20_b unchanged'])
  })
})

describe('rolled-up layers', () => {
  const plain = [layer('02_z', 'Z'), layer('03_a', 'A'), layer('04_b', 'B'), layer('05_c', 'C')]
  const web = rolled('03_web', { '03_a': 'A', '04_b': 'B' })

  test('of the same layers are no change of content', () => {
    expect(told(plain, [layer('02_z', 'Z'), web, layer('05_c', 'C')])).toEqual([
      '02_z unchanged',
      '03_web rolled-up, was 03_a 04_b',
      '05_c unchanged',
    ])
  })

  test('of layers that changed on the way, or in another order', () => {
    const changed = rolled('03_web', { '03_a': 'A', '04_b': 'B2', '05_n': 'N' })
    expect(told(plain, [changed])).toContain('03_web rolled-up*, was 03_a 04_b')
    expect(told(plain, [rolled('03_web', { '03_b': 'B', '04_a': 'A' })])).toContain('03_web rolled-up*, was 04_b 03_a')
  })

  test('the same, renumbered, changed inside, or with a layer less', () => {
    expect(told([web], [web])).toEqual(['03_web unchanged'])
    expect(told([web], [rolled('07_web', { '03_a': 'A', '04_b': 'B' })])).toEqual(['07_web renumbered, was 03_web'])
    expect(told([web], [rolled('03_web', { '03_a': 'A', '04_b': 'B2' })])).toEqual(['03_web changed*'])
    expect(told([web], [rolled('03_web', { '03_a': 'A' })])).toEqual(['03_web changed*'])
    expect(told([web], [rolled('03_web', { '03_b': 'B', '04_a': 'A' })])).toEqual(['03_web changed*'])
  })

  test('rolled up once more, with what stood above', () => {
    const all = rolled('03_all', { '03_a': 'A', '04_b': 'B', '05_c': 'C' })
    expect(told([web, layer('05_c', 'C')], [all])).toEqual(['03_all rolled-up, was 03_web 05_c'])
  })

  test('taken apart again', () => {
    expect(told([web], [layer('03_a', 'A'), layer('04_b', 'B2')])).toEqual([
      '03_a unrolled, was 03_web',
      '04_b unrolled*, was 03_web',
    ])
    expect(told([web], [layer('03_a', 'A')])).toEqual(['03_a unrolled, was 03_web', '03_web/layers/04_b removed*'])
  })
})
