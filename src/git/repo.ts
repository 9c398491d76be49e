// A git repository seen from a project's folder: where its parts are, its settings, its revisions. git itself answers
// questions; simple-git, which this file owns, is for what changes a repository.
import { realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { hasErrorCode, printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { childEnvironment, type Environment } from '../host/env.ts'
import { ask, spawnInteractive, ToolError } from '../host/run.ts'
import { trueObjects } from './cat-file.ts'

export interface Repository {
  /** Where commands run: a folder in the working tree, or the bare repository itself. */
  cwd: string
  /** Top of the working tree; undefined in a bare repository. */
  worktree: string | undefined
  /** This worktree's own git folder. */
  gitDir: string
  /** The git folder all linked worktrees share: objects, refs, config. */
  commonDir: string
  objectFormat: string
  /** Path of `cwd` below the working tree's top, '' or ending in '/'. */
  prefix: string
}

/** What git complains of, in its own words, without the noise around them. */
export function said(error: ToolError): string {
  const lines = error.stderr.trim().split('\n')
  const line = lines.find((text) => /^(fatal|error):/.test(text)) ?? lines[0] ?? ''
  return printable(line.replace(/^(fatal|error): /, ''))
}

/** Runs a git command that only reads, and returns what it printed. */
export async function gitRead(cwd: string, args: readonly string[], env: Environment = {}): Promise<string> {
  return (await ask('git', args, { cwd, env: { ...env, ...trueObjects } })).stdout
}

/** The same, for a command that may have no answer: undefined when git ends with status 1. */
async function gitAsk(cwd: string, args: readonly string[]): Promise<string | undefined> {
  const { stdout, exitCode } = await ask('git', args, { cwd, env: trueObjects, ok: [0, 1] })
  return exitCode === 0 ? stdout.replace(/\n$/, '') : undefined
}

async function folderAt(path: string): Promise<string> {
  try {
    // The slash makes it fail for what is no folder.
    return await realpath(`${path}/`)
  } catch (error) {
    if (!hasErrorCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error
    throw new VlbError('VLB_USAGE', `cannot go to ${printable(path)}: ${(error as Error).message.split(',')[0]}`, {
      hint: 'give a folder that is there: -C DIR',
      data: { noFolder: true },
    })
  }
}

/** Finds the repository that `cwd` lies in. */
export async function openRepository(cwd: string): Promise<Repository> {
  const here = await folderAt(cwd)
  let answer: string
  try {
    const wanted = [
      '--is-inside-work-tree',
      '--absolute-git-dir',
      '--git-common-dir',
      '--show-object-format',
      '--show-prefix',
    ]
    answer = await gitRead(here, ['rev-parse', ...wanted])
  } catch (error) {
    throw error instanceof ToolError ? notReadable(error, here) : error
  }
  const [inside, gitDir = '', commonDir = '', objectFormat = 'sha1', prefix = ''] = answer.split('\n')
  const worktree = inside === 'true' ? here.slice(0, here.length - prefix.length + (prefix ? 1 : 0)) : undefined
  return {
    cwd: here,
    worktree: worktree === undefined ? undefined : worktree.replace(/(.)\/$/, '$1'),
    gitDir,
    commonDir: resolve(here, commonDir),
    objectFormat,
    prefix,
  }
}

function notReadable(error: ToolError, here: string): VlbError {
  if (/dubious ownership/.test(error.stderr)) {
    return new VlbError('VLB_GIT', `git refuses to work here: ${said(error)}`, {
      hint: `git config --global --add safe.directory ${here}`,
    })
  }
  const [, extensions] = /unknown repository extensions? found:([\s\S]*)/.exec(error.stderr) ?? []
  if (extensions !== undefined) {
    const names = printable(extensions.trim().replace(/\s+/g, ', '))
    return new VlbError('VLB_GIT', `this git is too old for the repository here: it does not know ${names}`, {
      hint: 'install a newer git (refstorage, for reftable, came with 2.45); see: git --version',
    })
  }
  if (!/not a git repository/.test(error.stderr)) {
    return new VlbError('VLB_GIT', `git cannot read the repository here: ${said(error)}`, {
      hint: 'see what git says: git status',
    })
  }
  return new VlbError('VLB_NOT_A_REPOSITORY', `not in a git repository: ${here}`, {
    hint: 'start a project with "git vlb init DIR", or go into one',
  })
}

/** Settings below `vlb.`, names in lower case without that part; the last value of each wins, as git reads them. */
export async function readSettings(cwd: string): Promise<Map<string, string>> {
  const answer = (await gitAsk(cwd, ['config', '--null', '--get-regexp', '^vlb\\.'])) ?? ''
  const entries = answer
    .split('\0')
    .filter(Boolean)
    .map((entry): [string, string] => {
      const end = entry.indexOf('\n')
      return end < 0 ? [entry.slice(4), 'true'] : [entry.slice(4, end), entry.slice(end + 1)]
    })
  return new Map(entries)
}

/** All values of one setting, in git's order; none if it is not set. */
export async function settingValues(repo: Repository, name: string): Promise<string[]> {
  const answer = await gitAsk(repo.cwd, ['config', '--null', '--get-all', name])
  return answer === undefined ? [] : answer.split('\0').slice(0, -1)
}

/** A setting that is a path, with `~` as git understands it (git-config(1), --type=path). */
export async function settingPath(repo: Repository, name: string): Promise<string | undefined> {
  return await gitAsk(repo.cwd, ['config', '--type=path', '--get', name])
}

/** A setting that is true or false; undefined if it is not set. */
export async function settingFlag(repo: Repository, name: string): Promise<boolean | undefined> {
  const answer = await gitAsk(repo.cwd, ['config', '--type=bool', '--get', name])
  return answer === undefined ? undefined : answer === 'true'
}

/** The branch that HEAD is on; undefined where it is detached. */
export async function currentBranch(repo: Repository): Promise<string | undefined> {
  return await gitAsk(repo.cwd, ['symbolic-ref', '--quiet', '--short', 'HEAD'])
}

export interface Revision {
  /** As the user named it. */
  name: string
  commit: string
  tree: TreeId
}

/** Resolves a revision to a commit and its root tree. */
export async function resolveRevision(repo: Repository, name: string): Promise<Revision> {
  const commit = await verify(repo, `${name}^{commit}`)
  const tree = commit && (await verify(repo, `${commit}^{tree}`))
  if (commit && tree) return { name, commit, tree: treeId(tree) }
  const empty = (await headCommit(repo)) === undefined
  throw new VlbError('VLB_REV', `no such revision: "${printable(name)}"`, {
    hint: empty
      ? 'this repository has no commits yet: git add . && git commit, or build the working tree'
      : 'see: git branch --all, git tag, git log --oneline',
  })
}

/** The object id that a revision expression names; undefined if it names none. */
async function verify(repo: Repository, expression: string): Promise<string | undefined> {
  try {
    // --end-of-options: a revision that starts with "-" is no option. git repeats that word in its answer.
    const answer = await gitAsk(repo.cwd, ['rev-parse', '--verify', '--quiet', '--end-of-options', expression])
    return answer?.split('\n').at(-1)
  } catch (error) {
    // An ambiguous or malformed expression ends with 128.
    if (error instanceof ToolError && error.exitCode === 128) return undefined
    throw error
  }
}

/** The commit that HEAD names; undefined in a repository without commits. */
export async function headCommit(repo: Repository): Promise<string | undefined> {
  return await verify(repo, 'HEAD^{commit}')
}

/** The path of a file in this worktree's git folder, as `git rev-parse --git-path` gives it. */
export async function gitPath(repo: Repository, name: string): Promise<string> {
  const known = gitPaths.get(repo) ?? new Map<string, string>()
  gitPaths.set(repo, known)
  const there = known.get(name)
  if (there !== undefined) return there
  const path = resolve(repo.cwd, (await gitRead(repo.cwd, ['rev-parse', '--git-path', name])).replace(/\n$/, ''))
  known.set(name, path)
  return path
}

/** They do not change while a command runs. */
const gitPaths = new WeakMap<Repository, Map<string, string>>()

/** Makes an empty repository. */
export async function createRepository(folder: string): Promise<void> {
  const { simpleGit } = await import('simple-git')
  const env = childEnvironment()
  // Otherwise it refuses the user's own GIT_CONFIG_GLOBAL and the like; what may be in there is our own short list.
  await simpleGit(folder, { allowEnvironment: Object.keys(env), unsafe: { allowUnsafeConfigPaths: true } })
    .env(env)
    .init()
}

/** Opens a file in the user's editor, as git chooses it (git-var(1), GIT_EDITOR), and waits until it is closed. */
export async function openEditor(repo: Repository, file: string): Promise<void> {
  const editor = (await gitRead(repo.cwd, ['var', 'GIT_EDITOR'])).trim()
  // The setting is a shell command by definition; the file's name is only ever an argument of it.
  await spawnInteractive('sh', ['-c', `${editor} "$@"`, 'sh', file])
}
