import { describe, expect, test } from 'vitest'
import { headerBytes, parseOverlayHeader, renamedBacking } from '../../../src/core/overlay.ts'

/** The beginning of a qcow2 of version 3 that has a backing file (qemu, docs/interop/qcow2.txt). */
function header(backing: string): Buffer {
  const bytes = Buffer.alloc(headerBytes)
  bytes.write('QFI\xfb', 'latin1')
  bytes.writeUInt32BE(3, 4)
  bytes.writeBigUInt64BE(500n, 8)
  bytes.writeUInt32BE(Buffer.byteLength(backing), 16)
  bytes.writeUInt32BE(17, 20)
  bytes.write(backing, 500)
  return bytes
}

describe('another name for a backing file', () => {
  const renamed = (from: string, to: string, was = from) => {
    const bytes = header(was)
    const changes = renamedBacking(bytes, from, to)
    for (const change of changes ?? []) change.bytes.copy(bytes, change.at)
    return changes && parseOverlayHeader(bytes)?.backing
  }

  test('is what the header says then', () => {
    expect(renamed('../../chain/abc.qcow2', 'abc.qcow2')).toBe('abc.qcow2')
    expect(renamed('../../å.qcow2', '../å.qcow2')).toBe('../å.qcow2')
    expect(renamed('a', 'b')).toBe('b')
  })

  test('can be changed back', () => {
    const bytes = header('abc.qcow2')
    for (const [from, to] of [
      ['abc.qcow2', '../a'],
      ['../a', '../chain/abc.qcow2'],
      ['../chain/abc.qcow2', 'abc.qcow2'],
    ] as const)
      for (const change of renamedBacking(bytes, from, to) ?? []) change.bytes.copy(bytes, change.at)
    expect(bytes.equals(header('abc.qcow2'))).toBe(true)
  })

  test('is not written where something lies behind it, or where another file is named', () => {
    const full = header('abc.qcow2')
    full.write('x', 500 + 'abc.qcow2'.length + 2)
    expect(renamedBacking(full, 'abc.qcow2', '../abc.qcow2')).toBeUndefined()
    expect(renamedBacking(full, 'abc.qcow2', './abc.qcow2')).toBeDefined()
    expect(renamed('abc.qcow2', 'b'.repeat(headerBytes - 499))).toBeUndefined()
    expect(renamed('abc.qcow2', 'b', 'other.qcow2')).toBeUndefined()
    expect(renamed('', 'b')).toBeUndefined()
    expect(renamedBacking(Buffer.alloc(headerBytes), 'a', 'b')).toBeUndefined()
  })
})
