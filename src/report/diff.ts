// What differs between the files of two disks, as text in git's forms and as JSON.
import type { FileChange, FilePatch, FileState } from '../core/file-diff.ts'
import { type ListedFile, listedFiles } from '../core/file-list.ts'
import { decoded, quotedName } from '../core/file-names.ts'
import type { DiffResult } from '../core/results.ts'
import { formatBytes } from '../core/units.ts'
import type { Style } from './style.ts'

export interface DiffTextOptions {
  style: Style
  /** It goes to a terminal, which must not obey what files hold. */
  terminal: boolean
}

/** In pieces, which a pager may stop to take. */
export function* diffText(data: DiffResult, options: DiffTextOptions): Generator<string> {
  const { changes, form, patches } = data
  if (form === 'patch') for (const change of changes) yield patchText(change, patches.get(change.path), options)
  else if (form === 'name-status') for (const change of changes) yield `${nameStatus(change)}\n`
  else if (form === 'list') for (const change of changes) yield `${listLine(change, options.style)}\n`
  else yield* statText(changes, options.style)
}

const looks = { A: 'green', D: 'red', M: 'yellow', T: 'magenta', R: 'cyan' } as const

function letter({ change, what }: FileChange): keyof typeof looks {
  if (change === 'changed') return what.includes('type') ? 'T' : 'M'
  return ({ added: 'A', removed: 'D', renamed: 'R' } as const)[change]
}

function nameStatus(change: FileChange): string {
  const kind = letter(change)
  return [kind === 'R' ? 'R100' : kind, ...(change.from ? [change.from] : []), change.path]
    .map((field) => quotedName(field))
    .join('\t')
}

function listLine(change: FileChange, style: Style): string {
  const kind = letter(change)
  const name = `${change.from ? `${quotedName(change.from)} → ` : ''}${quotedName(change.path)}`
  const details = change.before && change.after ? differing(change, change.before, change.after) : alone(change)
  return `${style(looks[kind], `${kind}  ${name}`)}${details ? style('dim', `  ${details}`) : ''}`
}

function alone({ before, after }: FileChange): string {
  const state = after ?? before
  if (!state) return ''
  const parts = [state.type === 'file' ? '' : state.type, state.type === 'symlink' ? arrow(state) : state.mode]
  if (state.size !== undefined) parts.push(formatBytes(state.size))
  if (state.device) parts.push(state.device)
  if (state.uid !== 0 || state.gid !== 0) parts.push(`owner ${state.uid}:${state.gid}`)
  if (state.link) parts.push(`link to ${quotedName(state.link)}`)
  parts.push(...Object.keys(state.xattrs ?? {}).map(quotedName))
  return parts.filter(Boolean).join(', ')
}

function arrow(state: FileState): string {
  return `→ ${quotedName(state.target ?? '')}`
}

function differing({ what }: FileChange, before: FileState, after: FileState): string {
  const from = (one: string, other: string) => `${one} → ${other}`
  return what
    .flatMap((aspect) => {
      if (aspect === 'type') return from(before.type, after.type)
      if (aspect === 'mode') return `mode ${from(before.mode, after.mode)}`
      if (aspect === 'owner') return `owner ${from(`${before.uid}:${before.gid}`, `${after.uid}:${after.gid}`)}`
      if (aspect === 'size') return from(formatBytes(before.size ?? 0), formatBytes(after.size ?? 0))
      if (aspect === 'content') return what.includes('size') ? [] : 'content'
      if (aspect === 'target') return from(quotedName(before.target ?? ''), quotedName(after.target ?? ''))
      if (aspect === 'device') return `device ${from(before.device ?? '', after.device ?? '')}`
      if (aspect === 'link') return after.link ? `now a link to ${quotedName(after.link)}` : 'no link any more'
      return changedAttributes(before, after).map(([name]) => quotedName(name))
    })
    .join(', ')
}

/** Name, value before, value after. */
function changedAttributes(
  before: FileState,
  after: FileState,
): [name: string, old: string | undefined, now: string | undefined][] {
  const old = new Map(Object.entries(before.xattrs ?? {}))
  const now = new Map(Object.entries(after.xattrs ?? {}))
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((name) => old.get(name) !== now.get(name))
    .map((name) => [name, old.get(name), now.get(name)])
}

function* statText(changes: readonly FileChange[], style: Style): Generator<string> {
  if (changes.length === 0) return
  const names = changes.map(({ path, from }) =>
    from ? `${quotedName(from)} => ${quotedName(path)}` : quotedName(path),
  )
  const width = Math.min(60, Math.max(...names.map((name) => name.length)))
  let bytes = 0
  for (const [i, change] of changes.entries()) {
    const [old, now] = [change.before?.size ?? 0, change.after?.size ?? 0]
    bytes += now - old
    const isFile = change.before?.type === 'file' || change.after?.type === 'file'
    const text =
      isFile && (old !== now || change.what.includes('content'))
        ? `${style('red', String(old))} -> ${style('green', String(now))} bytes`
        : change.what.join(', ') || (change.after ?? change.before)?.type
    yield ` ${(names[i] ?? '').padEnd(width)} | ${text}\n`
  }
  const count = (kind: string) => changes.filter((one) => letter(one) === kind).length
  const parts = [
    [count('A'), 'added'],
    [count('D'), 'removed'],
    [count('M') + count('T'), 'changed'],
    [count('R'), 'renamed'],
  ]
  const counts = parts.filter(([n]) => n !== 0).map(([n, word]) => `${n} ${word}`)
  const total = `${bytes < 0 ? '-' : '+'}${formatBytes(Math.abs(bytes))}`
  yield ` ${changes.length} ${changes.length === 1 ? 'file' : 'files'}: ${counts.join(', ')}; ${total}\n`
}

const gitTypes: Record<FileState['type'], string> = {
  file: '10',
  directory: '04',
  symlink: '12',
  fifo: '01',
  socket: '14',
  char: '02',
  block: '06',
}

function gitMode({ type, mode }: FileState): string {
  return `${gitTypes[type]}${type === 'symlink' ? '0000' : mode}`
}

function patchText(change: FileChange, patch: FilePatch | undefined, { style, terminal }: DiffTextOptions): string {
  const { path, from = path, before, after } = change
  const [old, now] = [quotedName(`a${from}`), quotedName(`b${path}`)]
  const head = [`diff --git ${old} ${now}`]
  if (!before && after) head.push(`new file mode ${gitMode(after)}`)
  else if (before && !after) head.push(`deleted file mode ${gitMode(before)}`)
  else if (before && after) head.push(...headOf(change, before, after))
  const body: string[] = []
  const names = [`--- ${before ? old : '/dev/null'}`, `+++ ${after ? now : '/dev/null'}`]
  const targets = before?.target !== undefined || after?.target !== undefined
  if (targets && before?.target !== after?.target) {
    head.push(...names)
    body.push(style('cyan', '@@ -1 +1 @@'))
    for (const [sign, target] of [
      ['-', before?.target],
      ['+', after?.target],
    ] as const)
      if (target !== undefined) body.push(coloured(`${sign}${shownLine(decoded(target) ?? target, true)}`, style))
    body.push('\\ No newline at end of file')
  }
  if (patch?.kind === 'text' && patch.lines.length > 0) {
    head.push(...names)
    body.push(...patch.lines.map((line) => coloured(shownLine(line, terminal), style)))
  } else if (patch && patch.kind !== 'text') {
    const why = patch.kind === 'binary' ? 'Binary files' : 'Files too large to compare line by line'
    body.push(`${why} ${before ? old : '/dev/null'} and ${after ? now : '/dev/null'} differ`)
  }
  return [...head.map((line) => style('bold', line)), ...body].map((line) => `${line}\n`).join('')
}

function headOf({ what, from, path }: FileChange, before: FileState, after: FileState): string[] {
  const lines: string[] = []
  const both = (name: string, old: string, now: string) => lines.push(`old ${name} ${old}`, `new ${name} ${now}`)
  if (what.includes('mode') || what.includes('type')) both('mode', gitMode(before), gitMode(after))
  if (from) lines.push('similarity index 100%', `rename from ${quotedName(from)}`, `rename to ${quotedName(path)}`)
  if (what.includes('owner')) both('owner', `${before.uid}:${before.gid}`, `${after.uid}:${after.gid}`)
  if (what.includes('device')) both('device', before.device ?? '', after.device ?? '')
  if (what.includes('link')) both('link', quotedName(before.link ?? ''), quotedName(after.link ?? ''))
  for (const [name, old, now] of changedAttributes(before, after)) {
    if (old !== undefined) lines.push(`old xattr ${quotedName(name)}=0x${old}`)
    if (now !== undefined) lines.push(`new xattr ${quotedName(name)}=0x${now}`)
  }
  return lines
}

function coloured(line: string, style: Style): string {
  if (line.startsWith('@@')) return style('cyan', line)
  if (line.startsWith('+')) return style('green', line)
  return line.startsWith('-') ? style('red', line) : line
}

function shownLine(line: string, terminal: boolean): string {
  return terminal ? line.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => (c === '\t' ? c : `^${caret(c)}`)) : line
}

/** As less(1) shows it: escape is ^[. */
function caret(char: string): string {
  const code = char.charCodeAt(0)
  return code < 32 || code === 127 ? String.fromCharCode(code ^ 64) : '?'
}

/** For `--json`: names as text; of one that is no UTF-8, the bytes besides. */
export function diffJson({ changes }: DiffResult): ListedFile[] {
  return listedFiles(changes)
}
