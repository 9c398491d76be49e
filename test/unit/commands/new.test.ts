// The number that a new layer gets.
import { describe, expect, test } from 'vitest'
import { nextName } from '../../../src/commands/new.ts'
import { complaint } from '../errors.ts'

test.each<[string[], string]>([
  [[], '00_x'],
  [['00_base'], '10_x'],
  [['00_base', '10_a', '20_b'], '30_x'],
  [['20_b', '100_c', '10_a'], '110_x'],
  [['10_a', '25_b'], '30_x'],
  [['90_a'], '100_x'],
])('behind %j comes %s', (existing, name) => expect(nextName(existing, 'x', undefined)).toBe(name))

test.each<[string[], string, string]>([
  [['10_a', '20_b'], '10', '15_x'],
  [['10_a', '20_b'], '010', '15_x'],
  [['10_a', '20_b'], '20', '30_x'],
  [['10_a', '15_b', '20_c'], '10', '12_x'],
  [['10_a', '12_b'], '10', '11_x'],
  [['10_a', '11_b'], '11', '12_x'],
  [['00_a', '10_b'], '00', '05_x'],
  [['100_a', '20_b'], '20', '60_x'],
  [['10_a', '20_b'], '10_a', '15_x'],
])('of %j after %s: %s', (existing, after, name) => expect(nextName(existing, 'x', after)).toBe(name))

describe('refused', () => {
  test.each(['', 'a b', 'ä', '../x', 'a/b', '10_x', 'a\nb'])('%j as a name', (name) => {
    const said = complaint('VLB_LAYER_NAME', () => nextName([], name, undefined))
    expect(said).toContain(`"${name.replace('\n', '?')}" is no name for a layer`)
    expect(said).toContain('the number is found for you')
  })

  test.each(['30', 'x', '1', '10x', '10_z', '-10', ''])('%j as a number', (after) => {
    const said = complaint('VLB_LAYER_UNKNOWN', () => nextName(['20_b', '10_a'], 'x', after))
    expect(said).toContain(`no layer with the number ${after}`)
    expect(said).toContain('layers: 10_a, 20_b')
  })

  test('a gap that is none', () => {
    const said = complaint('VLB_LAYER_NAME', () => nextName(['10_a', '11_b'], 'x', '10'))
    expect(said).toContain('no number is free between 10 and 11')
    expect(said).toContain('renumber first')
  })
})

test('the list of layers is left as it was', () => {
  const existing = ['20_b', '10_a']
  nextName(existing, 'x', '10')
  expect(existing).toEqual(['20_b', '10_a'])
})
