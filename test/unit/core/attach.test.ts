// How disks are attached: the setting, and the device of the option.
import { expect, test } from 'vitest'
import { parseAttach, parseDevice } from '../../../src/core/attach.ts'
import { complaint } from '../errors.ts'

test('the setting is one of three words, auto if there is none', () => {
  expect([undefined, 'auto', 'fuse', 'nbd'].map((text) => parseAttach(text))).toEqual(['auto', 'auto', 'fuse', 'nbd'])
  for (const [text, meant] of [
    ['ndb', 'nbd'],
    ['Fuse', 'fuse'],
    ['foo', 'auto'],
    ['', 'auto'],
    ['/dev/nbd0', 'auto'],
  ] as const) {
    const said = complaint('VLB_USAGE', () => parseAttach(text))
    expect(said).toContain(`vlb.attach takes one of auto, fuse, nbd, not "${text}"`)
    expect(said).toContain(`git config vlb.attach ${meant}`)
  }
})

test('only an nbd device passes for one', () => {
  expect(parseDevice('/dev/nbd0')).toBe('/dev/nbd0')
  expect(parseDevice('/dev/nbd15')).toBe('/dev/nbd15')
  const others = [
    '',
    'nbd0',
    '/dev/nbd',
    '/dev/sda',
    '/dev/nbd0p1',
    '/dev/nbd00',
    '/dev/nbd0/../sda',
    '/dev/nbd0\n',
    ' /dev/nbd0',
  ]
  for (const text of others)
    expect(
      complaint('VLB_USAGE', () => parseDevice(text)),
      text,
    ).toContain('such as /dev/nbd0')
})
