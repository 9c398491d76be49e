// Image files from outside: what they may be is told by their own bytes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import type { ImageFormat } from '../../../src/core/output.ts'
import { inspectImage } from '../../../src/image/foreign.ts'

const folder = mkdtempSync(join(tmpdir(), 'vlb-foreign-'))
afterAll(() => rmSync(folder, { recursive: true }))

const capacity = 4096

function vmdk(description: string, sectors = 8n): Buffer {
  const bytes = Buffer.alloc(2048)
  bytes.write('KDMV')
  bytes.writeBigUInt64LE(sectors, 12)
  bytes.writeBigUInt64LE(1n, 28)
  bytes.writeBigUInt64LE(1n, 36)
  bytes.write(description, 512)
  return bytes
}

function vdi(kind: number): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeUInt32LE(0xbeda107f, 64)
  bytes.writeUInt32LE(kind, 76)
  return bytes
}

function vpc(kind: number): Buffer {
  const bytes = Buffer.alloc(capacity + 512)
  bytes.write('conectix', capacity)
  bytes.writeUInt32BE(kind, capacity + 60)
  return bytes
}

function qcow2(change: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.alloc(512)
  bytes.writeUInt32BE(0x514649fb, 0)
  bytes.writeUInt32BE(3, 4)
  bytes.writeBigUInt64BE(BigInt(capacity), 24)
  change(bytes)
  return bytes
}

/** Its header names a description that is in order; qemu reads the other one. */
function hidden(): Buffer {
  const bytes = Buffer.concat([vmdk(`${alone}parentFileNameHint="/etc/shadow"\n`), Buffer.alloc(2 ** 16)])
  const at = Math.floor(bytes.length / 512) - 20
  bytes.write(alone, at * 512)
  bytes.writeBigUInt64LE(BigInt(at), 28)
  return bytes
}

const alone = 'version=1\nparentCID=ffffffff\n'

test.each<[string, ImageFormat, Buffer, RegExp | undefined]>([
  ['a raw disk', 'raw', Buffer.alloc(capacity), undefined],
  ['a raw disk of another size', 'raw', Buffer.alloc(512), /is a disk of 512 bytes instead of 4096/],
  ['a qcow2 for a raw disk', 'raw', qcow2(() => {}), /is no raw disk, but a qcow2/],
  ['a VMDK for a raw disk', 'raw', vmdk(alone), /but a VMDK/],
  ['nothing for a qcow2', 'qcow2', Buffer.alloc(0), /is no qcow2/],
  ['a backing file', 'qcow2', qcow2((b) => b.writeBigUInt64BE(512n, 8)), /names another file/],
  ['a data file', 'qcow2', qcow2((b) => b.writeBigUInt64BE(4n, 72)), /names another file/],
  ['encryption', 'qcow2', qcow2((b) => b.writeUInt32BE(1, 32)), /is encrypted/],
  ['a qcow2 of another size', 'qcow2', qcow2((b) => b.writeBigUInt64BE(1n, 24)), /instead of 4096/],
  ['a VMDK', 'vmdk', vmdk(alone), undefined],
  ['a VMDK with spaces', 'vmdk', vmdk('parentCID = FFFFFFFF\r\n'), undefined],
  ['a VMDK on a parent', 'vmdk', vmdk('parentCID=1234abcd\n'), /names another file/],
  ['a VMDK that names a parent', 'vmdk', vmdk(`${alone}parentFileNameHint="/etc/shadow"\n`), /names another file/],
  ['a VMDK that hides one', 'vmdk', hidden(), /names another file/],
  ['a VMDK that is a description', 'vmdk', Buffer.from(`# Disk DescriptorFile\n${alone}`), /is no sparse VMDK/],
  ['a VMDK whose description is the disk', 'vmdk', vmdk(alone, 0n), /is no sparse VMDK/],
  ['a VDI', 'vdi', vdi(1), undefined],
  ['a VDI on a parent', 'vdi', vdi(4), /names another file/],
  ['a VHDX', 'vhdx', Buffer.concat([Buffer.from('vhdxfile'), Buffer.alloc(600)]), undefined],
  ['a fixed VHD', 'vpc', vpc(2), undefined],
  ['a VHD on a parent', 'vpc', vpc(4), /is no fixed VHD/],
  ['an archive', 'ova', Buffer.concat([Buffer.alloc(257), Buffer.from('ustar\0')]), undefined],
  ['no archive', 'ova', Buffer.alloc(10), /is no archive/],
])('%s', async (name, format, bytes, reason) => {
  const path = join(folder, name)
  writeFileSync(path, bytes)
  const seen = inspectImage(path, 'it', { format, capacity }, new AbortController().signal)
  if (reason)
    await expect(seen).rejects.toMatchObject({ code: 'VLB_REMOTE_DAMAGED', message: expect.stringMatching(reason) })
  else await seen
})
