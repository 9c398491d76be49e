// Where a prebuild says what it does, one place per project of a worktree, and what others do with that: show it, or ask
// it to make way.
import { mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type PrebuildState, parsePrebuildState } from '../core/prebuild.ts'
import type { PrebuildStatus } from '../core/results-status.ts'
import { isAlive, send, yieldSignal } from '../host/background.ts'
import { writeAtomic } from '../host/files.ts'
import { isLocked } from '../host/lock.ts'
import type { Project } from './project.ts'

/** A file of the prebuild's folder in this worktree's git folder. hooks/prebuild.sh makes the same path of its log. */
export function prebuildPath(project: Project, name: 'json' | 'log' | 'lock' | 'next'): string {
  return join(project.repo.gitDir, 'vlb-prebuild', project.prefix, `prebuild.${name}`)
}

/** What the last prebuild wrote; undefined if there was none. */
export async function readPrebuild(project: Project): Promise<PrebuildState | undefined> {
  return await readState(prebuildPath(project, 'json'))
}

async function readState(file: string): Promise<PrebuildState | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  return text === undefined ? undefined : parsePrebuildState(text)
}

/** The same if it is at work now. */
export async function runningPrebuild(project: Project): Promise<PrebuildState | undefined> {
  const state = await readPrebuild(project)
  return state?.state === 'running' && (await isAlive(state)) ? state : undefined
}

export async function writePrebuild(project: Project, state: PrebuildState): Promise<void> {
  await mkdir(join(prebuildPath(project, 'json'), '..'), { recursive: true })
  const path = prebuildPath(project, 'json')
  await writeAtomic(path, `${JSON.stringify(state, null, 2)}\n`, project.store.scratch.beside(path))
}

/** For `git vlb status`: one small file, and one of /proc if it says that it runs. */
export async function prebuildStatus(project: Project): Promise<PrebuildStatus | null> {
  const found = await readPrebuild(project)
  if (!found) return null
  // In another container, only the lock tells of it.
  const alive = found.state !== 'running' || (await isAlive(found)) || (await isAtWork(project))
  const { layer, built, pid, startedAt, endedAt } = found
  const told = { layer, built, pid, startedAt, endedAt, log: prebuildPath(project, 'log') }
  return !alive
    ? { ...told, state: 'stopped', reason: 'it was killed' }
    : { ...told, state: found.state, reason: found.reason }
}

async function isAtWork(project: Project): Promise<boolean> {
  return await isLocked(prebuildPath(project, 'lock')).catch(() => false)
}

/** Has a prebuild of this worktree end after its present layer: somebody waits for what is built now. */
export async function askToMakeWay(project: Project): Promise<true> {
  const running = await runningPrebuild(project)
  if (running && running.pid !== process.pid) await send(running, yieldSignal)
  return true
}

/** Removes what prebuilds of all worktrees left to read, but where one is at work. */
export async function forgetPrebuilds({ repo }: Project): Promise<void> {
  const linked = join(repo.commonDir, 'worktrees')
  const names = await readdir(linked).catch(() => [])
  for (const gitDir of [repo.commonDir, ...names.map((name) => join(linked, name))]) {
    const folder = join(gitDir, 'vlb-prebuild')
    const files = await readdir(folder, { recursive: true }).catch(() => [])
    const states = files.filter((file) => file.endsWith('prebuild.json')).map((file) => readState(join(folder, file)))
    const alive = await Promise.all((await Promise.all(states)).map((state) => state && isAlive(state)))
    if (!alive.includes(true)) await rm(folder, { recursive: true, force: true })
  }
}
