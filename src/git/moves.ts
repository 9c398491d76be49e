// Folders moved in a commit that is made beside the working tree: the state of the repository that allows it, the tree and
// the index it gives, the commit itself. Bringing the working tree along is the work of switch.ts.
import { readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import type { LayerCommit, Move } from '../core/rollup.ts'
import { type Environment, identityEnvironment } from '../host/env.ts'
import { ask, run, spawn, ToolError } from '../host/run.ts'
import { submodule } from './materialise.ts'
import { gitPath, gitRead, type Repository, said } from './repo.ts'
import { parseStatusLine } from './status-lines.ts'
import { temporaryIndex } from './worktree.ts'

const unfinished: readonly [file: string, what: string, hint: string][] = [
  ['rebase-merge', 'a rebase', 'git rebase --continue, or git rebase --abort'],
  ['rebase-apply', 'a rebase or git am', 'git rebase --continue or --abort; git am --continue or --abort'],
  ['MERGE_HEAD', 'a merge', 'git commit, or git merge --abort'],
  ['CHERRY_PICK_HEAD', 'a cherry-pick', 'git cherry-pick --continue, or git cherry-pick --abort'],
  ['REVERT_HEAD', 'a revert', 'git revert --continue, or git revert --abort'],
  ['sequencer', 'a cherry-pick or revert', 'git cherry-pick --continue or --abort; git revert --continue or --abort'],
  ['BISECT_LOG', 'a bisect', 'git bisect reset'],
]

/** Refuses while git is in the middle of something, or does not have all files in the working tree. */
export async function checkIdle(repo: Repository): Promise<void> {
  const names = await readdir(repo.gitDir)
  for (const [file, what, hint] of unfinished) {
    // Where refs lie in a reftable, git knows of such a head and the folder does not.
    const there =
      names.includes(file) || (names.includes('reftable') && file.endsWith('_HEAD') && (await isRef(repo, file)))
    if (there) throw new VlbError('VLB_BUSY', `${what} is not finished here`, { hint })
  }
  // Better now than after all has been built.
  if (names.includes('index.lock')) throw busy(join(repo.gitDir, 'index.lock'))
  if (await configured(repo, 'core.sparseCheckout')) {
    throw new VlbError(
      'VLB_BUSY',
      'this working tree is a sparse checkout: not all files of the layers need be there',
      {
        hint: 'git sparse-checkout disable, or use another worktree: git worktree add DIR',
      },
    )
  }
}

export function busy(lock: string): VlbError {
  return new VlbError('VLB_BUSY', 'another git or git vlb command is at work in this working tree', {
    hint: `nothing was changed; run the command again; if there is no such command any more: rm ${printable(lock)}`,
  })
}

async function isRef(repo: Repository, name: string): Promise<boolean> {
  const { exitCode } = await ask('git', ['rev-parse', '--verify', '--quiet', name], { cwd: repo.cwd, ok: [0, 1, 128] })
  return exitCode === 0
}

async function configured(repo: Repository, name: string): Promise<boolean> {
  const args = ['config', '--type=bool', '--get', name]
  const { stdout } = await ask('git', args, { cwd: repo.cwd, ok: [0, 1] })
  return stdout.trim() === 'true'
}

/** Paths that differ from HEAD in index or working tree, and files git does not know in these folders; from the top. */
export async function changedPaths(repo: Repository, folders: readonly string[]): Promise<string[]> {
  const args = ['--literal-pathspecs', '-c', 'core.fsmonitor=false', 'status', '--porcelain=v2', '-z', '--no-renames']
  const cwd = repo.worktree ?? repo.cwd
  const env = { GIT_OPTIONAL_LOCKS: '0' }
  const [all = '', below = ''] = await Promise.all([
    gitRead(cwd, [...args, '--untracked-files=no'], env),
    gitRead(cwd, [...args, '--untracked-files=all', '--', ...folders], env),
  ])
  const tracked = all.split('\0').flatMap((line) => {
    const found = parseStatusLine(line)
    return found && found.kind !== '?' ? found.path : []
  })
  const unknown = below.split('\0').flatMap((line) => (line.startsWith('? ') ? line.slice(2) : []))
  return [...tracked, ...unknown]
}

export interface MovedTree {
  /** Of the whole repository. */
  tree: TreeId
  /** The index file that goes with it. */
  index: string
  /** What the user's index was by then: another text when anybody wrote to it. */
  before: string
  /** With which git sees the new trees. */
  env: Environment
}

/** The tree that moving folders gives, made in a copy of the index. Paths are from the top of the repository. */
export async function moveInIndex(repo: Repository, moves: readonly Move[], scratch: string): Promise<MovedTree> {
  const cwd = repo.worktree ?? repo.cwd
  const before = await indexState(repo)
  const env = await temporaryIndex(repo, scratch)
  const lines: string[] = []
  const gone: string[] = []
  const folders = [...new Set(moves.map(({ from }) => from))]
  const args = ['--literal-pathspecs', 'ls-files', '--full-name', '-v', '-s', '-z', '--', ...folders]
  for (const entry of (await gitRead(cwd, args, env)).split('\0').filter(Boolean)) {
    const { mode, oid, path } = parseEntry(entry)
    const move = moves.find(({ from }) => path.startsWith(`${from}/`))
    if (!move) continue
    gone.push(`0 ${'0'.repeat(oid.length)}\t${path}\0`)
    lines.push(`${mode} ${oid}\t${move.to}${path.slice(move.from.length)}\0`)
  }
  await feed(cwd, ['update-index', '-z', '--index-info'], [...gone, ...lines].join(''), env)
  return { tree: await writeTree(repo, env), index: env['GIT_INDEX_FILE'] ?? '', before, env }
}

/** `H 100644 OID 0\tPATH`; another letter for what git was told not to look at (git-ls-files(1), -v). */
function parseEntry(entry: string): { mode: string; oid: string; path: string } {
  const tab = entry.indexOf('\t')
  const [tag = '', mode = '', oid = ''] = entry.slice(0, tab).split(' ')
  const path = entry.slice(tab + 1)
  if (mode === '160000') throw submodule(path)
  if (tag === 'H') return { mode, oid, path }
  throw new VlbError('VLB_DIRTY', `git was told not to look at ${printable(path)}, so nobody knows what is in it`, {
    hint: `git update-index --no-skip-worktree --no-assume-unchanged -- ${printable(path)}`,
  })
}

async function feed(cwd: string, args: readonly string[], input: string, env: Environment): Promise<void> {
  const child = spawn('git', ['-c', 'core.splitIndex=false', '-c', 'core.fsmonitor=false', ...args], { cwd, env })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-4000)))
  child.stdin?.end(input)
  const { exitCode, signal } = await child.ended
  if (exitCode !== 0) throw new ToolError('git', args, { exitCode, signal, stderr })
}

/** Writes the trees of an index; without an object folder of its own, to the repository. */
export async function writeTree(repo: Repository, env: Environment): Promise<TreeId> {
  return treeId((await gitRead(repo.cwd, ['-c', 'core.splitIndex=false', 'write-tree'], env)).trim())
}

/** The user's index as a text that differs after every writing to it, as `stat -c %d:%i:%s:%.9Y:%.9Z` has it. */
async function indexState(repo: Repository): Promise<string> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await stat(await gitPath(repo, 'index'), { bigint: true })
  const time = (ns: bigint) => `${ns / 1_000_000_000n}.${String(ns % 1_000_000_000n).padStart(9, '0')}`
  return [dev, ino, size, time(mtimeNs), time(ctimeNs)].join(':')
}

/** Commits that touched a folder, newest first, at most `limit`; and how many more there are. */
export async function commitsOf(
  repo: Repository,
  path: string,
  limit: number,
): Promise<{ commits: LayerCommit[]; more: number }> {
  const format = '--format=%h%x00%as%x00%an%x00%s'
  const args = ['-c', 'log.showSignature=false', '--literal-pathspecs', 'log', '--no-color', format, 'HEAD', '--', path]
  const lines = (await gitRead(repo.worktree ?? repo.cwd, args)).split('\n').filter(Boolean)
  const commits = lines.slice(0, limit).map((line) => {
    const [id = '', date = '', author = '', subject = ''] = line.split('\0')
    return { id, date, author, subject }
  })
  return { commits, more: lines.length - commits.length }
}

/**
 * Makes a commit of a tree in the repository, by the user's name and signed if the user's are. No hook runs, and no ref is
 * moved.
 */
export async function commitTree(
  repo: Repository,
  tree: TreeId,
  parent: string,
  message: string,
  scratch: string,
): Promise<string> {
  const file = join(scratch, 'message')
  const [signs] = await Promise.all([configured(repo, 'commit.gpgSign'), writeFile(file, message)])
  const sign = signs ? ['-S'] : []
  try {
    const args = ['commit-tree', ...sign, '-p', parent, '-F', file, tree]
    return (await run('git', args, { cwd: repo.cwd, env: identityEnvironment() })).stdout.trim()
  } catch (error) {
    if (!(error instanceof ToolError)) throw error
    throw new VlbError('VLB_GIT', `git cannot make the commit: ${said(error)}`, {
      hint: 'nothing was changed; who are you? git config user.name …, user.email …; does signing work? git commit -S',
    })
  }
}

/** Has git note of the moved files what it knew of them, so that `git status` need not read them. */
export async function refreshIndex(repo: Repository): Promise<void> {
  await ask('git', ['update-index', '-q', '--refresh'], { cwd: repo.worktree ?? repo.cwd, ok: [0, 1, 128] })
}
