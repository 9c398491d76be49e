// How much memory a script may take: `vlb.memory`.
import { printable, VlbError } from './errors.ts'
import { parseSize } from './units.ts'

/** undefined: no limit. */
export type MemoryLimit =
  | { bytes: number /** Where it cannot be enforced, nothing is built. */; strict: boolean }
  | undefined

/** Of the host's memory: enough for any build, and the host goes on working. */
const usual = 0.8

/** The value of `vlb.memory`; `total`: the host's memory in bytes. Throws VLB_USAGE. */
export function parseMemory(text: string | undefined, total: number): MemoryLimit {
  if (text === undefined) return { bytes: wholePages(total * usual), strict: false }
  if (text === 'none') return undefined
  const percent = /^(\d{1,2}|100)%$/.exec(text)?.[1]
  const bytes = percent === undefined ? parseSize(text) : (total * Number(percent)) / 100
  // A shell and a package manager fit into that.
  if (bytes !== undefined && bytes >= 2 ** 24) return { bytes: wholePages(bytes), strict: true }
  throw new VlbError(
    'VLB_USAGE',
    `vlb.memory takes a size of at least 16M, a part of the host's memory, or none, not "${printable(text, 80)}"`,
    { hint: 'git config vlb.memory 4G, or 50%; git config --unset vlb.memory for the default' },
  )
}

function wholePages(bytes: number): number {
  return Math.floor(bytes / 4096) * 4096
}

/** As the runner reads it. */
export function memoryArgument(limit: MemoryLimit): string {
  return limit === undefined ? 'none' : `${limit.strict ? '' : '~'}${limit.bytes}`
}
