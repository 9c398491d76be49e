// Sizes and durations as people write and read them.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatAge, formatBytes, formatSeconds, parseDuration, parseSize } from '../../../src/core/units.ts'

describe('sizes', () => {
  test.each<[string, number | undefined]>([
    ['512', 512],
    ['1K', 1024],
    ['64M', 64 * 2 ** 20],
    ['1.5G', 1.5 * 2 ** 30],
    ['2GiB', 2 * 2 ** 30],
    ['2 GB', 2 * 2 ** 30],
    ['1t', 2 ** 40],
    [' 10M ', 10 * 2 ** 20],
    ['', undefined],
    ['0', undefined],
    ['-1G', undefined],
    ['1.3', undefined],
    ['10P', undefined],
    ['1e9', undefined],
    ['9999999T', undefined],
    ['G', undefined],
    ['1G1M', undefined],
  ])('%j', (text, bytes) => expect(parseSize(text)).toBe(bytes))

  test.each<[number, string]>([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [2576980377, '2.4 GiB'],
    [100 * 2 ** 20, '100 MiB'],
    [2 ** 50, '1024 TiB'],
  ])('%d is shown as %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text))

  test('whole numbers of each unit are read back as they were written', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1023 }), fc.constantFrom('K', 'M', 'G', 'T'), (n, unit) => {
        const bytes = parseSize(`${n}${unit}`) ?? 0
        expect(parseSize(formatBytes(bytes))).toBe(bytes)
      }),
    )
  })
})

describe('durations', () => {
  test.each<[string, number | undefined]>([
    ['30', 30],
    ['90s', 90],
    ['5m', 300],
    ['1.5h', 5400],
    ['7d', 604_800],
    ['2w', 1_209_600],
    ['500ms', 0.5],
    ['5 m', 300],
    ['0s', undefined],
    ['', undefined],
    ['5M', undefined],
    ['1h30m', undefined],
    ['-5s', undefined],
    ['soon', undefined],
  ])('%j', (text, seconds) => expect(parseDuration(text)).toBe(seconds))

  test.each<[number, string]>([
    [0.04, '0.0 s'],
    [3.21, '3.2 s'],
    [59.94, '59.9 s'],
    [59.99, '1m00s'],
    [75, '1m15s'],
    [3599.7, '1h00m'],
    [7260, '2h01m'],
  ])('%d is shown as %s', (seconds, text) => expect(formatSeconds(seconds)).toBe(text))

  test.each<[number, string]>([
    [-5, '0 s'],
    [59, '59 s'],
    [60, '1 min'],
    [3600 * 3 + 1, '3 h'],
    [86_400 * 12, '12 d'],
  ])('an age of %d is shown as %s', (seconds, text) => expect(formatAge(seconds)).toBe(text))
})
