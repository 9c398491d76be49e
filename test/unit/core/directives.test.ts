// Directives: each of them, where they count, and what is said of one that is wrong.
import { describe, expect, test } from 'vitest'
import { type Directives, parseDirectives } from '../../../src/core/directives.ts'
import { complaint } from '../errors.ts'

const none: Directives = {
  nocache: false,
  noshare: false,
  env: {},
  network: true,
  secrets: [],
  caches: [],
  includes: [],
  binds: [],
  mounts: [],
}
const parse = (...lines: string[]) => parseDirectives(['#!/bin/sh', ...lines, 'echo'].join('\n'), '10_a/build-layer')

test('a script without any', () => {
  expect(parse()).toEqual(none)
  expect(parseDirectives('', 'x')).toEqual(none)
})

describe('each of them', () => {
  test.each<[string, Partial<Directives>]>([
    ['# vlb: nocache', { nocache: true }],
    ['# nocache', { nocache: true }],
    ['#nocache', { nocache: true }],
    // As vm-layer-builder's own example has it.
    ['# nocache (this hint tells not to cache the layer)', { nocache: true }],
    ['# vlb: noshare', { noshare: true }],
    ['# noshare', { noshare: true }],
    ['# vlb: ttl 7d', { ttl: 604_800 }],
    ['# vlb: timeout 30m', { timeout: 1800 }],
    ['# vlb: timeout 90', { timeout: 90 }],
    ['# vlb: network none', { network: false }],
    ['# vlb: hostname web-1.example.com', { hostname: 'web-1.example.com' }],
    ['# vlb: env RELEASE', { env: { RELEASE: undefined } }],
    ['# vlb: env RELEASE=stable', { env: { RELEASE: 'stable' } }],
    ['# vlb: env EMPTY=', { env: { EMPTY: '' } }],
    ['# vlb: env WORDS=a b = c', { env: { WORDS: 'a b = c' } }],
    ['#vlb:   nocache   ', { nocache: true }],
  ])('%s', (line, expected) => expect(parse(line)).toEqual({ ...none, ...expected }))

  test('several together; of two that say the same, the later one', () => {
    const found = parse('# vlb: env A=1', '# vlb: env B', '# vlb: ttl 1h', '# vlb: ttl 2h', '# vlb: network none')
    expect(found).toEqual({ ...none, env: { A: '1', B: undefined }, ttl: 7200, network: false })
  })
})

describe('where they count', () => {
  test('among other comments and blank lines at the top', () => {
    expect(parse('#', '# About this layer.', '', '# vlb: nocache').nocache).toBe(true)
  })

  test('not below the first command', () => {
    expect(parse('set -e', '# vlb: nocache', '# vlb: no such thing').nocache).toBe(false)
  })

  test('not behind other words, and not in text that speaks of them', () => {
    expect(parse('# this one is nocache', '# use vlb: nocache', '# nocaches', '## vlb: nocache').nocache).toBe(false)
  })

  test('a script of comments alone', () => {
    expect(parseDirectives('#!/bin/sh\n# vlb: nocache', 'x').nocache).toBe(true)
  })
})

describe('a wrong one is refused, with file and line', () => {
  test.each([
    ['# vlb: nocahe', 'unknown directive "nocahe"', 'did you mean "# vlb: nocache"?'],
    ['# vlb: timout 5m', 'unknown directive "timout"', 'did you mean "# vlb: timeout"?'],
    ['# vlb: frobnicate', 'unknown directive "frobnicate"', 'known directives: nocache, noshare'],
    ['# vlb:', 'unknown directive ""', 'known directives: nocache'],
    ['# vlb: nocache yes', 'nocache takes no argument', 'known directives'],
    ['# vlb: ttl', 'ttl takes a duration such as 30m or 7d, not ""', 'known directives'],
    ['# vlb: ttl soon', 'ttl takes a duration such as 30m or 7d, not "soon"', 'known directives'],
    ['# vlb: timeout 0', 'timeout takes a duration', 'known directives'],
    ['# vlb: network off', 'network knows one argument, "none", not "off"', 'known directives'],
    ['# vlb: hostname a b', 'hostname takes one host name', 'known directives'],
    ['# vlb: hostname -a', 'hostname takes one host name', 'known directives'],
    ['# vlb: env', 'env takes NAME or NAME=default, not ""', 'known directives'],
    ['# vlb: env 1A=x', 'env takes NAME or NAME=default, not "1A=x"', 'known directives'],
    ['# vlb: env A-B=x', 'env takes NAME or NAME=default, not "A-B=x"', 'known directives'],
    ['# vlb: cache /a\tb', 'cache takes an absolute path in the image', 'known directives'],
    ['# vlb: include a\tb', 'include takes a path below the folder of vlb.yaml', 'known directives'],
    ['# vlb: \u001b[2J', 'unknown directive "?[2J"', 'known directives'],
  ])('%s', (line, what, hint) => {
    const said = complaint('VLB_DIRECTIVE', () => parse('# one', '', line))
    expect(said).toContain(`10_a/build-layer:4: ${what}`)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })
})
