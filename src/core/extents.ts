// Which files two disks of one chain must share. Where a file's bytes lie at the same places on both disks, and nobody has
// written to any of these places since the two parted, its content is the same, and need not be read.

/** Bytes of a disk, from `start` up to `end`, without that itself. */
export interface Range {
  start: number
  end: number
}

/**
 * What was written above the snapshot `depth` files down a chain, from the answer of `qemu-img map --output=json`: an
 * extent's depth says which file it is in, 0 for the topmost.
 */
export function rangesAbove(map: string, depth: number): Range[] {
  const extents = JSON.parse(map) as { start: number; length: number; depth: number }[]
  return extents.filter((e) => e.depth < depth).map((e) => ({ start: e.start, end: e.start + e.length }))
}

/** In order, without overlaps. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const merged: Range[] = []
  for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1)
    if (last && start <= last.end) last.end = Math.max(last.end, end)
    else merged.push({ start, end })
  }
  return merged
}

/** Whether any byte of `one` is in `ranges`, which are merged. */
export function touches(ranges: readonly Range[], one: Range): boolean {
  let [low, high] = [0, ranges.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((ranges[middle]?.end ?? 0) > one.start) high = middle
    else low = middle + 1
  }
  const next = ranges[low]
  return next !== undefined && next.start < one.end
}

// Others mean that the bytes are not simply at these places (fiemap in the kernel's documentation): inline, encoded…
const plainFlags = new Set(['', 'last', 'eof', 'unwritten', 'merged', 'shared'])

/**
 * The places within the file system that a line of the runner's says: the size of a block, then per extent
 * `LOGICAL,PHYSICAL,LENGTH,FLAGS`. Undefined where it does not tell where the content lies; so of a file without extents,
 * which may be a hole, or lie in its inode.
 */
export function parseExtents(line: string): Range[] | undefined {
  const [block = '', ...extents] = line.split(' ')
  const ranges: Range[] = []
  for (const extent of extents) {
    const [, physical = '', length = '', ...flags] = extent.split(',')
    const start = Number(physical) * Number(block)
    const end = start + Number(length) * Number(block)
    if (!(end > start) || !flags.every((flag) => plainFlags.has(flag))) return undefined
    ranges.push({ start, end })
  }
  return ranges.length === 0 ? undefined : ranges
}
