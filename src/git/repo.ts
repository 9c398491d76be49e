// A git repository seen from a project's folder: where its parts are, its settings, its revisions. Owner of simple-git.
import { realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { GitError, type SimpleGit, simpleGit } from 'simple-git'
import { printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { childEnvironment, type Environment } from '../host/env.ts'

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

function git(cwd: string, env: Environment = {}): SimpleGit {
  return simpleGit({ baseDir: cwd, trimmed: true }).env(childEnvironment(env))
}

/** git's own words, without the noise around them. */
function said(error: unknown): string {
  const lines = (error instanceof Error ? error.message : String(error)).trim().split('\n')
  return printable((lines.find((line) => /^(fatal|error):/.test(line)) ?? lines[0] ?? '').replace(/^(fatal|error): /, ''))
}

/** Finds the repository that `cwd` lies in. */
export async function openRepository(cwd: string): Promise<Repository> {
  const here = await realpath(cwd)
  let answer: string
  try {
    answer = await git(here).raw('rev-parse', '--is-bare-repository', '--is-inside-work-tree', '--absolute-git-dir', '--git-common-dir', '--show-object-format', '--show-prefix')
  } catch (error) {
    if (!(error instanceof GitError)) throw error
    if (/dubious ownership/.test(error.message)) {
      throw new VlbError('VLB_GIT', `git refuses to work here: ${said(error)}`, {
        hint: `git config --global --add safe.directory ${here}`,
      })
    }
    if (!/not a git repository/.test(error.message)) throw new VlbError('VLB_GIT', `git cannot read the repository here: ${said(error)}`)
    throw new VlbError('VLB_NOT_A_REPOSITORY', `not in a git repository: ${here}`, {
      hint: 'start one with "git vlb init", or go into a project',
    })
  }
  const [, inside, gitDir = '', commonDir = '', objectFormat = 'sha1', prefix = ''] = answer.split('\n')
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

/** Settings below `vlb.`, names in lower case without that part; the last value of each wins, as git reads them. */
export async function readSettings(repo: Repository): Promise<Map<string, string>> {
  let answer = ''
  try {
    answer = await git(repo.cwd).raw('config', '--null', '--get-regexp', '^vlb\\.')
  } catch (error) {
    // Status 1: no such setting (git-config(1)).
    if (!(error instanceof GitError) || error.message.trim() !== '') throw new VlbError('VLB_GIT', `git config: ${said(error)}`)
  }
  const entries = answer.split('\0').filter(Boolean).map((entry): [string, string] => {
    const end = entry.indexOf('\n')
    return end < 0 ? [entry.trim().slice(4), 'true'] : [entry.slice(0, end).trim().slice(4), entry.slice(end + 1)]
  })
  return new Map(entries)
}

export interface Revision {
  /** As the user named it. */
  name: string
  commit: string
  tree: TreeId
}

/** Resolves a revision to a commit and its root tree. */
export async function resolveRevision(repo: Repository, name: string): Promise<Revision> {
  try {
    const answer = await git(repo.cwd).raw('rev-parse', '--verify', '--quiet', '--end-of-options', `${name}^{commit}`, )
    const commit = answer.trim().split('\n').at(-1) ?? ''
    const tree = await git(repo.cwd).raw('rev-parse', '--verify', '--quiet', '--end-of-options', `${commit}^{tree}`)
    return { name, commit, tree: treeId(tree.trim().split('\n').at(-1) ?? '') }
  } catch (error) {
    if (!(error instanceof GitError)) throw error
    const empty = (await headCommit(repo)) === undefined
    throw new VlbError('VLB_REV', `no such revision: "${printable(name)}"`, {
      hint: empty ? 'this repository has no commits yet: git add . && git commit, or build the working tree' : 'see: git branch --all, git tag, git log --oneline',
    })
  }
}

/** The commit that HEAD names; undefined in a repository without commits. */
export async function headCommit(repo: Repository): Promise<string | undefined> {
  const answer = await git(repo.cwd).raw('rev-parse', '--verify', '--quiet', 'HEAD^{commit}').catch(() => '')
  return answer.trim() || undefined
}

/** What git would call the commit: a branch or tag name, or the short id. */
export async function describeHead(repo: Repository): Promise<string> {
  const branch = await git(repo.cwd).raw('symbolic-ref', '--quiet', '--short', 'HEAD').catch(() => '')
  return branch.trim() || (await headCommit(repo))?.slice(0, 12) || 'HEAD'
}

/** Makes an empty repository. */
export async function createRepository(folder: string): Promise<void> {
  await git(folder).init()
}

/** The path of a file in this worktree's git folder, as `git rev-parse --git-path` gives it. */
export async function gitPath(repo: Repository, name: string): Promise<string> {
  return resolve(repo.cwd, (await git(repo.cwd).raw('rev-parse', '--git-path', name)).trim())
}

/** Runs a read-only git command in the project's folder and returns what it printed. */
export async function gitRead(cwd: string, args: string[], env: Environment = {}): Promise<string> {
  return await git(cwd, env).raw(...args)
}

