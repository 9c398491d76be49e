// What `git status --porcelain=v2 -z` prints, by line (git-status(1)).

/** Of each kind of line, how many fields stand before the path. */
const fieldsBefore: Record<string, number> = { '1': 8, '2': 9, u: 10, '?': 1 }

export interface ChangedPath {
  /** `u`: unmerged; `?`: not known to git; otherwise it differs from HEAD or the index. */
  kind: string
  path: string
}

/** Undefined for a header, and for what is no such line. */
export function parseStatusLine(line: string): ChangedPath | undefined {
  const [kind = '', blank] = line
  const fields = fieldsBefore[kind]
  if (fields === undefined || blank !== ' ') return undefined
  let at = 0
  for (let i = 0; i < fields; i++) {
    at = line.indexOf(' ', at) + 1
    if (at === 0) return undefined
  }
  return { kind, path: line.slice(at) }
}
