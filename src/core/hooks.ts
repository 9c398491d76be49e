// What is written into git's hooks, and how it is taken out again to the last byte. Pure: files as text, one character a
// byte (latin1), so that nothing of a foreign script is changed.
import { VlbError } from './errors.ts'

export const hookNames = ['post-checkout', 'post-merge', 'post-rewrite'] as const
export type HookName = (typeof hookNames)[number]

/** For people who look at a hook; what is old is found by comparing. */
const version = 1
const startMark = '# >>> git vlb hook'
const endMark = '# <<< git vlb hook <<<\n'
const block = /^# >>> git vlb hook ([^\n]*?) >>>[^\n]*\n[\s\S]*?^# <<< git vlb hook <<<\n/m

/** Where a hook lies that cannot take a block, below the folder of the hooks. */
export const keptFolder = 'git-vlb-kept'
/** Behind the name of a hook in another language: the script of ours that it starts. */
export const besideEnding = '.git-vlb'

export interface HookParts {
  /** Text of hooks/prebuild.sh. */
  script: string
  /** How git-vlb was started when the hook was written, for when it is not in PATH. */
  node: string
  main: string
  /** Folders with a vlb.yaml, relative to the top of the working tree; `.` for the top itself. */
  projects: readonly string[]
}

/** What the block was put into, to be undone with it. */
export type BlockFlag = 'new-file' | 'new-folder' | 'kept' | 'no-newline'

/** For sh: quoted so that it is one word, whatever is in it. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/** The lines for one hook. They read nothing, change nothing for what comes behind them, and never fail. */
export function hookBlock(hook: HookName, parts: HookParts, flags: readonly BlockFlag[]): string {
  const latin = (text: string) => Buffer.from(text).toString('latin1')
  const kept = `kept=\${0%/*}/${keptFolder}/${hook}\n[ ! -x "$kept" ] || exec "$kept" "$@"\nexit 0\n`
  return [
    `${startMark} ${[version, ...flags].join(' ')} >>> written by "git vlb hooks install"; "git vlb hooks uninstall" takes it away\n`,
    '(\n',
    `hook=${hook}\n`,
    `node=${shellQuoted(latin(parts.node))}\n`,
    `main=${shellQuoted(latin(parts.main))}\n`,
    `projects=${shellQuoted(latin(parts.projects.join('\n')))}\n`,
    latin(withoutComments(parts.script)),
    ') </dev/null || :\n',
    flags.includes('kept') ? kept : '',
    endMark,
  ].join('')
}

/** The block stands in other people's files: its comments stay in ours. */
function withoutComments(script: string): string {
  return script.replace(/^\s*#.*\n|^\n/gm, '')
}

export interface FoundBlock {
  flags: readonly BlockFlag[]
  text: string
  projects: string[]
}

/** The block in a hook; undefined if there is none. Throws for one without an end. */
export function findBlock(content: string, path: string): FoundBlock | undefined {
  const match = block.exec(content)
  if (!match) {
    if (!content.includes(`\n${startMark}`) && !content.startsWith(startMark)) return undefined
    throw new VlbError('VLB_HOOKS', `the lines of git vlb in ${path} have no end: somebody changed them`, {
      hint: `take out what is left of them in an editor, then run the command again`,
    })
  }
  const flags = (match[1] ?? '').split(' ').slice(1) as BlockFlag[]
  const quoted = /^projects='((?:[^']|'\\'')*)'$/m.exec(match[0])?.[1] ?? ''
  const projects = Buffer.from(quoted.replaceAll("'\\''", "'"), 'latin1').toString()
  return { flags, text: match[0], projects: projects.split('\n').filter(Boolean) }
}

/** The same but for the paths of the program, which depend on how it was started. */
export function sameBlock(one: string, other: string): boolean {
  const bare = (text: string) => text.replace(/^(?:node|main)='(?:[^']|'\\'')*'$/gm, '')
  return bare(one) === bare(other)
}

/** Without the block, as it was before; undefined if the whole file was ours. */
export function withoutBlock(content: string, found: FoundBlock): string | undefined {
  const rest = content.replace(found.text, () => '')
  if (found.flags.includes('no-newline') && rest.endsWith('\n')) return rest.slice(0, -1)
  const ours = found.flags.includes('new-file') || found.flags.includes('kept')
  return ours && rest === firstLine ? undefined : rest
}

export const firstLine = '#!/bin/sh\n'

/** Puts the block behind the first line of a shell script: at its end, an `exit` would keep it from running. */
export function withBlock(content: string, makeBlock: (flags: readonly BlockFlag[]) => string): string {
  if (!content.startsWith('#!')) return makeBlock([]) + content
  const end = content.indexOf('\n') + 1
  if (end === 0) return `${content}\n${makeBlock(['no-newline'])}`
  return content.slice(0, end) + makeBlock([]) + content.slice(end)
}

export type HookKind =
  /** Takes the block. */
  | 'shell'
  /** A script in another language: only its first line is changed. */
  | 'script'
  /** A program, or a script that cannot be told from one: it is kept aside, and started from there. */
  | 'other'

/** What git would start, by the first bytes of the file. */
export function kindOf(content: string): HookKind {
  // Without a first line that says more, git gives it to sh.
  if (!content.startsWith('#!')) return content.includes('\0') ? 'other' : 'shell'
  const line = content.split('\n', 1)[0] ?? ''
  if (/^#!\s*(?:\/\S*\/env\s+)?(?:\/\S*\/)?(?:sh|bash|dash|ash|ksh|mksh)(?:[ \t]+-[A-Za-z]+)*[ \t]*$/.test(line))
    return 'shell'
  return wrappedLine(line) ? 'script' : 'other'
}

// The kernel hands on what stands behind the interpreter as one argument, and cuts the line at 255 bytes (execve(2)).
const wrapStart = `#!/usr/bin/env -S sh -c '[ ! -x "$0${besideEnding}" ] || "$0${besideEnding}" "$@"; exec`
const wrapEnd = `"$0" "$@"'`
const wrapped = new RegExp(`^${escaped(wrapStart)} (\\S+)(?: "([^"]+)")? ${escaped(wrapEnd)}$`)

/** A first line that starts our script, then the one the line named; undefined where that cannot be undone exactly. */
export function wrappedLine(line: string): string | undefined {
  const match = /^#!(\/[\w./+-]+)(?: ([\w./+=:,@-][\w ./+=:,@-]*))?$/.exec(line)
  if (!match || wrapped.test(line)) return undefined
  const made = [wrapStart, match[1], ...(match[2] === undefined ? [] : [`"${match[2]}"`]), wrapEnd].join(' ')
  return made.length < 250 ? made : undefined
}

/** The line that was there before; undefined if this is none of ours. */
export function unwrappedLine(line: string): string | undefined {
  const match = wrapped.exec(line)
  return match ? `#!${match[1]}${match[2] === undefined ? '' : ` ${match[2]}`}` : undefined
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

/** The same content with another first line. */
export function replaceFirstLine(content: string, line: string): string {
  const end = content.indexOf('\n')
  return line + (end < 0 ? '' : content.slice(end))
}
