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

/** Where a file's content lies. */
export interface Layout {
  /** Equal for equal layouts. */
  text: string
  /** Within the file system. */
  ranges: Range[]
}

// `ext: logical from..to: physical from..to: length: [expected:] flags`
const extentLine = /^ *\d+: *(\d+)\.\. *(\d+): *(\d+)\.\. *(\d+): *(\d+):(?: *\d+:)? *([a-z_,]*)$/
// Others mean that the bytes are not simply at these places (fiemap in the kernel's documentation): inline, encoded…
const plainFlags = new Set(['last', 'eof', 'unwritten', 'merged', 'shared', ''])

/**
 * What `filefrag -v` printed about the files `names`, in that order, by name. Names hold no control characters, lest one
 * could be taken for more lines. Files whose layout does not tell where their content lies are missing.
 */
export function parseExtents(text: string, names: readonly string[]): Map<string, Layout> {
  const found = new Map<string, Layout>()
  let at = 0
  let block = 0
  let current: Layout | undefined
  for (const line of text.split('\n')) {
    const name = names[at]
    if (name !== undefined && line.startsWith(`File size of ${name} is `)) {
      const size = /\(\d+ blocks? of (\d+) bytes\)$/.exec(line)
      block = Number(size?.[1] ?? 0)
      current = size ? { text: '', ranges: [] } : undefined
      at++
      if (current) found.set(name, current)
      continue
    }
    const match = current && extentLine.exec(line)
    if (!match || !current) continue
    const [logical = '', , physical = '', , length = '', flags = ''] = match.slice(1)
    if (!flags.split(',').every((flag) => plainFlags.has(flag))) {
      found.delete(names[at - 1] ?? '')
      current = undefined
      continue
    }
    const start = Number(physical) * block
    current.text += `${logical} ${physical} ${length} ${flags};`
    current.ranges.push({ start, end: start + Number(length) * block })
  }
  // Of a file without extents nothing is known: it may be a hole, or lie in its inode.
  for (const [name, layout] of found) if (layout.ranges.length === 0) found.delete(name)
  return found
}
