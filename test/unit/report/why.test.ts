// Why a layer is missing, as one line.
import { describe, expect, test } from 'vitest'
import type { LayerStatus, Why } from '../../../src/core/results-status.ts'
import { whyText } from '../../../src/report/why.ts'

const line = (why: Why[], more: Partial<LayerStatus> = {}) =>
  whyText({ name: '10_a', reason: 'a reason', why, last: null, ...more } as LayerStatus)

const commit = { id: '0123456789abcdef', subject: 'more of it', author: 'A', date: '2024-01-01T00:00:00Z' }
const nowhere = { commit: null, uncommitted: false }
const tree = (paths: string[], origin: object = nowhere, more = 0): Why => ({
  input: 'tree',
  before: 'a',
  after: 'b',
  files: paths.map((path) => ({ path, change: 'modified' })),
  more,
  ...nowhere,
  ...origin,
})

describe('files', () => {
  test.each<[string, Why, string]>([
    ['one', tree(['a']), 'a changed'],
    ['three', tree(['a', 'b', 'c']), 'a changed, b changed, c changed'],
    ['more', tree(['a', 'b', 'c', 'd']), 'a changed, b changed and 2 more'],
    ['more than were kept', tree(['a', 'b', 'c'], {}, 900), 'a changed, b changed and 901 more'],
    ['unknown ones', { ...tree([]), files: null } as Why, 'its files changed'],
    ['in a commit', tree(['a'], { commit }), 'a changed in 012345678 "more of it"'],
    ['not in one', tree(['a'], { uncommitted: true }), 'a changed, not committed'],
    [
      'both',
      tree(['a'], { commit, uncommitted: true }),
      'a changed in 012345678 "more of it" and since then, not committed',
    ],
  ])('%s', (_, why, expected) => {
    expect(line([why])).toBe(expected)
  })
})

test.each<[Why, string]>([
  [{ input: 'env', name: 'N', change: 'changed' }, 'the value N changed'],
  [{ input: 'env', name: '20_b/N', change: 'added' }, 'the value N of 20_b is new'],
  [{ input: 'parent', layer: '05_x', change: 'removed', inputs: [] }, '05_x is not below it any more'],
  [{ input: 'parent', layer: '05_x', change: 'missing', inputs: [] }, '05_x below it has to be built'],
  [{ input: 'size', before: null, after: 2 ** 30 }, "disk.size the base's → 1.0 GiB"],
  [{ input: 'base', before: `sha256:${'a'.repeat(64)}`, after: null }, 'the base changed: aaaaaaaaaaaa → none'],
  [{ input: 'kind', before: 'build-layer', after: 'modify-disk' }, 'build-layer became modify-disk'],
  [{ input: 'include', path: 'lib', change: 'added', ...nowhere }, 'lib, which it includes, is new'],
])('%j', (why, expected) => {
  expect(line([why])).toBe(expected)
})

test('the reason alone where nothing differs, and before the rest where a value is lacking', () => {
  expect(line([])).toBe('a reason')
  expect(line([{ input: 'env', name: 'N', change: 'missing' }, tree(['a'])])).toBe('a reason; a changed')
})

test('another name it had', () => {
  const last = { layer: '20_a', key: 'k', builtAt: '' }
  expect(line([tree(['a'])], { last })).toBe('a changed (it was 20_a)')
  expect(line([tree(['a'])], { last: { ...last, layer: '10_a' } })).toBe('a changed')
})

test('nothing of it can play tricks on a terminal', () => {
  const evil = '\u001b[2J\u202e\n'
  const last = { layer: evil, key: 'k', builtAt: '' }
  const all: Why[] = [
    tree([evil], { commit: { ...commit, subject: evil } }),
    { input: 'include', path: evil, change: 'changed', ...nowhere },
    { input: 'parent', layer: evil, change: 'changed', inputs: [] },
    { input: 'env', name: evil, change: 'changed' },
    { input: 'root', before: evil, after: null },
    { input: 'kind', before: evil, after: evil },
  ]
  expect(line(all, { last })).not.toMatch(/[\p{Cc}\p{Cf}]/u)
})
