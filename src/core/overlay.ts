// What a qcow2 of the store says of itself in its first cluster (qemu, docs/interop/qcow2.txt; all big-endian), and what
// it must say: so that damage and mix-ups are found by reading two small pieces of each file of a chain.

export interface OverlayHeader {
  /** Virtual size in bytes. */
  size: number
  clusterBytes: number
  /** As written; '' for none. */
  backing: string
  /** The first of two levels of mapping tables: where it is, and how many entries it has. */
  l1: { at: number; entries: number }
}

/** How much of a file parseOverlayHeader has to be given. */
export const headerBytes = 4096

/** Compression type and subclusters are what we and qemu-img make; a file that says dirty or damaged, or keeps its data elsewhere, is none of ours. */
const knownFeatures = 0b11000n

/** Undefined where no file of the store has such a header. */
export function parseOverlayHeader(bytes: Buffer): OverlayHeader | undefined {
  if (bytes.length < 104 || bytes.readUInt32BE(0) !== 0x514649fb) return undefined
  const version = bytes.readUInt32BE(4)
  const bits = bytes.readUInt32BE(20)
  if ((version !== 2 && version !== 3) || bits < 9 || bits > 21 || bytes.readUInt32BE(32) !== 0) return undefined
  if (version === 3 && (bytes.readBigUInt64BE(72) & ~knownFeatures) !== 0n) return undefined
  const [name, length] = [Number(bytes.readBigUInt64BE(8)), bytes.readUInt32BE(16)]
  if (name !== 0 && name + length > bytes.length) return undefined
  return {
    size: Number(bytes.readBigUInt64BE(24)),
    clusterBytes: 2 ** bits,
    backing: name === 0 ? '' : bytes.toString('utf8', name, name + length),
    l1: { at: Number(bytes.readBigUInt64BE(40)), entries: bytes.readUInt32BE(36) },
  }
}

/**
 * What to write where, so that the header which names `from` as its backing file names `to`; undefined where it names another,
 * or where `to` has no room. Nothing lies behind the name but free space.
 */
export function renamedBacking(bytes: Buffer, from: string, to: string): { at: number; bytes: Buffer }[] | undefined {
  const header = parseOverlayHeader(bytes)
  if (from === '' || header?.backing !== from) return undefined
  const at = Number(bytes.readBigUInt64BE(8))
  const [old, name] = [Buffer.byteLength(from), Buffer.from(to)]
  const room = Math.min(header.clusterBytes - stampBytes, bytes.length)
  if (at + name.length > room || bytes.subarray(at + old, at + name.length).some((byte) => byte !== 0)) return undefined
  const length = Buffer.alloc(4)
  length.writeUInt32BE(name.length)
  return [
    { at, bytes: Buffer.concat([name, Buffer.alloc(Math.max(0, old - name.length))]) },
    { at: 16, bytes: length },
  ]
}

/** Where an entry of the first table leads: to one of the second, or to none. */
export function secondTable(entry: bigint): number {
  return Number(entry & 0x00fffffffffffe00n)
}

/**
 * The end of the first cluster, of which qemu uses the beginning, holds the nonce of the snapshot: two overlays on one
 * parent may look alike in all else.
 */
export const stampBytes = 64
const stampWord = 'git-vlb '

export function stamp(nonce: string): Buffer {
  const bytes = Buffer.alloc(stampBytes)
  bytes.write(stampWord + nonce, 'latin1')
  return bytes
}

/** The nonce; undefined where there is no stamp. */
export function readStamp(bytes: Buffer): string | undefined {
  const text = bytes.toString('latin1')
  return text.startsWith(stampWord) ? text.slice(stampWord.length).replace(/\0+$/, '') : undefined
}
