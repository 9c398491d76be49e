// Compares two trees of files: pure. What is equal in content is told by digests, or by a proof that nothing was written
// to where a file's content lies; never by size or time alone.
import type { Entry, FileType, Tree } from './file-tree.ts'

export type Aspect = 'type' | 'mode' | 'owner' | 'size' | 'content' | 'target' | 'device' | 'xattr' | 'link'

/** One side of a change. Fields of the JSON of `git vlb diff`: add, never rename. */
export interface FileState {
  type: FileType
  /** Four octal digits. */
  mode: string
  uid: number
  gid: number
  /** Bytes of a regular file. */
  size?: number
  /** Of a regular file, where it was needed. */
  sha256?: string
  /** Of a symlink. */
  target?: string
  /** Major and minor number of a device. */
  device?: string
  /** Another name of the same file: the first of them. */
  link?: string
  /** Name to value in hex; ACLs and capabilities are among them. */
  xattrs?: Record<string, string>
}

export interface FileChange {
  /** Absolute, in the image; bytes as latin1. */
  path: string
  change: 'added' | 'removed' | 'changed' | 'renamed'
  /** Where it was, if it was renamed. */
  from?: string
  /** What differs. */
  what: Aspect[]
  before: FileState | null
  after: FileState | null
}

/** The content of both sides line by line: hunks with their headers, as git writes them. */
export type FilePatch = { kind: 'text'; lines: string[] } | { kind: 'binary' } | { kind: 'large' }

/** Regular files that could differ in nothing but their content. */
export function sameSizePaths(a: Tree, b: Tree): string[] {
  const paths: string[] = []
  for (const [path, before] of a) {
    const after = b.get(path)
    if (before.type === 'file' && before.size > 0 && after?.type === 'file' && after.size === before.size)
      paths.push(path)
  }
  return paths
}

/** Regular files on one side only, of which one on the other side may be a renamed copy. */
export function renameCandidates(a: Tree, b: Tree): { a: string[]; b: string[] } {
  const only = (one: Tree, other: Tree) => {
    const found: [string, Entry][] = []
    for (const [path, entry] of one)
      if (entry.type === 'file' && entry.size > 0 && !other.has(path)) found.push([path, entry])
    return found
  }
  const [removed, added] = [only(a, b), only(b, a)]
  const sizes = (list: [string, Entry][]) => new Set(list.map(([, entry]) => entry.size))
  const [removedSizes, addedSizes] = [sizes(removed), sizes(added)]
  const paths = (list: [string, Entry][], wanted: Set<number>) =>
    list.filter(([, entry]) => wanted.has(entry.size)).map(([path]) => path)
  return { a: paths(removed, addedSizes), b: paths(added, removedSizes) }
}

export interface Comparison {
  a: Tree
  b: Tree
  /** Paths of `sameSizePaths` whose content is known to be the same although it has no digest. */
  same: ReadonlySet<string>
  /** What all paths are below, '' for the root. */
  prefix: string
}

/** All changes, in byte order of their paths. */
export function compareTrees(comparison: Comparison): FileChange[] {
  const { a, b, same, prefix } = comparison
  const first = { a: firstNames(a), b: firstNames(b) }
  const common = commonLinks(a, b)
  const changes: FileChange[] = []
  const [removed, added]: [string[], string[]] = [[], []]
  const place = (path: string) => (path === '' ? prefix || '/' : `${prefix}/${path}`)
  const state = (side: 'a' | 'b', path: string): FileState | null => {
    const entry = (side === 'a' ? a : b).get(path)
    const name = entry && entry.links > 1 ? first[side].get(entry.id) : undefined
    return entry ? stateOf(entry, name === undefined || name === path ? undefined : place(name)) : null
  }
  for (const [path, before] of a) {
    const after = b.get(path)
    if (!after) removed.push(path)
    else {
      const what = differences(before, after, same.has(path))
      if (common.differ(path)) what.push('link')
      if (what.length > 0)
        changes.push({ path: place(path), change: 'changed', what, before: state('a', path), after: state('b', path) })
    }
  }
  for (const path of b.keys()) if (!a.has(path)) added.push(path)
  const from = findRenames(a, b, removed, added)
  const gone = new Set(from.values())
  for (const path of removed.filter((one) => !gone.has(one)))
    changes.push({ path: place(path), change: 'removed', what: [], before: state('a', path), after: null })
  for (const path of added) {
    const old = from.get(path)
    const [before, after] = [old === undefined ? undefined : a.get(old), b.get(path)]
    if (old === undefined || !before || !after)
      changes.push({ path: place(path), change: 'added', what: [], before: null, after: state('b', path) })
    else {
      const what = differences(before, after, true)
      const both = { before: state('a', old), after: state('b', path) }
      changes.push({ path: place(path), change: 'renamed', from: place(old), what, ...both })
    }
  }
  return changes.sort((x, y) => (x.path < y.path ? -1 : Number(x.path > y.path)))
}

function stateOf(entry: Entry, link: string | undefined): FileState {
  const { type, mode, uid, gid, size, sha256, target, device, xattrs } = entry
  return {
    ...{ type, mode, uid, gid },
    ...(type === 'file' ? { size } : {}),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(type === 'symlink' ? { target } : {}),
    ...(device === undefined ? {} : { device }),
    ...(link === undefined ? {} : { link }),
    ...(xattrs === undefined ? {} : { xattrs }),
  }
}

/** `same`: the content is known to be. */
export function differences(a: Entry, b: Entry, same: boolean): Aspect[] {
  const what: Aspect[] = []
  if (a.type !== b.type) what.push('type')
  // A symlink's mode is the same everywhere, and means nothing.
  if (a.mode !== b.mode && a.type === b.type && a.type !== 'symlink') what.push('mode')
  if (a.uid !== b.uid || a.gid !== b.gid) what.push('owner')
  if (a.type === b.type) {
    if (a.type === 'file' && a.size !== b.size) what.push('size', 'content')
    else if (a.type === 'file' && !same && (a.sha256 === undefined || a.sha256 !== b.sha256)) what.push('content')
    if (a.target !== b.target) what.push('target')
    if (a.device !== b.device) what.push('device')
  }
  const attributes = a.xattrs !== undefined || b.xattrs !== undefined
  if (attributes && JSON.stringify(a.xattrs ?? {}) !== JSON.stringify(b.xattrs ?? {})) what.push('xattr')
  return what
}

/** By file of several names: the first of them, of those that are in `other`, too, if that is given. */
function firstNames(tree: Tree, other?: Tree): Map<string, string> {
  const first = new Map<string, string>()
  for (const [path, entry] of tree) {
    if (entry.links <= 1 || other?.has(path) === false) continue
    const known = first.get(entry.id)
    if (known === undefined || path < known) first.set(entry.id, path)
  }
  return first
}

/** Which names are names of one file, among those that are on both sides: one more name elsewhere changes none of them. */
function commonLinks(a: Tree, b: Tree): { differ: (path: string) => boolean } {
  const [inA, inB] = [firstNames(a, b), firstNames(b, a)]
  const name = (tree: Tree, first: Map<string, string>, path: string) => {
    const entry = tree.get(path)
    return entry && entry.links > 1 ? (first.get(entry.id) ?? path) : path
  }
  return { differ: (path) => name(a, inA, path) !== name(b, inB, path) }
}

/** By the new path, the old one of the same content; one of the same base name first. */
function findRenames(a: Tree, b: Tree, removed: string[], added: string[]): Map<string, string> {
  const byDigest = new Map<string, string[]>()
  for (const path of removed) {
    const { type, size = 0, sha256 } = a.get(path) ?? {}
    if (type !== 'file' || size === 0 || sha256 === undefined) continue
    const same = byDigest.get(sha256)
    if (same) same.push(path)
    else byDigest.set(sha256, [path])
  }
  const renames = new Map<string, string>()
  const base = (path: string) => path.slice(path.lastIndexOf('/') + 1)
  for (const path of added) {
    const { type, sha256 = '' } = b.get(path) ?? {}
    const olds = type === 'file' ? byDigest.get(sha256) : undefined
    if (!olds || olds.length === 0) continue
    const at = Math.max(
      0,
      olds.findIndex((old) => base(old) === base(path)),
    )
    renames.set(path, olds.splice(at, 1)[0] ?? '')
  }
  return renames
}
