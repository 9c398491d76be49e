// For which branches there is a prebuild, and what of its file is believed.
import { describe, expect, test } from 'vitest'
import { allowsPrebuild, type PrebuildState, parsePrebuildState } from '../../../src/core/prebuild.ts'

describe('vlb.prebuild', () => {
  test.each([
    [[], 'main', true],
    [[], undefined, true],
    [['true'], undefined, true],
    [[''], 'main', true],
    [['off'], 'main', false],
    [['main'], 'main', true],
    [['main'], 'mainly', false],
    [['main'], undefined, false],
    [['main release/*'], 'release/1/x', true],
    [['main  release/?'], 'release/1', true],
    [['main', 'topic/*'], 'topic/a', true],
    [['*'], 'a.b', true],
    [['a.b', '[x'], 'aXb', false],
    [['main', 'true'], 'other', true],
    [['true', 'main'], 'other', false],
    [['false', 'main'], 'main', true],
    [['main', 'false'], 'main', false],
  ] as const)('%j on %s: %s', (values, branch, allowed) => {
    expect(allowsPrebuild(values, branch)).toBe(allowed)
  })
})

describe('the state in the file', () => {
  const state: PrebuildState = {
    pid: 7,
    start: '1',
    state: 'running',
    layer: null,
    key: null,
    keys: ['k'],
    built: [],
    reason: '',
    startedAt: 's',
    endedAt: null,
  }
  test('is read as it was written', () => {
    expect(parsePrebuildState(JSON.stringify(state))).toEqual(state)
  })
  test.each([
    '',
    'null',
    '[]',
    '{}',
    JSON.stringify({ ...state, pid: -1 }),
    JSON.stringify({ ...state, pid: '7' }),
    JSON.stringify({ ...state, keys: [7] }),
    JSON.stringify({ ...state, layer: 7 }),
  ])('%s is none', (text) => {
    expect(parsePrebuildState(text)).toBeUndefined()
  })
})
