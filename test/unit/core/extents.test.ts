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

test('extents as the runner prints them', () => {
  expect(parseExtents('4096 0,44318,2, 2,50000,1,last,eof')).toEqual([
    { start: 44318 * 4096, end: 44320 * 4096 },
    { start: 50000 * 4096, end: 50001 * 4096 },
  ])
  expect(parseExtents('1024 0,7,1,last,unwritten,shared,eof')).toEqual([{ start: 7168, end: 8192 }])
  // What lies in an inode, is encoded, a hole, or cannot be understood, proves nothing.
  const nothing = [
    '4096 0,0,4096,last,not_aligned,inline,eof',
    '4096 0,1,1,encoded',
    '4096',
    '',
    '4096 x',
    '4096 0,5,0,',
  ]
  for (const line of nothing) expect(parseExtents(line), line).toBeUndefined()
})
