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

  test('is not written where it is longer, or where another file is named', () => {
    expect(renamed('abc.qcow2', '../abc.qcow2')).toBeUndefined()
    expect(renamed('aa', 'å.')).toBeUndefined()
    expect(renamed('abc.qcow2', 'b', 'other.qcow2')).toBeUndefined()
    expect(renamedBacking(Buffer.alloc(headerBytes), 'a', 'b')).toBeUndefined()
  })
})
