// Which snapshots a revision needs.
import { describe, expect, test } from 'vitest'
import { contentId, digest, type SnapshotId, snapshotId, treeId } from '../../../src/core/ids.ts'
import { engineVersion, type KeyInputs } from '../../../src/core/key.ts'
import { type Part, Reach } from '../../../src/core/reach.ts'

const manifest = (id: string, inputs: Partial<KeyInputs>, content = id) => ({
  id: snapshotId(id),
  contentId: contentId(content),
  inputs: { kind: 'build-layer' as const, engine: engineVersion, ...inputs },
})
const on = (parent: string, tree: string, more: Partial<KeyInputs> = {}) => ({
  parent: contentId(parent),
  tree: treeId(tree),
  ...more,
})
const part = (tree: string, more: Partial<Part> = {}): Part => ({ kind: 'build-layer', tree, includes: {}, ...more })
const base = { base: digest('sha256:b') }
const shape = (layers: Part[], more = {}) => ({
  bases: ['sha256:b'],
  size: undefined,
  root: undefined,
  layers,
  ...more,
})

function needed(reach: Reach): Record<string, number[]> {
  return Object.fromEntries([...reach.needed()].map(([id, tips]: [SnapshotId, Set<number>]) => [id, [...tips].sort()]))
}

const chain = [
  manifest('a', { ...base, tree: treeId('ta') }),
  manifest('b', on('a', 'tb')),
  manifest('c', on('b', 'tc')),
]

test('a chain, as far as the revision has its layers', () => {
  const reach = new Reach(chain)
  reach.follow(shape([part('ta'), part('tb'), part('tc')]), 0)
  reach.follow(shape([part('ta'), part('tx'), part('tc')]), 1)
  reach.follow(shape([part('ta'), part('tb')], { bases: ['sha256:other'] }), 2)
  reach.follow(shape([part('ta'), part('tb')]), 3)
  expect(needed(reach)).toEqual({ a: [0, 1, 3], b: [0, 3], c: [0] })
})

test('whatever values they were built with', () => {
  const reach = new Reach([
    manifest('a1', { ...base, tree: treeId('ta'), env: { N: '1' } }),
    manifest('a2', { ...base, tree: treeId('ta'), env: { N: '2' } }),
    manifest('b2', on('a2', 'tb')),
  ])
  reach.follow(shape([part('ta'), part('tb')]), 0)
  expect(needed(reach)).toEqual({ a1: [0], a2: [0], b2: [0] })
})

describe('what else is part of a key', () => {
  const follow = (inputs: Partial<KeyInputs>, layer: Part, more = {}) => {
    const reach = new Reach([manifest('a', { ...base, tree: treeId('ta'), ...inputs })])
    reach.follow(shape([layer], more), 0)
    return Object.keys(needed(reach))
  }

  test('includes, the root, the kind, the engine', () => {
    expect(follow({ includes: { x: '1', y: '2' } }, part('ta', { includes: { y: '2', x: '1' } }))).toEqual(['a'])
    expect(follow({ includes: { x: '1' } }, part('ta', { includes: { x: '2' } }))).toEqual([])
    expect(follow({ root: '2' }, part('ta'))).toEqual([])
    expect(follow({ root: '2' }, part('ta'), { root: '2' })).toEqual(['a'])
    expect(follow({ kind: 'modify-disk' }, part('ta'))).toEqual([])
    expect(follow({ engine: engineVersion - 1 }, part('ta'))).toEqual([])
  })
})

test('the step that grows the disk, and a first layer that makes the base, of whatever architecture', () => {
  const made = { kind: 'build-base' as const, tree: treeId('t0'), arch: 'aarch64' }
  const reach = new Reach([
    manifest('base', made),
    manifest('disk', { kind: 'disk', parent: contentId('base'), size: 5 }),
    manifest('a', on('disk', 'ta')),
  ])
  reach.follow({ ...shape([part('t0', { kind: 'build-base' }), part('ta')]), bases: [], size: 5 }, 0)
  expect(Object.keys(needed(reach)).sort()).toEqual(['a', 'base', 'disk'])
})

describe('a rolled-up layer', () => {
  const rolled = part('tr', { kind: 'layers', steps: [part('ta'), part('tb')] })
  const whole = manifest('whole', { ...base, kind: 'layers', tree: treeId('tr') }, 'b')

  test('its steps until it is there, then itself; what stands on either', () => {
    const before = new Reach(chain)
    before.follow(shape([rolled, part('tc')]), 0)
    expect(Object.keys(needed(before)).sort()).toEqual(['a', 'b', 'c'])
    const after = new Reach([...chain, whole])
    after.follow(shape([rolled, part('tc')]), 0)
    expect(Object.keys(needed(after)).sort()).toEqual(['c', 'whole'])
  })
})
