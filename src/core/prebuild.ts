// The prebuild's state as it is kept in a file, and the branches it is for.

/** What a prebuild leaves for others to read: `git vlb status`, a build, a newer prebuild. */
export interface PrebuildState {
  pid: number
  /** Start of the process, which tells it from a later one with the same id. */
  start: string
  state: 'running' | 'done' | 'stopped' | 'failed'
  /** The layer in work, or the one that failed; null otherwise. */
  layer: string | null
  /** Its key. */
  key: string | null
  /** Keys of all it wants, from the bottom up. */
  keys: string[]
  /** Names of the layers it has built. */
  built: string[]
  /** Why it stopped or failed. */
  reason: string
  /** ISO 8601. */
  startedAt: string
  endedAt: string | null
}

/** Undefined for what is no such state: it was written by us, but anybody may have changed it. */
export function parsePrebuildState(text: string): PrebuildState | undefined {
  try {
    const value = JSON.parse(text) as PrebuildState
    const lists = [value.keys, value.built]
    const texts = [value.start, value.state, value.reason, value.startedAt]
    const valid =
      Number.isInteger(value.pid) &&
      value.pid > 0 &&
      lists.every((list) => Array.isArray(list) && list.every((one) => typeof one === 'string')) &&
      texts.every((one) => typeof one === 'string') &&
      [value.layer, value.key, value.endedAt].every((one) => one === null || typeof one === 'string')
    return valid ? value : undefined
  } catch {
    return undefined
  }
}

const yes = ['true', 'yes', 'on', '1', '']
const no = ['false', 'no', 'off', '0']

/** Whether `vlb.prebuild` turns it off for all branches. */
export function isOff(values: readonly string[]): boolean {
  return no.includes(values.at(-1)?.trim().toLowerCase() ?? 'true')
}

/**
 * Whether `vlb.prebuild` allows it for a branch; undefined stands for a HEAD that is on none. The values are those of
 * git's configuration, in their order: lists of patterns, in which `*` stands for anything and `?` for one character; one
 * that is true or false drops those before it.
 */
export function allowsPrebuild(values: readonly string[], branch: string | undefined): boolean {
  let allowed = true
  let patterns: string[] = []
  for (const value of values) {
    const word = value.trim().toLowerCase()
    if (yes.includes(word) || no.includes(word)) [allowed, patterns] = [yes.includes(word), []]
    else patterns.push(...value.trim().split(/\s+/))
  }
  if (patterns.length === 0) return allowed
  return branch !== undefined && patterns.some((pattern) => matches(pattern, branch))
}

function matches(pattern: string, branch: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`).test(branch)
}
