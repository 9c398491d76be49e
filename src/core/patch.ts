// Differences of two texts as a unified diff. The only file that knows the library for it, which is loaded when a
// difference is first asked for.

export interface Patch {
  /** The hunks, without a header; '' where there is nothing to show. */
  text: string
  added: number
  removed: number
  /** Why the text is not all of it. */
  cut?: string
}

/** Bytes of a side beyond which a file is not compared line by line. */
const sizeLimit = 512 * 1024
const lineLimit = 500
/** A longer line helps nobody to read. */
const widthLimit = 2000

/** `''` for a file that is not there. Control characters stay: who shows the text must see to them. */
export async function unifiedDiff(before: Buffer, after: Buffer): Promise<Patch> {
  const nothing = { text: '', added: 0, removed: 0 }
  if (isBinary(before) || isBinary(after))
    return { ...nothing, cut: `binary, ${before.length} → ${after.length} bytes` }
  if (Math.max(before.length, after.length) > sizeLimit)
    return { ...nothing, cut: `too large to show, ${before.length} → ${after.length} bytes` }
  const lines = await hunkLines(before.toString('utf8'), after.toString('utf8'), 2000)
  if (!lines) return { ...nothing, cut: `too different to show, ${before.length} → ${after.length} bytes` }
  const count = (sign: string) => lines.filter((line) => line[0] === sign).length
  const shown = lines
    .slice(0, lineLimit)
    .map((line) => (line.length > widthLimit ? `${line.slice(0, widthLimit)}…` : line))
  const left = lines.length - shown.length
  return {
    text: shown.map((line) => `${line}\n`).join(''),
    added: count('+'),
    removed: count('-'),
    ...(left > 0 ? { cut: `${left} more lines not shown` } : {}),
  }
}

/**
 * The hunks of a unified diff, each with its header before it, as git writes them. Undefined where finding them would take
 * longer than that, in milliseconds.
 */
export async function hunkLines(before: string, after: string, timeout: number): Promise<string[] | undefined> {
  const { structuredPatch } = await import('diff')
  const patch = structuredPatch('a', 'b', before, after, '', '', { context: 3, timeout })
  return patch?.hunks.flatMap(({ oldStart, oldLines, newStart, newLines, lines }) => [
    `@@ -${range(oldStart, oldLines)} +${range(newStart, newLines)} @@`,
    ...lines,
  ])
}

function range(start: number, lines: number): string {
  if (lines === 1) return `${start}`
  // Nothing is there: the line before it.
  return lines === 0 ? `${start - 1},0` : `${start},${lines}`
}

/** As git tells: a zero byte near the start. */
export function isBinary(content: Buffer): boolean {
  return content.subarray(0, 8000).includes(0)
}
