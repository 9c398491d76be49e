import { expect, test } from 'vitest'
import {
  composeLease,
  isLeft,
  type Lease,
  LeaseWatch,
  leasedKey,
  leaseTag,
  lookEvery,
  parseLease,
  renewEvery,
} from '../../../src/core/lease.ts'
import { blobOf } from '../../../src/core/oci.ts'

const empty = blobOf('{}')
const key = 'ab'.repeat(32)
const theirs: Lease = { owner: '1'.repeat(16), host: 'ci-7', layer: '10_a', seconds: 90, beat: 0 }
const us = '2'.repeat(16)

/** A clock that the test turns. */
function watching(seconds = 90) {
  const watch = new LeaseWatch(us)
  let now = 5000
  const pass = (ms: number) => {
    now += ms
  }
  return {
    watch,
    pass,
    look: (seen: Parameters<LeaseWatch['look']>[0]) => watch.look(seen, now),
    every: lookEvery(seconds),
  }
}

test('the tag of a lease is a tag, and neither a key nor taken for another', () => {
  expect(leaseTag(key)).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/)
  expect(leasedKey(leaseTag(key))).toBe(key)
  for (const tag of [key, 'lease-', `lease-${key}0`, 'lease-v1', 'v1']) expect(leasedKey(tag)).toBeUndefined()
})

test('what is written is read again, with what is there for other tools', () => {
  for (const lease of [theirs, { ...theirs, at: 1700000000000, ended: true }]) {
    expect(parseLease(composeLease(lease, empty))).toEqual(lease)
  }
  const manifest = JSON.parse(composeLease(theirs, empty))
  expect(manifest.config).toMatchObject({ mediaType: 'application/vnd.oci.empty.v1+json', size: 2 })
  expect(manifest.layers).toEqual([manifest.config])
})

test('what is no lease, or promises nonsense, holds nobody up', () => {
  const written = composeLease(theirs, empty)
  const other = (change: object) => composeLease({ ...theirs, ...change } as Lease, empty)
  for (const text of [
    '',
    '[]',
    'null',
    '{"artifactType":"application/vnd.git-vlb.lease.v1"}',
    '{"artifactType":"application/vnd.git-vlb.lease.v1","annotations":{"vnd.git-vlb.lease":"null"}}',
    written.replace('lease.v1', 'snapshot.v1'),
    other({ owner: 'me' }),
    other({ seconds: 1e9 }),
    other({ seconds: 0 }),
    other({ seconds: '90' }),
    other({ beat: 1.5 }),
  ])
    expect(parseLease(text), text).toBeUndefined()
  expect(parseLease(other({ host: 'a\u001b[31mb\nc', at: 'x' }))).toEqual({
    ...theirs,
    host: expect.not.stringMatching(/[\u001b\n]/),
  })
})

test('an owner that goes on changing it is waited for, however long', () => {
  const { look, pass } = watching()
  for (let beat = 0; beat < 100; beat++) {
    for (let i = 0; i < 10; i++) {
      expect(look({ ...theirs, beat })).toBe('held')
      pass(3000)
    }
  }
})

test('one that changes nothing for as long as it promised is gone, and not before', () => {
  const { look, pass } = watching()
  let waited = 0
  while (look(theirs) === 'held') {
    pass(3000)
    waited += 3000
  }
  expect(waited).toBeGreaterThan(90_000)
  expect(waited).toBeLessThan(97_000)
})

test('its clock says nothing, nor does ours: only that the lease changes counts', () => {
  const { look, pass } = watching()
  expect(look({ ...theirs, at: 0 })).toBe('held')
  pass(3000)
  expect(look({ ...theirs, at: 4e12, beat: 1 })).toBe('held')
})

test('who was stopped for an hour does not take what another one, stopped as well, will go on with', () => {
  const { look, pass, every } = watching()
  expect(look(theirs)).toBe('held')
  pass(3600_000)
  expect(look(theirs)).toBe('held')
  pass(every)
  expect(look({ ...theirs, beat: 1 })).toBe('held')
})

test('a registry that is silent for a moment has lost nothing; for longer, nobody waits for it', () => {
  const { look, pass } = watching()
  expect(look('unreachable')).toBe('free')
  expect(look(theirs)).toBe('held')
  for (let i = 0; i < 10; i++) {
    pass(3000)
    expect(look('unreachable')).toBe('held')
  }
  expect(look({ ...theirs, beat: 1 })).toBe('held')
  for (let i = 0; i <= 31; i++) {
    pass(3000)
    if (look('unreachable') === 'dead') return
  }
  expect.fail('still waiting')
})

test('nobody, or who has ended: free; ours is ours; another one who was quicker is watched anew', () => {
  const { look, pass, watch } = watching()
  expect(look('none')).toBe('free')
  expect(look({ ...theirs, ended: true })).toBe('free')
  expect(look({ ...theirs, owner: us })).toBe('ours')
  look(theirs)
  for (let i = 0; i < 29; i++) {
    pass(3000)
    look(theirs)
  }
  const third = { ...theirs, owner: '3'.repeat(16), host: 'ci-8' }
  expect(look(third)).toBe('held')
  expect(watch.lease?.host).toBe('ci-8')
  pass(5000)
  expect(look(third)).toBe('held')
})

test('what was left long ago by the clock of the registry is not waited for', () => {
  const at = 1_700_000_000_000
  expect(isLeft({ ...theirs, at }, at + 89_000)).toBe(false)
  expect(isLeft({ ...theirs, at }, at + 3600_000)).toBe(true)
  expect(isLeft({ ...theirs, at }, undefined)).toBe(false)
  expect(isLeft(theirs, at)).toBe(false)
  expect(new LeaseWatch(us).look({ ...theirs, at }, 0, at + 3600_000)).toBe('dead')
})

test('an owner has two chances to change it before others give it up, and they look more often than it changes', () => {
  for (const seconds of [1, 3, 90, 3600]) {
    expect(3 * renewEvery(seconds)).toBeLessThanOrEqual(seconds * 1000)
    expect(lookEvery(seconds)).toBeLessThan(renewEvery(seconds))
  }
})
