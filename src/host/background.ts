// What a process in the background needs: the lowest priority, to know whether another one still lives, and to tell it
// something.
import { readFile } from 'node:fs/promises'
import { constants, setPriority } from 'node:os'
import { ask } from './run.ts'

/** A process for certain: ids are used again, but not with the same start. */
export interface ProcessIdentity {
  pid: number
  /** Start in clock ticks since boot (proc(5), stat field 22). */
  start: string
}

/** Start of a process in clock ticks since boot; '' if there is no such process, or only its remains. */
export async function startTime(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? '' : (fields[19] ?? '')
  } catch {
    return ''
  }
}

export async function thisProcess(): Promise<ProcessIdentity> {
  return { pid: process.pid, start: await startTime(process.pid) }
}

export async function isAlive({ pid, start }: ProcessIdentity): Promise<boolean> {
  return start !== '' && (await startTime(pid)) === start
}

/** Sends a signal if the process is still the one that is meant, and ours. */
export async function send(target: ProcessIdentity, signal: NodeJS.Signals): Promise<void> {
  if (!(await isAlive(target))) return
  try {
    process.kill(target.pid, signal)
  } catch {
    // It ended meanwhile, or is somebody else's.
  }
}

/** The signal by which a build in the background is asked to end after its present layer. */
export const yieldSignal = 'SIGUSR2'

/** Calls back when another process asks this one to make way. */
export function onYield(listener: () => void): void {
  process.on(yieldSignal, listener)
}

/** Lowest priority for this process and what it starts from here on: nice 19, and disks only when nobody else wants them. */
export async function lowerPriority(): Promise<void> {
  setPriority(0, constants.priority.PRIORITY_LOW)
  // Node cannot set that one. Where the kernel has no such classes, nothing is lost.
  await ask('ionice', ['--class', '3', '--pid', String(process.pid)], { ok: [0, 1] }).catch(() => {})
}

/** How this program was started: the interpreter and its file, as absolute paths. */
export function ownProgram(): { node: string; main: string } {
  return { node: process.execPath, main: process.argv[1] ?? '' }
}
