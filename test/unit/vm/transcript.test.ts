// The text of a serial console: whole across chunk borders, free of control sequences, bounded.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { perLine, Transcript } from '../../../src/vm/transcript.ts'

function heard(...chunks: (string | Buffer)[]): Transcript {
  const transcript = new Transcript()
  for (const chunk of chunks) transcript.push(Buffer.from(chunk))
  return transcript
}

describe('text', () => {
  test.each([
    ['colours', '\x1b[0;32m  OK  \x1b[0m ready', '  OK   ready'],
    ['carriage returns', 'a\r\nb\r\r\nc', 'a\nb\nc'],
    ['what SeaBIOS begins with', '\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS', 'SeaBIOS'],
    ['a window title', '\x1b]0;web: ~\x07root#', 'root#'],
    ["systemd's context", '\x1b]3008;start=1f;user=root\x1b\\login:', 'login:'],
    ['a device control string', '\x1bP1$r0m\x1b\\x', 'x'],
    ['character sets and keypad modes', '\x1b(B\x1b=\x1b>\x1b7x', 'x'],
    ['bells, backspaces and nulls', 'a\x07\x08\0b\tc', 'ab\tc'],
    ['a lone escape', '\x1b\nx', '\nx'],
  ])('without %s', (_, raw, clean) => {
    expect(heard(raw).text).toBe(clean)
  })

  test('the same however it is cut', () => {
    const raw = Buffer.from('\x1b[1mÄ\x1b[0m \x1b]0;title\x1b\\web\x1b[31;1m login\x1b(B: 日本\r\n\x1bP1\x1b\\end')
    const whole = heard(raw).text
    expect(whole).toBe('Ä web login: 日本\nend')
    const cuts = fc.uniqueArray(fc.integer({ min: 1, max: raw.length - 1 }))
    fc.assert(
      fc.property(cuts, (at) => {
        const borders = [0, ...at.toSorted((a, b) => a - b), raw.length]
        expect(heard(...borders.slice(1).map((end, i) => raw.subarray(borders[i], end))).text).toBe(whole)
      }),
    )
  })

  test('a string without an end does not swallow what follows for ever', () => {
    const transcript = heard('\x1b]0;', 'x'.repeat(5000), '\nlogin:')
    expect(transcript.find(/^login:/m)).toBe('login:')
  })

  test('bytes that are no UTF-8 do no harm', () => {
    expect(heard(Buffer.from([0xff, 0x41, 0xc3]), '\nlogin:').find(/login/)).toBe('login:')
  })
})

describe('find', () => {
  test('across chunk borders and control sequences', () => {
    expect(heard('boot\r\nweb \x1b[1', 'mlo\x1b[', '0mgi', 'n: ').find(/login:/)).toBe('web login:')
  })

  test('the line that matched, not its neighbours', () => {
    const transcript = () => heard('one\ntwo three\nfour\n')
    expect(transcript().find(/three/)).toBe('two three')
    expect(transcript().find(/one/)).toBe('one')
    expect(transcript().find(/four\s*/)).toBe('four')
    expect(transcript().find(/two[\s\S]*four/)).toBe('four')
    expect(transcript().find(/five/)).toBeUndefined()
  })

  test('one after the other, each behind the one before, and lines still begin where they do', () => {
    const transcript = heard('a: 1\nb: 2\na: 3\n')
    expect(transcript.find(/^b/m)).toBe('b: 2')
    expect(transcript.find(/^:/m)).toBeUndefined()
    expect(transcript.find(/^a/m)).toBe('a: 3')
    expect(transcript.find(/^a/m)).toBeUndefined()
    transcript.push(Buffer.from(`${'x\n'.repeat(100_000)}a: 4\n`))
    expect(transcript.find(/^a/m)).toBe('a: 4')
    expect(transcript.lastLines(1)).toEqual(['a: 4'])
  })

  test('lines have beginnings and ends', () => {
    const transcript = heard('not login:\nlogin: x\nlogin:\n')
    expect(transcript.find(perLine(/^login:$/u))).toBe('login:')
    expect(perLine(/a/giy).flags).toBe('im')
  })

  test('what came since is counted until it is looked at', () => {
    const transcript = heard('abc', '\x1b[0mdef')
    expect(transcript.unread).toBe(6)
    transcript.find(/x/)
    expect(transcript.unread).toBe(0)
    expect(transcript.text).toBe('abcdef')
  })
})

describe('a flood', () => {
  test('fills no memory, looked at or not', () => {
    const transcript = new Transcript()
    const chunk = Buffer.from(`${'x'.repeat(99)}\n`.repeat(650))
    for (let i = 0; i < 1000; i++) {
      transcript.push(chunk)
      if (i % 7 === 0) transcript.find(/login:/)
      expect(transcript.text.length).toBeLessThanOrEqual(256 * 1024)
    }
    expect(transcript.find(/login:/)).toBeUndefined()
    expect(transcript.text.length).toBeLessThanOrEqual(64 * 1024)
    expect(transcript.text.startsWith('x'.repeat(99))).toBe(true)
  })

  test('without line breaks, too, and with the last word heard', () => {
    const transcript = new Transcript()
    for (let i = 0; i < 100; i++) transcript.push(Buffer.from('y'.repeat(65_536)))
    transcript.push(Buffer.from(' login:'))
    expect(transcript.find(/ login:/)).toMatch(/^y{300}…$/)
    expect(transcript.text.length).toBe(64 * 1024)
  })

  test('of unfinished sequences', () => {
    const transcript = new Transcript()
    for (let i = 0; i < 2000; i++) transcript.push(Buffer.from('\x1b]0;zzzzzzzzzzzz'.repeat(100)))
    expect(transcript.text.length).toBeLessThanOrEqual(256 * 1024)
  })
})

test('the last lines are short, whole, and show no control characters', () => {
  const transcript = heard('a\n\n  \nb\u0085c\n', `${'d'.repeat(500)}\n`, 'e')
  expect(transcript.lastLines(3)).toEqual(['b?c', `${'d'.repeat(200)}…`, 'e'])
  expect(heard().lastLines(8)).toEqual([])
})
