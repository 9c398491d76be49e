// Changed files of an image as JSON has them: names that are text, or that and their bytes.
import type { FileChange, FileState } from './file-diff.ts'
import { decoded, quotedName } from './file-names.ts'

/** As docs/git-vlb-diff.1.md lists it. Fields may be added, never renamed. */
export interface ListedFile extends Omit<FileChange, 'before' | 'after'> {
  /** In base64, where `path` is not all that the name is. */
  pathBytes?: string
  before: Partial<FileState> | null
  after: Partial<FileState> | null
}

export function listedFiles(changes: readonly FileChange[]): ListedFile[] {
  return changes.map(({ path, from, before, after, ...rest }) => ({
    ...named('path', path),
    ...(from === undefined ? {} : named('from', from)),
    ...rest,
    before: stateOf(before),
    after: stateOf(after),
  }))
}

function stateOf(state: FileState | null): Partial<FileState> | null {
  if (!state) return null
  const { target, link, xattrs, ...rest } = state
  return {
    ...rest,
    ...(target === undefined ? {} : named('target', target)),
    ...(link === undefined ? {} : named('link', link)),
    ...(xattrs === undefined
      ? {}
      : { xattrs: Object.fromEntries(Object.entries(xattrs).map(([name, value]) => [quotedName(name), value])) }),
  }
}

function named<Field extends string>(field: Field, bytes: string): Record<Field, string> {
  const text = decoded(bytes)
  if (text !== undefined) return { [field]: text } as Record<Field, string>
  const raw = Buffer.from(bytes, 'latin1')
  return { [field]: raw.toString('utf8'), [`${field}Bytes`]: raw.toString('base64') } as Record<Field, string>
}
