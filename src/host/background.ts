// What a process in the background needs: the lowest priority, to know whether another one still lives, and to tell it
// something.
import { readFile, readlink } from 'node:fs/promises'
import { constants, setPriority } from 'node:os'
import { ask } from './run.ts'

/** A process for certain: ids are used again, but not with the same start. */
export interface ProcessIdentity {
  pid: number
  /**
   * Where and when it started: the host's boot, the PID namespace, and clock ticks since that boot (proc(5), stat field
   * 22). After a start of the host, and in another container, the same id and ticks may be somebody else's.
   */
  start: string
}

/** '' if there is no such process, or only its remains. */
export async function processStart(pid: number): Promise<string> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const ticks = fields[19]
    return fields[0] === 'Z' || ticks === undefined ? '' : `${await bootId()} ${await pidNamespace()} ${ticks}`
  } catch {
    return ''
  }
}

/** Another text after each start of the host (random(4)). */
export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
}

/** `pid:[4026531836]` (namespaces(7)). */
async function pidNamespace(): Promise<string> {
  return await readlink('/proc/self/ns/pid')
}

export async function thisProcess(): Promise<ProcessIdentity> {
  return { pid: process.pid, start: await processStart(process.pid) }
}

export async function isAlive({ pid, start }: ProcessIdentity): Promise<boolean> {
  return start !== '' && (await processStart(pid)) === start
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
