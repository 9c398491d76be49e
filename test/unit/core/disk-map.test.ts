// Ranges of a disk: what is freed, and how much of it held data.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { dataExtents, type Extent, freedExtents, overlap } from '../../../src/core/disk-map.ts'

test('freed is what the overlay itself calls zeros; data is what any file of the chain holds', () => {
  const map = [
    { start: 0, length: 10, depth: 0, zero: true, data: false },
    { start: 10, length: 10, depth: 1, zero: true, data: false },
    { start: 20, length: 10, depth: 0, zero: false, data: true },
    { start: 30, length: 10, depth: 2, zero: false, data: true },
  ]
  expect(freedExtents(map).map(({ start }) => start)).toEqual([0])
  expect(dataExtents(map).map(({ start }) => start)).toEqual([20, 30])
})

/** Ascending, without overlaps. */
const extents = fc.array(fc.record({ gap: fc.nat(8), length: fc.integer({ min: 1, max: 8 }) })).map((parts) => {
  let at = 0
  return parts.map(({ gap, length }): Extent => {
    const start = at + gap
    at = start + length
    return { start, length }
  })
})

const bytes = (list: Extent[]) =>
  new Set(list.flatMap(({ start, length }) => [...Array(length).keys()].map((i) => start + i)))

test('the overlap of two lists is what counting byte by byte gives', () => {
  fc.assert(
    fc.property(extents, extents, (one, other) => {
      const there = bytes(other)
      expect(overlap(one, other)).toBe([...bytes(one)].filter((byte) => there.has(byte)).length)
    }),
  )
})
