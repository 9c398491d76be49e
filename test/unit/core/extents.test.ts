import { expect, test } from 'vitest'
import { mergeRanges, parseExtents, rangesAbove, touches } from '../../../src/core/extents.ts'

test('what was written above a snapshot', () => {
  const extent = (start: number, depth: number) => ({ start, length: 10, depth, zero: false, data: true })
  const map = JSON.stringify([extent(0, 2), extent(10, 0), extent(20, 1), extent(30, 3)])
  expect(rangesAbove(map, 0)).toEqual([])
  expect(rangesAbove(map, 1)).toEqual([{ start: 10, end: 20 }])
  expect(mergeRanges(rangesAbove(map, 2))).toEqual([{ start: 10, end: 30 }])
})

test('a byte of a range is found wherever it lies', () => {
  const ranges = mergeRanges([
    { start: 50, end: 60 },
    { start: 10, end: 20 },
    { start: 15, end: 30 },
  ])
  expect(ranges).toEqual([
    { start: 10, end: 30 },
    { start: 50, end: 60 },
  ])
  const touched = (start: number, end: number) => touches(ranges, { start, end })
  expect([touched(0, 10), touched(30, 50), touched(60, 99)]).toEqual([false, false, false])
  expect([touched(9, 11), touched(29, 30), touched(0, 99), touched(59, 60)]).toEqual([true, true, true, true])
  expect(touches([], { start: 0, end: 99 })).toBe(false)
})

const printed = (name: string, lines: string[]) =>
  [
    `File size of ${name} is 9000 (3 blocks of 4096 bytes)`,
    ' ext:     logical_offset:        physical_offset: length:   expected: flags:',
    ...lines,
    `${name}: ${lines.length} extents found`,
  ].join('\n')

test('extents as filefrag prints them', () => {
  const text = [
    'Filesystem type is: ef53',
    printed('./a', [
      '   0:        0..       1:      44318..     44319:      2:            ',
      '   1:        2..       2:      50000..     50000:      1:      44320: last,eof',
    ]),
    printed('./inline', [
      '   0:        0..    4095:          0..      4095:   4096:             last,not_aligned,inline,eof',
    ]),
    printed('./hole', []),
    printed('./b is 1 (1 block of 1 bytes)', [
      '   0:        0..       0:          1..         1:      1:             last,unwritten,eof',
    ]),
  ].join('\n')
  const found = parseExtents(text, ['./a', './inline', './hole', './b is 1 (1 block of 1 bytes)', './never'])
  expect([...found.keys()]).toEqual(['./a', './b is 1 (1 block of 1 bytes)'])
  expect(found.get('./a')?.ranges).toEqual([
    { start: 44318 * 4096, end: 44320 * 4096 },
    { start: 50000 * 4096, end: 50001 * 4096 },
  ])
})
