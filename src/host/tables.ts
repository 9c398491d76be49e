// Reads what a disk image says of where its data is: a small part of the file, on which all of it hangs.
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import {
  headerBytes,
  type OverlayHeader,
  parseOverlayHeader,
  readStamp,
  renamedBacking,
  secondTable,
  stamp,
  stampBytes,
} from '../core/overlay.ts'

export interface Head {
  fileBytes: number
  header: OverlayHeader | undefined
  /** The nonce that is stamped on it. */
  nonce: string | undefined
}

/** Synchronous: done for each file of a chain, and shorter than a turn through the thread pool. Undefined: no such file. */
export function readHead(path: string): Head | undefined {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch {
    return undefined
  }
  try {
    const bytes = Buffer.alloc(headerBytes)
    const header = parseOverlayHeader(bytes.subarray(0, readSync(file, bytes, 0, headerBytes, 0)))
    const tail = Buffer.alloc(stampBytes)
    if (header) readSync(file, tail, 0, stampBytes, header.clusterBytes - stampBytes)
    return { fileBytes: fstatSync(file).size, header, nonce: readStamp(tail) }
  } finally {
    closeSync(file)
  }
}

/** Writes the nonce into a finished overlay, where there is room for it. */
export function stampOverlay(path: string, nonce: string): void {
  const header = readHead(path)?.header
  if (!header || header.clusterBytes <= headerBytes) return
  const file = openSync(path, 'r+')
  try {
    const there = Buffer.alloc(stampBytes)
    readSync(file, there, 0, stampBytes, header.clusterBytes - stampBytes)
    if (there.every((byte) => byte === 0))
      writeSync(file, stamp(nonce), 0, stampBytes, header.clusterBytes - stampBytes)
  } finally {
    closeSync(file)
  }
}

/**
 * Has an overlay call its backing file `to` instead of `from`: the same file, seen from another folder. Where the name can only be
 * changed in a way that qemu-img knows, nothing is done, and the answer is false.
 */
export function renameInPlace(path: string, from: string, to: string): boolean {
  const file = openSync(path, 'r+')
  try {
    const head = Buffer.alloc(headerBytes)
    const changes = renamedBacking(head.subarray(0, readSync(file, head, 0, headerBytes, 0)), from, to)
    for (const { at, bytes } of changes ?? []) writeSync(file, bytes, 0, bytes.length, at)
    return changes !== undefined
  } finally {
    closeSync(file)
  }
}

/** More than any disk that qemu takes would need. */
const mostEntries = 2 ** 22

/**
 * SHA-256 of a qcow2's header and mapping tables, of a raw disk's beginning with its partition table. Some hundred KiB for
 * each GiB that the file has data in.
 */
export async function tablesDigest(path: string, format: 'qcow2' | 'raw' = 'qcow2'): Promise<string> {
  const file = await open(path, 'r')
  try {
    const hash = createHash('sha256')
    const head = await piece(file, 0, format === 'raw' ? 2 ** 17 : headerBytes)
    hash.update(head)
    const header = format === 'raw' ? undefined : parseOverlayHeader(head)
    if (!header || header.l1.entries > mostEntries) return hash.digest('hex')
    const first = await piece(file, header.l1.at, header.l1.entries * 8)
    hash.update(first)
    for (let i = 0; i + 8 <= first.length; i += 8) {
      const at = secondTable(first.readBigUInt64BE(i))
      if (at !== 0) hash.update(await piece(file, at, header.clusterBytes))
    }
    return hash.digest('hex')
  } finally {
    await file.close()
  }
}

/** As much of it as there is. */
async function piece(file: FileHandle, at: number, length: number): Promise<Buffer> {
  if (!Number.isSafeInteger(at)) return Buffer.alloc(0)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at)
  return buffer.subarray(0, bytesRead)
}
