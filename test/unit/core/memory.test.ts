// vlb.memory: sizes, parts of the host's memory, none; and what the runner is told.
import { describe, expect, test } from 'vitest'
import { memoryArgument, parseMemory } from '../../../src/core/memory.ts'
import { complaint } from '../errors.ts'

const total = 10 * 2 ** 30

describe('vlb.memory', () => {
  test.each([
    [undefined, `~${8 * 2 ** 30}`],
    ['none', 'none'],
    ['4G', `${4 * 2 ** 30}`],
    ['50%', `${5 * 2 ** 30}`],
    ['100%', `${total}`],
    ['16M', `${2 ** 24}`],
    ['16777217', `${2 ** 24}`],
  ])('%s', (text, told) => expect(memoryArgument(parseMemory(text, total))).toBe(told))

  test.each(['', '0', '1M', '-1G', '101%', '0%', 'all', '4 apples', '\u001b[2J'])('%j is refused', (text) => {
    const said = complaint('VLB_USAGE', () => parseMemory(text, total))
    expect(said).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/)
    expect(said).toContain('hint: git config vlb.memory')
  })
})
