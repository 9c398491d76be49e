// What both reporters share, the plain one, tables and bars.
import { PassThrough } from 'node:stream'
import { describe, expect, test, vi } from 'vitest'
import type { Event } from '../../../src/core/events.ts'
import { endText, safe, safeLines, stepName } from '../../../src/report/lines.ts'
import { makeReporter } from '../../../src/report/reporter.ts'
import { table } from '../../../src/report/table.ts'
import { bar } from '../../../src/report/terminal.ts'

describe('text from scripts is fit for a terminal', () => {
  test.each([
    ['plain text, ünïcode 漢字 🙂', 'plain text, ünïcode 漢字 🙂'],
    ['\u001b[31mred\u001b[0m', 'red'],
    ['\u001b]0;a new title\u0007x', 'x'],
    ['\u001b]8;;http://evil/\u001b\\link\u001b]8;;\u001b\\', 'link'],
    ['\u001b[2J\u001b[H\u001b[1Agone', 'gone'],
    ['a\rb\u0008c\u0007d\u007fe\u0000', 'abcde'],
    ['\u009b31mC1', 'C1'],
    ['a\tb', 'a  b'],
    ['\u202eevil\u202c \u200bzero\u2066', 'evil zero'],
  ])('%j', (text, expected) => expect(safe(text)).toBe(expected))

  test('nothing that a terminal could obey comes through, whatever there was', () => {
    for (let code = 0; code < 0x100; code++) {
      const left = safe(`${String.fromCharCode(code)}x`)
      expect(left, `character ${code}`).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
    }
  })
})

test('a whole log keeps its lines, and of one that was rewritten what stood there in the end', () => {
  expect(safeLines('a\n\n10%\r100%\r\n\u001b[2J\u001b[31mred\n\u009bHlast')).toBe('a\n\n100%\nred\nlast')
})

test('names of steps', () => {
  expect(stepName('', '10_a')).toBe('10_a')
  expect(stepName('v1\u001b[2J', '10_a')).toBe('v1: 10_a')
  expect(stepName('v1', 'disk')).toBe('v1: growing the disk')
})

test('how a step ended', () => {
  const event = { seconds: 2, bytes: 2048 }
  expect(endText({ ...event, result: 'built' })).toBe('built in 2.0 s, 2.0 KiB')
  expect(endText({ ...event, result: 'failed' })).toBe('failed after 2.0 s')
  expect(endText({ ...event, result: 'cached' })).toBe('cached')
})

describe('tables', () => {
  test('columns are as wide as their widest cell; numbers to the right; no blanks at the end', () => {
    expect(
      table(
        [
          ['a', '1', ''],
          ['long', '1000', 'x'],
        ],
        ['left', 'right', 'left'],
      ),
    ).toBe('  a        1\n  long  1000  x')
  })

  test('colours take no room', () => {
    expect(
      table(
        [
          ['\u001b[31mab\u001b[39m', 'x'],
          ['abc', 'y'],
        ],
        ['left', 'left'],
      ),
    ).toBe('  \u001b[31mab\u001b[39m   x\n  abc  y')
  })

  test('a row that is too short, and no row', () => {
    expect(table([['a'], ['b', 'c']], ['left', 'left'])).toBe('  a\n  b  c')
    expect(table([], ['left'])).toBe('')
  })
})

describe('bars', () => {
  const at = (done: number, total: number | undefined, seconds: number, columns = 80) => {
    vi.setSystemTime(100_000 + seconds * 1000)
    return bar('task', { done, total, since: 100_000 }, columns)
  }

  test('how far, how fast, how long still', () => {
    vi.useFakeTimers()
    try {
      expect(at(30 * 2 ** 20, 120 * 2 ** 20, 10)).toBe(
        `task ▕${'█'.repeat(5)}${' '.repeat(15)}▏ 25 %  30.0 MiB of 120 MiB  3.0 MiB/s  30.0 s left`,
      )
      expect(at(0, 100, 0)).toBe(`task ▕${' '.repeat(20)}▏ 0 %  0 B of 100 B`)
      expect(at(2 ** 20, undefined, 1)).toBe('task  1.0 MiB  1.0 MiB/s')
      expect(at(300, 100, 1)).toContain('▏ 100 %')
      expect(at(300, 100, 1)).not.toContain('-')
      expect(at(50, 100, 0.1, 20)).toBe(`task ▕${'█'.repeat(5)}${' '.repeat(5)}▏ 50 %  50 B of 100 B`)
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('the reporter for pipes and files', () => {
  const told = async (events: Event[], quiet = false) => {
    const stream = new PassThrough()
    const style = (_look: unknown, text: string) => text
    const reporter = await makeReporter({ stream: stream as never, style, quiet, verbose: false })
    for (const event of events) reporter.emit(event)
    reporter.end()
    return String(stream.read() ?? '')
  }
  const name = { label: '', name: '10_a' }

  test('a line for each thing that happens', async () => {
    expect(
      await told([
        { type: 'plan', label: 'v1', steps: ['10_a', '20_b'], missing: 1 },
        { type: 'step-started', ...name },
        { type: 'step-output', ...name, line: 'a\u001b[2Jb' },
        { type: 'step-ended', ...name, result: 'built', seconds: 1, bytes: 1024 },
        { type: 'step-waiting', ...name, pid: 5 },
        { type: 'note', text: 'a note' },
        { type: 'warning', text: 'take care' },
        { type: 'console', chunk: Buffer.from('raw\nlogin: ') },
        { type: 'note', text: 'on a line of its own' },
        { type: 'console', chunk: Buffer.from('lo') },
        { type: 'console', chunk: Buffer.from('gin: ') },
      ]),
    ).toBe(
      'v1: 1 of 2 steps to build\n10_a: building\n10_a | ab\n10_a: built in 1.0 s, 1.0 KiB\n' +
        '10_a: waiting for pid 5, which builds it\na note\nwarning: take care\nraw\nlogin: \non a line of its own\nlogin: \n',
    )
  })

  test('nothing to say is said in no words', async () => {
    expect(
      await told([
        { type: 'plan', label: '', steps: ['10_a'], missing: 0 },
        { type: 'step-ended', ...name, result: 'cached', seconds: 0, bytes: 0 },
      ]),
    ).toBe('')
  })

  test('progress by a line every five seconds, and none for what is done before', async () => {
    const stream = new PassThrough()
    const style = (_look: unknown, text: string) => text
    const { emit } = await makeReporter({ stream: stream as never, style, quiet: false, verbose: false })
    vi.useFakeTimers()
    try {
      for (const second of [0, 1, 2, 5, 6, 7, 10, 11]) {
        vi.setSystemTime(1_000_000 + second * 1000)
        emit({ type: 'progress', task: 'x', done: second * 10, total: 100 })
      }
    } finally {
      vi.useRealTimers()
    }
    emit({ type: 'progress-ended', task: 'x', bytes: 100, seconds: 12 })
    expect(String(stream.read())).toBe('x: 50 B of 100 B\nx: 100 B of 100 B\nx: done, 100 B in 12.0 s\n')
  })

  test('quiet: warnings alone', async () => {
    expect(
      await told(
        [
          { type: 'note', text: 'a' },
          { type: 'step-started', ...name },
          { type: 'warning', text: 'b' },
        ],
        true,
      ),
    ).toBe('warning: b\n')
  })
})
