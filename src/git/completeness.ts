// Whether a repository knows of all branches that its remotes have: as far as that can be told without asking them.
import { readFile, stat } from 'node:fs/promises'
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
  const { time: fetched, branches } = await lastFetch(repo)
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
  const left = await leftOut(repo, [...remotes.keys()], branches)
  if (left !== undefined)
    return lacking(
      `the last fetch was not one of all branches: ${printable(left)} was left out`,
      'git fetch --all --prune',
    )
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

interface Fetch {
  time: number | undefined
  /** Names of branches, once for each remote that it was asked for of. */
  branches: string[]
}

/** Each fetch writes it, whether or not there was anything new (git-fetch(1)); a line is `ID<tab>…<tab>branch 'NAME' of URL`. */
async function lastFetch(repo: Repository): Promise<Fetch> {
  let last: { time: number; file: string } | undefined
  for (const folder of new Set([repo.commonDir, repo.gitDir])) {
    const file = join(folder, 'FETCH_HEAD')
    const time = (await stat(file).catch(() => undefined))?.mtimeMs
    if (time !== undefined && time > (last?.time ?? 0)) last = { time, file }
  }
  const text = last ? await readFile(last.file, 'utf8') : ''
  return { time: last?.time, branches: [...text.matchAll(/\tbranch '(.*)' of /g)].map(([, name]) => name ?? '') }
}

/** A branch of a remote that the last fetch did not ask for, as `git fetch origin main` does not for others. */
async function leftOut(
  repo: Repository,
  remotes: readonly string[],
  fetched: readonly string[],
): Promise<string | undefined> {
  const left = [...fetched]
  const refs = await gitRead(repo.cwd, ['for-each-ref', '--format=%(refname)%00%(symref)', 'refs/remotes'])
  for (const line of refs.split('\n').filter(Boolean)) {
    const [ref = '', symbolic] = line.split('\0')
    const remote = remotes.find((name) => ref.startsWith(`refs/remotes/${name}/`))
    if (symbolic || remote === undefined) continue
    const at = left.indexOf(ref.slice(`refs/remotes/${remote}/`.length))
    if (at < 0) return ref.slice('refs/remotes/'.length)
    left.splice(at, 1)
  }
  return undefined
}
