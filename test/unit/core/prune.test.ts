import { expect, test } from 'vitest'
import { contentId, digest, layerKey } from '../../../src/core/ids.ts'
import type { SharedLayer, SharedSnapshot } from '../../../src/core/oci.ts'
import { bytesFreed, choosePruned, ownBytes, stepsOf, type Tagged } from '../../../src/core/prune.ts'

const hex = (name: string) => name.padEnd(64, '0')
const day = 86_400_000
const now = 100 * day

/** A snapshot on others: `tagged('c', 'ab')` stands on a and b. Each layer is a blob of 10 bytes. */
function tagged(name: string, below = '', days = 50): Tagged {
  const names = [...below, name]
  const layers = names.map(
    (one): SharedLayer =>
      ({
        manifest: {
          key: layerKey(hex(one)),
          contentId: contentId(hex(one)),
          layer: one,
          inputs: { kind: 'build-layer', engine: 7, base: digest('sha256:b') },
        },
        file: { size: 8, parts: [] },
        details: { digest: 'x', size: 2 },
      }) as unknown as SharedLayer,
  )
  const key = layerKey(hex(name))
  const snapshot: SharedSnapshot = { format: 1, key, contentId: contentId(key), arch: 'x86_64', layers }
  const blobs = names.map((one) => ({ digest: `blob ${one}`, size: 10 }))
  return { key, digest: `manifest ${name}`, pushedAt: now - days * day, snapshot, blobs }
}

const named = (list: readonly Tagged[]) => list.map(({ key }) => key[0]).join('')
const choose = (all: readonly Tagged[], needed: string, more: Partial<Parameters<typeof choosePruned>[1]> = {}) => {
  const keys = new Set([...needed].map(hex))
  const choice = choosePruned(all, { needed: keys, named: new Set(), before: now - 7 * day, ...more })
  return [named(choice.victims), named(choice.needed), named(choice.spared)]
}

test('what nothing needs goes, the topmost first', () => {
  expect(choose([tagged('a'), tagged('b', 'a'), tagged('c', 'ab'), tagged('d', 'a')], 'ad')).toEqual(['cb', 'ad', ''])
})

test('what is new stays, with all below it, and so does what has no date', () => {
  expect(choose([tagged('a'), tagged('b', 'a'), tagged('c', 'ab', 3), tagged('d', 'a')], '')).toEqual(['d', '', 'abc'])
  expect(choose([tagged('a'), { ...tagged('b', 'a'), pushedAt: undefined }], '')).toEqual(['', '', 'ab'])
  expect(choose([tagged('a', '', 7), tagged('b', '', 7.1)], '')).toEqual(['b', '', 'a'])
})

test('what somebody has named stays, with all below it', () => {
  const all = [tagged('a'), tagged('b', 'a'), tagged('c', 'ab')]
  expect(choose(all, '', { named: new Set(['manifest b']) })).toEqual(['c', '', 'ab'])
})

test('what is freed is what nothing that stays names', () => {
  const [a, b, c] = [tagged('a'), tagged('b', 'a'), tagged('c', 'ab')]
  expect(bytesFreed([c], [a, b, c])).toBe(10)
  expect(bytesFreed([c, b], [a, b, c])).toBe(20)
  expect(bytesFreed([b], [a, b, c])).toBe(0)
  expect(bytesFreed([], [a, b, c])).toBe(0)
  expect(ownBytes(c)).toBe(10)
})

test('a walk finds each layer once, whatever version of the engine built it', () => {
  const steps = stepsOf([tagged('a'), tagged('b', 'a'), tagged('c', 'ab')])
  expect(steps.map(({ key, inputs }) => `${key[0]} ${inputs.engine}`)).toEqual(['a 1', 'b 1', 'c 1'])
})
