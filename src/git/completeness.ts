// Whether a repository knows of all branches that its remotes have: as far as that can be told without asking them.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { printable } from '../core/errors.ts'
import { ask } from '../host/run.ts'
import { gitRead, type Repository } from './repo.ts'

export interface Completeness {
  /** What it lacks, and how to get that. */
  lacks: { what: string; hint: string } | undefined
  /** When it last heard of others, in milliseconds; undefined where there are none. */
  fetched: number | undefined
}

export async function completenessOf(repo: Repository): Promise<Completeness> {
  const remotes = await fetchedRefs(repo)
  const fetched = await lastFetch(repo)
  const lacking = (what: string, hint: string): Completeness => ({ lacks: { what, hint }, fetched })
  if ((await gitRead(repo.cwd, ['rev-parse', '--is-shallow-repository'])).trim() === 'true')
    return lacking('this clone is shallow, and mostly has one branch only', 'git fetch --unshallow')
  for (const [name, refs] of remotes) {
    if (refs.some((ref) => /^\+?refs\/(heads\/)?\*:/.test(ref))) continue
    const shown = printable(name, 80)
    return lacking(
      `of the remote ${shown} not all branches are fetched`,
      `git remote set-branches ${shown} '*' && git fetch --all`,
    )
  }
  if (remotes.size > 0 && fetched === undefined)
    return lacking('nothing was ever fetched here, so that what others pushed since is not known', 'git fetch --all')
  return { lacks: undefined, fetched: remotes.size > 0 ? fetched : undefined }
}

/** By remote: what is fetched of it. */
async function fetchedRefs(repo: Repository): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>()
  const args = ['config', '--null', '--get-regexp', '^remote\\..*\\.(url|fetch)$']
  const { stdout, exitCode } = await ask('git', args, { cwd: repo.cwd, ok: [0, 1] })
  if (exitCode !== 0) return found
  for (const entry of stdout.split('\0').filter(Boolean)) {
    const [, name = '', key, value = ''] = /^remote\.([\s\S]*)\.(url|fetch)\n([\s\S]*)$/.exec(entry) ?? []
    found.set(name, [...(found.get(name) ?? []), ...(key === 'fetch' ? [value] : [])])
  }
  return found
}

/** Each fetch writes it, whether or not there was anything new (git-fetch(1)). */
async function lastFetch(repo: Repository): Promise<number | undefined> {
  const times = await Promise.all(
    [repo.commonDir, repo.gitDir].map(async (folder) => {
      const found = await stat(join(folder, 'FETCH_HEAD')).catch(() => undefined)
      return found?.mtimeMs ?? 0
    }),
  )
  return Math.max(...times) || undefined
}
