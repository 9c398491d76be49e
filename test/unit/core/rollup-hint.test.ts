// When a rollup is suggested, and of which layers.
import { expect, test } from 'vitest'
import { parseDirectives } from '../../../src/core/directives.ts'
import { treeId } from '../../../src/core/ids.ts'
import type { Layer } from '../../../src/core/layer.ts'
import { parseRange } from '../../../src/core/rollup.ts'
import { deepChain, suggestRollup } from '../../../src/core/rollup-hint.ts'

function layer(number: number, more: Partial<Layer> & { says?: string } = {}): Layer {
  const { says = '', ...rest } = more
  const name = `${number}_n`
  const directives = parseDirectives(`#!/bin/sh\n${says}\n`, name)
  return {
    name,
    kind: 'build-layer',
    tree: treeId(name),
    directives,
    interpreter: '/bin/sh',
    includes: {},
    dirty: false,
    ...rest,
  }
}

type Special = Record<number, Parameters<typeof layer>[1]>

/** Layers 100_n, 101_n and so on. */
const chain = (length: number, special: Special = {}): Layer[] =>
  Array.from({ length }, (_, i) => layer(100 + i, special[100 + i]))

function suggested(layers: readonly Layer[], missing: readonly string[] = [], base?: string): string | undefined {
  const range = suggestRollup(layers, (name) => !missing.includes(name), base)
  if (!range) return undefined
  const text = `${range[0]?.name}..${range.at(-1)?.name}`
  expect(parseRange(text, layers)).toEqual(range)
  return text
}

test('only of a chain so deep that it pays, without what is on top', () => {
  expect(suggested(chain(deepChain - 1))).toBeUndefined()
  expect(suggested(chain(deepChain))).toBe('100_n..139_n')
  expect(suggested(chain(70))).toBe('100_n..159_n')
})

test.each<[string, Special]>([
  ['a build-base', { 100: { kind: 'build-base' } }],
  ['nocache', { 100: { says: '# vlb: nocache' } }],
  ['noshare, unlike those above', { 100: { says: '# vlb: noshare' } }],
  ['not committed', { 100: { dirty: true } }],
])('a layer that cannot be in it is left out: %s', (_, special) => {
  expect(suggested(chain(60, special))).toBe('101_n..149_n')
})

test('a layer that is not in the store is left out, and the longer side taken', () => {
  expect(suggested(chain(70), ['110_n'])).toBe('111_n..159_n')
  expect(suggested(chain(70), ['150_n'])).toBe('100_n..149_n')
})

test('a folder that others need stays where it is', () => {
  expect(suggested(chain(60), [], '105_n/disk.qcow2')).toBe('106_n..149_n')
  expect(suggested(chain(60, { 155: { says: '# vlb: include 102_n/file' } }))).toBe('103_n..149_n')
})

test('where the chain would stay about as deep there is no suggestion', () => {
  expect(suggested(chain(60, { 120: { says: '# vlb: nocache' } }))).toBeUndefined()
})
