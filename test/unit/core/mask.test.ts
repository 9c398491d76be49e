// Secrets in a log: as they are, in base64, URL-escaped, and cut in two by the borders of chunks.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Mask } from '../../../src/core/mask.ts'

function shown(secret: string, ...chunks: string[]): string {
  const mask = new Mask([Buffer.from(secret)])
  return Buffer.concat([...chunks.map((chunk) => mask.push(Buffer.from(chunk))), mask.end()]).toString()
}

test('a secret is masked in each form it may take', () => {
  const secret = 's3cret/+value with spaces'
  const base64 = Buffer.from(secret).toString('base64')
  expect(shown(secret, `a ${secret} b\n`)).toBe('a *** b\n')
  expect(shown(secret, `a ${base64} b\n`)).toBe('a *** b\n')
  expect(shown(secret, `a ${encodeURIComponent(secret)} b\n`)).toBe('a *** b\n')
  expect(shown(secret, `a ${Buffer.from(secret).toString('hex')} b\n`)).toBe('a *** b\n')
})

test('a secret from a file is masked without its line break', () => {
  expect(shown('token-1234\n', 'x token-1234 y')).toBe('x *** y')
})

test('each line of a secret of several lines is masked', () => {
  expect(shown('-----BEGIN KEY-----\nabcdefgh\n', 'has abcdefgh in it')).toBe('has *** in it')
})

test('long base64 is masked also when it is broken into lines', () => {
  const secret = 'x'.repeat(50) + 'y'.repeat(50)
  const lines =
    Buffer.from(secret)
      .toString('base64')
      .match(/.{1,76}/g) ?? []
  expect(shown(secret, lines.join('\n'))).toBe('***\n***')
})

test('a secret in pieces is masked, and what is none comes out at once', () => {
  expect(shown('abcdefgh', 'one abc', 'def', 'gh two')).toBe('one *** two')
  const mask = new Mask([Buffer.from('abcdefgh')])
  expect(mask.push(Buffer.from('a whole line\n')).toString()).toBe('a whole line\n')
})

test('whatever the chunks, nothing of a secret comes through, and nothing else is lost', () => {
  const cuts = fc.array(fc.nat({ max: 60 }), { maxLength: 6 })
  fc.assert(
    fc.property(
      fc.stringMatching(/^[a-z]{6,20}$/),
      fc.stringMatching(/^[0-9 \n]{0,20}$/),
      cuts,
      (secret, noise, at) => {
        const text = `${noise}${secret}${noise}`
        const borders = [0, ...at.map((n) => n % (text.length + 1)).sort((a, b) => a - b), text.length]
        const chunks = borders.slice(1).map((end, i) => text.slice(borders[i], end))
        expect(shown(secret, ...chunks)).toBe(`${noise}***${noise}`)
      },
    ),
  )
})
