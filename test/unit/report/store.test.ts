// What the store holds, and what went of it, as text.
import { expect, test, vi } from 'vitest'
import type { CommandResult } from '../../../src/core/results.ts'
import type { CacheEntry, CacheResult, GcResult } from '../../../src/core/results-store.ts'
import type { Style } from '../../../src/report/style.ts'
import { resultText } from '../../../src/report/text.ts'

const style: Style = (_look, text) => text
vi.useFakeTimers({ toFake: ['Date'] })
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000).toISOString()
const text = (result: CommandResult) => resultText(result, { style, cwd: '/p' })
const id = 'abcdef0123456789'.repeat(4)

const removed = {
  kind: 'snapshot' as const,
  id,
  key: id,
  layer: '20_b',
  bytes: 3 * 2 ** 20,
  lastUse: ago(7200),
  state: 'unneeded' as const,
}
const gc: GcResult = {
  dryRun: false,
  store: '/p/.git/vlb',
  removed: [removed],
  others: [{ ...removed, kind: 'cache', key: null, layer: null }],
  freedBytes: 6 * 2 ** 20,
  keptBytes: 2 ** 30,
  budgetBytes: 2 ** 31,
  usedBytes: 0,
}

test('what gc dropped, or would drop', () => {
  expect(text({ kind: 'gc', data: gc })).toBe(
    `  20_b    abcdef012345  3.0 MiB  used 2 h ago  unneeded
  cache   abcdef012345  3.0 MiB  used 2 h ago  unneeded
dropped 1 snapshot and 1 other thing, 6.0 MiB; the store holds 1.0 GiB of 2.0 GiB
`,
  )
  const nothing = { ...gc, dryRun: true, removed: [], others: [], budgetBytes: null }
  expect(text({ kind: 'gc', data: nothing })).toBe('would drop nothing; the store would hold 1.0 GiB, no limit\n')
})

test('what is left and cannot go is told', () => {
  const data = { ...gc, budgetBytes: 2 ** 20, usedBytes: 2 ** 29 }
  expect(text({ kind: 'gc', data })).toContain('what is left cannot go: 512 MiB of it are in use\n')
})

const entry: CacheEntry = {
  id,
  key: id,
  layer: '20_b\u001b[31m',
  project: '/p',
  bytes: 2 ** 20,
  builtAt: ago(86_400 * 3),
  lastUse: ago(60),
  state: 'needed',
  keptBy: [
    { kind: 'worktree', name: '/p/tree', repository: '/p/web', above: null },
    { kind: 'process', name: 'build (pid 5)', repository: '', above: { id, layer: '30_c' } },
    { kind: 'record', name: 'tag v1', repository: '/p/web', above: null },
  ],
}
const ls = (why: boolean): CacheResult => ({
  action: 'ls',
  store: '/p/.git/vlb',
  snapshots: [entry],
  why,
  totalBytes: 2 ** 20,
  budgetBytes: null,
})

test('who keeps a snapshot: the first in the list, all with --why', () => {
  const list = text({ kind: 'cache', data: ls(false) })
  expect(list).toMatch(/20_b\?\[31m +abcdef012345 +1\.0 MiB +3 d ago +1 min ago +needed +worktree tree and 2 more\n/)
  expect(list).toContain('1 snapshot; the store .git/vlb holds 1.0 MiB, no limit\n')
  expect(
    text({ kind: 'cache', data: ls(true) }),
  ).toBe(`20_b?[31m abcdef012345  1.0 MiB, built 3 d ago, used 1 min ago: needed
  worktree tree in web
  git vlb build (pid 5), by way of 30_c abcdef012345
  the record of tag v1 in web
`)
})

test('what verify found', () => {
  const damaged = [{ kind: 'snapshot' as const, id, layer: '20_b', reason: 'its overlay is missing' }]
  const data: CacheResult = {
    action: 'verify',
    store: '/s',
    quick: false,
    dryRun: false,
    snapshots: 2,
    bases: 1,
    withoutDigest: 0,
    damaged,
    removed: [],
    left: damaged,
    seconds: 1,
    exitStatus: 4,
  }
  const said = text({ kind: 'cache', data })
  expect(said).toContain('damaged: the snapshot abcdef012345 of 20_b: its overlay is missing\n')
  expect(said).toContain('1 damaged ones are in use and stay; run it again when nothing runs\n')
  expect(text({ kind: 'cache', data: { ...data, damaged: [], left: [] } })).toContain(': all sound\n')
})
