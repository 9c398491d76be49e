import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CheckReader } from '../../../src/core/check-lines.ts'
import type { Check } from '../../../src/core/checks.ts'

const nonce = 'a1b2c3'
const check = (name: string): Check => ({ name, builtin: false, timeout: 10, needsNetwork: false })
const checks = [check('10_a'), check('20_b')]
const say = (...lines: string[]) => lines.map((line) => `@vlb ${nonce} ${line}\n`).join('')

function read(text: string | Buffer, size = 7) {
  const reader = new CheckReader(checks, nonce)
  const bytes = Buffer.from(text)
  const news = []
  for (let at = 0; at < bytes.length; at += size) news.push(...reader.push(bytes.subarray(at, at + size), at))
  return { news: news.map(({ type }) => type), results: reader.results, running: reader.running }
}

const whole = say(
  'ready running',
  'start 0',
  'out 0 hello',
  'out 0  there',
  'end 0 0',
  'start 1',
  'end 1 timeout',
  'done',
)

describe('what the agent says', () => {
  test('becomes results, however it is cut into pieces', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), (size) => {
        const { news, results } = read(whole, size)
        expect(news).toEqual(['ready', 'started', 'ended', 'started', 'ended', 'done'])
        expect(results.map(({ state }) => state)).toEqual(['passed', 'timeout'])
        expect(results[0]?.output).toBe('hello\n there\n')
      }),
    )
  })

  test('is read through what others write on the line, before, between and after', () => {
    const noise = fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', ' '))
    fc.assert(
      fc.property(fc.array(noise, { minLength: 9, maxLength: 9 }), (noises) => {
        const lines = whole.split('\n').map((line, i) => `${noises[i] ?? ''}\n${noises[i] ?? ''}${line}\r`)
        const { results } = read(lines.join('\n'), 50)
        expect(results.map(({ state }) => state)).toEqual(['passed', 'timeout'])
      }),
    )
  })

  test('without the nonce, out of turn, or of checks that are not under way changes nothing', () => {
    const words = fc.constantFrom('ready', 'start', 'out', 'cut', 'end', 'done', '@vlb', 'zzz')
    const line = fc.tuple(fc.constantFrom(nonce, 'ffffff', ''), words, fc.integer({ min: -1, max: 5 }), fc.string())
    fc.assert(
      fc.property(fc.array(line, { maxLength: 60 }), (lines) => {
        const text = lines
          .map(([mark, word, n, rest]) => `@vlb ${mark} ${word} ${n} ${rest.replaceAll('\n', '')}\n`)
          .join('')
        const { news, results } = read(text, 64)
        // `ready` with a number is none, and nothing counts before it.
        expect(news).toEqual([])
        expect(results.every(({ state, output }) => state === 'not-run' && output === '')).toBe(true)
      }),
    )
    const early = read(
      say('ready running', 'end 0 0', 'start 1', 'done', 'start 0', 'start 0', 'out 1 no', 'end 0 999x'),
    )
    expect(early.news).toEqual(['ready', 'started'])
    expect(early.running).toBe(0)
    expect(early.results.map(({ state, output }) => [state, output])).toEqual([
      ['not-run', ''],
      ['not-run', ''],
    ])
  })

  test('is bounded: neither a line nor a check that goes on for ever is kept whole', () => {
    const flood = `${say('ready running', 'start 0')}${say('out 0 x'.padEnd(1000, 'x')).repeat(200)}`
    const { results } = read(flood, 4096)
    expect(results[0]?.output.length).toBe(64 * 1024)
    expect(results[0]?.cut).toBe(true)
    const line = read(`${say('ready running', 'start 0')}${'y'.repeat(10 ** 6)}\n${say('end 0 0')}`, 65_536)
    expect(line.results[0]?.state).toBe('passed')
  })
})
