// What comes from outside, for properties: bytes and texts of any kind, and texts that look almost like what a parser
// knows. And what every parser has to be like.
import fc from 'fast-check'
import { expect } from 'vitest'
import { VlbError } from '../../src/core/errors.ts'

/** Control characters, marks that turn the direction of writing, half characters, and what only looks like text. */
const tricks = [
  '\0',
  '\n',
  '\r',
  '\t',
  '\x1b[2J',
  '\x1b]0;x\x07',
  '\x7f',
  '\x9b',
  '\u202e',
  '\u2028',
  '\ufeff',
  '\ud800',
]

export const anyText: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.string({ maxLength: 60 }),
  fc
    .array(fc.oneof(fc.string({ unit: 'binary', maxLength: 6 }), fc.constantFrom(...tricks)), { maxLength: 12 })
    .map((parts) => parts.join('')),
)

/** Any bytes, one character each. */
export const anyBytes: fc.Arbitrary<string> = fc
  .uint8Array({ maxLength: 60 })
  .map((bytes) => Buffer.from(bytes).toString('latin1'))

/** Some of these pieces one behind the other, with now and then something else in between. */
export function madeOf(pieces: readonly string[], maxLength = 12): fc.Arbitrary<string> {
  const piece = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...pieces) }, { weight: 1, arbitrary: anyText })
  return fc.array(piece, { maxLength }).map((parts) => parts.join(''))
}

/** Lines of that, or anything. */
export function linesOf(pieces: readonly string[], maxLength = 12): fc.Arbitrary<string> {
  return fc.oneof(
    fc.array(madeOf(pieces, 6), { maxLength }).map((lines) => lines.join('\n')),
    madeOf([...pieces, '\n'], 30),
    anyText,
  )
}

/** JSON that has any of these names in it, at any depth; or no JSON at all. */
export function jsonOf(names: readonly string[], values: readonly unknown[] = []): fc.Arbitrary<string> {
  const leaf = fc.oneof(
    fc.constantFrom<unknown>(null, true, 0, 1, -1, 1e300, '', 'x', [], {}, ...values),
    fc.jsonValue({ maxDepth: 1 }),
  )
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3, depthSize: 'small' },
      leaf,
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom(...names, '__proto__', 'constructor'), tie('value'), { maxKeys: names.length }),
    ),
  }))
  const text = value.map((one) => JSON.stringify(one) ?? '')
  return fc.oneof(
    { weight: 6, arbitrary: text },
    { weight: 1, arbitrary: anyText },
    { weight: 1, arbitrary: text.map((t) => t.slice(0, -1)) },
  )
}

/** The result, or undefined where it is refused, which must be by an error that a user can read and act on. */
export function orRefusal<T>(action: () => T): T | undefined {
  try {
    return action()
  } catch (error) {
    if (!(error instanceof VlbError)) throw error
    expect(error.message, error.code).not.toMatch(unshowable)
    expect(error.hint ?? 'none', `${error.code} without a hint`).not.toBe('none')
    expect(error.hint, error.code).not.toMatch(unshowable)
    return undefined
  }
}

/** What no message may send to a terminal: all that controls it but a line break, and what turns text around. */
export const unshowable: RegExp = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

/** Reflexive, antisymmetric, transitive, and equal only what is the same. */
export function expectTotalOrder<T>(
  three: readonly T[],
  compare: (a: T, b: T) => number,
  same: (a: T, b: T) => boolean,
): void {
  const [a, b, c] = three as [T, T, T]
  const sign = (x: T, y: T) => Math.sign(compare(x, y))
  for (const x of three) expect(sign(x, x)).toBe(0)
  expect(sign(a, b) + sign(b, a)).toBe(0)
  if (sign(a, b) <= 0 && sign(b, c) <= 0) expect(sign(a, c)).toBeLessThanOrEqual(0)
  if (sign(a, b) === 0) expect(same(a, b)).toBe(true)
}
