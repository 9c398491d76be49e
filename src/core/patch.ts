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
  const { structuredPatch } = await import('diff')
  const patch = structuredPatch('a', 'b', before.toString('utf8'), after.toString('utf8'), '', '', {
    context: 3,
    timeout: 2000,
  })
  if (!patch) return { ...nothing, cut: `too different to show, ${before.length} → ${after.length} bytes` }
  const lines = patch.hunks.flatMap((hunk) => [
    `@@ -${hunk.oldStart},${hunk.oldLines} +${hunk.newStart},${hunk.newLines} @@`,
    ...hunk.lines,
  ])
  const count = (sign: string) => patch.hunks.flatMap((hunk) => hunk.lines).filter((line) => line[0] === sign).length
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

/** As git tells: a zero byte near the start. */
export function isBinary(content: Buffer): boolean {
  return content.subarray(0, 8000).includes(0)
}
