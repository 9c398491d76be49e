// Headers of qcow2 files, and how qemu-img is told to convert.
import { describe, expect, test } from 'vitest'
import { convertArguments, parseQcow2Header } from '../../../src/image/qcow2.ts'

interface Fields {
  magic?: number
  version?: number
  backing?: bigint
  size?: bigint
  encrypted?: number
  incompatible?: bigint
}

function header(fields: Fields = {}): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeUInt32BE(fields.magic ?? 0x514649fb, 0)
  bytes.writeUInt32BE(fields.version ?? 3, 4)
  bytes.writeBigUInt64BE(fields.backing ?? 0n, 8)
  bytes.writeBigUInt64BE(fields.size ?? 2n ** 30n, 24)
  bytes.writeUInt32BE(fields.encrypted ?? 0, 32)
  bytes.writeBigUInt64BE(fields.incompatible ?? 0n, 72)
  return bytes
}

describe('headers', () => {
  const plain = { version: 3, size: 2 ** 30, backing: false, encrypted: false, dataFile: false }

  test.each<[string, Fields, object]>([
    ['a plain one', {}, {}],
    ['version 2', { version: 2 }, { version: 2 }],
    ['a backing file', { backing: 0x200n }, { backing: true }],
    ['encryption', { encrypted: 2 }, { encrypted: true }],
    ['an external data file', { incompatible: 4n }, { dataFile: true }],
    ['other features: dirty, corrupt, extended L2', { incompatible: 0b10011n }, {}],
    ['a data file among other features', { incompatible: 0b10111n }, { dataFile: true }],
    ['bytes of version 2 where version 3 has features', { version: 2, incompatible: 4n }, { version: 2 }],
    ['a large disk', { size: 2n ** 45n }, { size: 2 ** 45 }],
  ])('%s', (_name, fields, expected) => expect(parseQcow2Header(header(fields))).toEqual({ ...plain, ...expected }))

  test.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['zeros', Buffer.alloc(512)],
    ['another magic', header({ magic: 0x514649fa })],
    ['half a header', header().subarray(0, 71)],
    ['text', Buffer.from('#!/bin/sh\n'.repeat(20))],
  ])('%s is none', (_name, bytes) => expect(parseQcow2Header(bytes)).toBeUndefined())

  test('a version 2 header is 72 bytes long', () => {
    expect(parseQcow2Header(header({ version: 2 }).subarray(0, 72))).toMatchObject({ version: 2, dataFile: false })
  })
})

describe('converting', () => {
  const from = { path: '/s/layer.qcow2', format: 'qcow2' as const }

  test('in parallel, and never guessing a format', () => {
    expect(convertArguments({ from, to: '/o', format: 'raw', compress: 'none' }).join(' ')).toBe(
      'convert -p -W -m 8 -f qcow2 -O raw /s/layer.qcow2 /o',
    )
  })

  test('compressed', () => {
    expect(convertArguments({ from, to: '/o', format: 'qcow2', compress: 'zstd' }).join(' ')).toContain(
      '-O qcow2 -c -o compression_type=zstd /s/layer.qcow2',
    )
  })
})
