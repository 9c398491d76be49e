// What of a repository may still be wanted: branches, tags, working trees, stashes, notes. Read with few gits, however many
// there are.
import { lstat } from 'node:fs/promises'
import { ask } from '../host/run.ts'
import { gitRead, type Repository } from './repo.ts'

export interface Ref {
  kind: 'branch' | 'remote' | 'tag'
  name: string
  commit: string
  tree: string
}

const folders = { 'refs/heads/': 'branch', 'refs/remotes/': 'remote', 'refs/tags/': 'tag' } as const

/** Branches, remote-tracking branches and tags that name commits. */
export async function listRefs(repo: Repository): Promise<Ref[]> {
  const fields = ['refname', 'objectname', 'tree', '*objectname', '*tree'].map((field) => `%(${field})`).join('%00')
  const answer = await gitRead(repo.cwd, ['for-each-ref', `--format=${fields}`, ...Object.keys(folders)])
  return answer.split('\n').flatMap((line) => {
    const [ref = '', own = '', ownTree = '', tagged = '', taggedTree = ''] = line.split('\0')
    const folder = (Object.keys(folders) as (keyof typeof folders)[]).find((one) => ref.startsWith(one))
    const tree = taggedTree || ownTree
    if (!folder || tree === '') return []
    return [{ kind: folders[folder], name: ref.slice(folder.length), commit: taggedTree ? tagged : own, tree }]
  })
}

export interface LinkedWorktree {
  path: string
  /** Undefined before the first commit. */
  commit: string | undefined
  /** Whether its folder is there. */
  there: boolean
}

/** All working trees of the repository, the main one among them. */
export async function listWorktrees(repo: Repository): Promise<LinkedWorktree[]> {
  const answer = await gitRead(repo.cwd, ['worktree', 'list', '--porcelain'])
  const found: LinkedWorktree[] = []
  for (const block of answer.split('\n\n')) {
    const lines = block.split('\n')
    const value = (name: string) => lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1)
    const [path, head] = [value('worktree'), value('HEAD')]
    if (path === undefined || lines.includes('bare')) continue
    const there = await lstat(path).then(
      (stat) => stat.isDirectory(),
      () => false,
    )
    found.push({ path, commit: head === undefined || /^0+$/.test(head) ? undefined : head, there })
  }
  return found
}

export interface Stash {
  name: string
  commit: string
  tree: string
  /** Commit of the files that git did not track, kept with it. */
  untracked: string | undefined
}

export async function listStashes(repo: Repository): Promise<Stash[]> {
  const format = '--format=%gd%x00%H%x00%T%x00%P'
  const { stdout, exitCode } = await ask('git', ['log', '--walk-reflogs', '--no-color', format, 'refs/stash', '--'], {
    cwd: repo.cwd,
    ok: [0, 128],
  })
  if (exitCode !== 0) return []
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [name = '', commit = '', tree = '', parents = ''] = line.split('\0')
      return { name, commit, tree, untracked: parents.split(' ')[2] }
    })
}

/** Notes by what they are about: object ids of the texts. Those that are notes of themselves are package lists. */
export async function listNotes(repo: Repository, ref: string): Promise<Map<string, string>> {
  const { stdout, exitCode } = await ask('git', ['ls-tree', '-r', '-z', ref], { cwd: repo.cwd, ok: [0, 128] })
  const notes = new Map<string, string>()
  if (exitCode !== 0) return notes
  for (const line of stdout.split('\0')) {
    const [, oid, path] = /^\S+ blob (\S+)\t(.+)$/.exec(line) ?? []
    const target = path?.replaceAll('/', '')
    if (oid && target && target !== oid) notes.set(target, oid)
  }
  return notes
}
