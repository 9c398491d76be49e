// Raw tree objects, as git writes them.
import { expect, test } from 'vitest'
import { parseTree } from '../../../src/git/objects.ts'
import { complaint } from '../errors.ts'

const entry = (mode: string, name: string, oid: string) =>
  Buffer.concat([Buffer.from(`${mode} ${name}\0`), Buffer.from(oid, 'hex')])

// Ids that hold the bytes which end fields elsewhere: a space and a zero.
const [one, two] = ['20'.repeat(20), `00${'ab'.repeat(18)}00`] as const

test('every kind of entry, with any name and any id', () => {
  const raw = Buffer.concat([
    entry('100644', 'a file, ünïcode', one),
    entry('100755', 'build-layer', two),
    entry('120000', 'link', one),
    entry('40000', 'folder', two),
    entry('160000', 'module', one),
  ])
  expect(parseTree(raw, 20)).toEqual([
    { mode: '100644', name: 'a file, ünïcode', oid: one },
    { mode: '100755', name: 'build-layer', oid: two },
    { mode: '120000', name: 'link', oid: one },
    { mode: '40000', name: 'folder', oid: two },
    { mode: '160000', name: 'module', oid: one },
  ])
})

test('ids of SHA-256', () => {
  const oid = 'cd'.repeat(32)
  const raw = Buffer.concat([entry('100644', 'a', oid), entry('100644', 'b', oid)])
  expect(parseTree(raw, 32)).toEqual([
    { mode: '100644', name: 'a', oid },
    { mode: '100644', name: 'b', oid },
  ])
})

test('the empty tree', () => expect(parseTree(Buffer.alloc(0), 20)).toEqual([]))

test.each<[string, Buffer]>([
  ['no end of a name', Buffer.from('100644 name')],
  ['no mode', Buffer.from('garbage')],
  ['an id cut short', entry('100644', 'a', one).subarray(0, -1)],
])('%s is damage', (_name, raw) => {
  const said = complaint('VLB_GIT', () => parseTree(raw, 20))
  expect(said).toContain('a git tree object is damaged')
  expect(said).toContain('git fsck')
})
