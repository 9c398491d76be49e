// What git's history says between two commits: who changed what, and which tag came before.
import { printable, VlbError } from '../core/errors.ts'
import { ask } from '../host/run.ts'
import { gitRead, type Repository } from './repo.ts'

export interface Commit {
  id: string
  /** As .mailmap has it. */
  author: string
  email: string
  date: string
  subject: string
  /** Values of its Vlb-Rollup trailers. */
  rollup: string
  /** `to`: reachable from the newer end only; `from`: from the older only. */
  side: 'to' | 'from'
  /** Paths it touched, from the repository's top. Of a merge, those that differ from all of its parents. */
  paths: string[]
  renames: { from: string; to: string }[]
}

const trailer = '%(trailers:key=Vlb-Rollup,valueonly,separator=%x20)'

/** Commits that only one of the two has and that touch something below `folder`, newest first. */
export async function commitsBetween(repo: Repository, from: string, to: string, folder: string): Promise<Commit[]> {
  const range = [`${from}...${to}`, '--', `:(top,literal)${folder}`]
  // Whatever the user's configuration makes of `git log`.
  const settings = ['-c', 'log.showSignature=false', '-c', 'log.showRoot=true']
  const log = [...settings, 'log', '-z', '--no-color', '--no-decorate', '--encoding=UTF-8']
  const [told, touched] = await Promise.all([
    gitRead(repo.cwd, [...log, `--format=%m%x00%H%x00%aN%x00%aE%x00%aI%x00%s%x00${trailer}`, ...range]),
    gitRead(repo.cwd, [
      ...log,
      '--format=%H',
      '--name-status',
      '-c',
      '--find-renames',
      '--no-ext-diff',
      '--no-relative',
      ...range,
    ]),
  ])
  const files = parseTouched(touched)
  const fields = told.split('\0')
  const commits: Commit[] = []
  for (let i = 0; i + 7 < fields.length + 1 && fields[i]; i += 7) {
    const [mark, id = '', author = '', email = '', date = '', subject = '', rollup = ''] = fields.slice(i, i + 7)
    const side = mark === '<' ? 'from' : 'to'
    commits.push({ id, author, email, date, subject, rollup, side, ...(files.get(id) ?? { paths: [], renames: [] }) })
  }
  return commits
}

/** `ID NUL`, then for each file a status, on a new line for the first, and one path, or two for a rename, each with NUL. */
export function parseTouched(text: string): Map<string, Pick<Commit, 'paths' | 'renames'>> {
  const found = new Map<string, Pick<Commit, 'paths' | 'renames'>>()
  const words = text.split('\0')
  let current: Pick<Commit, 'paths' | 'renames'> = { paths: [], renames: [] }
  for (let i = 0; i < words.length; i++) {
    const word = (words[i] ?? '').replace(/^\n/, '')
    if (/^[0-9a-f]{40,64}$/.test(word)) {
      current = { paths: [], renames: [] }
      found.set(word, current)
    } else if (/^[RC]\d+$/.test(word)) {
      const [from = '', to = ''] = words.slice(i + 1, i + 3)
      current.renames.push({ from, to })
      current.paths.push(from, to)
      i += 2
    } else if (word !== '') current.paths.push(words[++i] ?? '')
  }
  return found
}

export async function isAncestor(repo: Repository, older: string, newer: string): Promise<boolean> {
  const { exitCode } = await ask('git', ['merge-base', '--is-ancestor', older, newer], { cwd: repo.cwd, ok: [0, 1] })
  return exitCode === 0
}

/** Date of a commit, as its committer's clock had it. */
export async function commitDate(repo: Repository, commit: string): Promise<string> {
  return (await gitRead(repo.cwd, ['show', '--no-patch', '--no-show-signature', '--format=%cI', commit])).trim()
}

/** Tags of a commit, the highest version last. */
export async function tagsAt(repo: Repository, commit: string): Promise<string[]> {
  const args = ['tag', '--sort=version:refname', '--points-at', commit]
  return (await gitRead(repo.cwd, args)).split('\n').filter(Boolean)
}

/** The last tag before `commit`, which people call `rev`, not counting those that it has itself. */
export async function previousTag(
  repo: Repository,
  rev: string,
  commit: string,
  here: readonly string[],
): Promise<string> {
  const exclude = here.map((tag) => `--exclude=${tag}`)
  const { stdout, exitCode } = await ask('git', ['describe', '--tags', '--abbrev=0', ...exclude, commit], {
    cwd: repo.cwd,
    ok: [0, 128],
  })
  const tag = stdout.trim()
  if (exitCode === 0 && tag !== '') return tag
  throw new VlbError('VLB_REV', `there is no tag before ${printable(rev)} to begin with`, {
    hint: 'name both ends: git vlb changelog OLD..NEW; or tag what was released: git tag v1.0 COMMIT',
  })
}
