// Which parts of a disk hold data, and in which file of its chain: what `qemu-img map --output=json` prints.

/** A range of the guest's disk, in bytes. */
export interface Extent {
  start: number
  length: number
}

/** qemu-img(1), "map". */
export interface MappedExtent extends Extent {
  /** 0: the file itself; 1: what backs it; and so on. */
  depth: number
  /** Reads as zeros. */
  zero: boolean
  /** Has data in the file. */
  data: boolean
}

/** In ascending order. */
export function parseMap(json: string): MappedExtent[] {
  return JSON.parse(json) as MappedExtent[]
}

/** What reads as zeros because the file says so, not what is below it. */
export function freedExtents(map: readonly MappedExtent[]): Extent[] {
  return map.filter(({ depth, zero }) => depth === 0 && zero)
}

export function dataExtents(map: readonly MappedExtent[]): Extent[] {
  return map.filter(({ data, zero }) => data && !zero)
}

/** Bytes that lie in both; each list in ascending order and without overlaps of its own. */
export function overlap(one: readonly Extent[], other: readonly Extent[]): number {
  let bytes = 0
  let i = 0
  for (const { start, length } of one) {
    while (i < other.length && end(other[i]) <= start) i++
    for (let j = i; j < other.length && (other[j]?.start ?? 0) < start + length; j++)
      bytes += Math.min(end(other[j]), start + length) - Math.max(other[j]?.start ?? 0, start)
  }
  return bytes
}

function end(extent: Extent | undefined): number {
  return extent ? extent.start + extent.length : 0
}
