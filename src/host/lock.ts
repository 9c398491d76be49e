// Locks between processes: flock(2), held by a small child that ends when we do. The kernel drops such a lock however
// its holder dies, so there is no stale lock to recognise, not even after a reboot.
import { open, readFile } from 'node:fs/promises'
import { VlbError } from '../core/errors.ts'
import { failure, spawn } from './run.ts'

export interface Lock {
  /** Fires if the lock is lost because somebody killed its holder. */
  lost: AbortSignal
  release(): Promise<void>
}

/** flock(1)'s status when somebody else has the lock; ours to choose. */
const busy = 75

/**
 * Takes the lock `file`, waiting as long as it takes. `onWait` hears once, with the process id of the holder (0 if it
 * has not said). Rejects with the signal's reason when aborted.
 */
export async function takeLock(file: string, signal: AbortSignal, onWait: (pid: number) => void): Promise<Lock> {
  await (await open(file, 'a')).close()
  const now = await attempt(file, ['--nonblock', '--conflict-exit-code', String(busy)], signal)
  if (now) return now
  onWait(await holderOf(file))
  const later = await attempt(file, [], signal)
  if (!later) throw new Error(`flock gave neither lock nor wait for ${file}`)
  return later
}

/** Takes the lock `file` if nobody has it; undefined otherwise. */
export async function tryLock(file: string, signal: AbortSignal): Promise<Lock | undefined> {
  await (await open(file, 'a')).close()
  return await attempt(file, ['--nonblock', '--conflict-exit-code', String(busy)], signal)
}

/** Who holds the lock, as written by the holder; 0 if unknown. */
async function holderOf(file: string): Promise<number> {
  return Number.parseInt(await readFile(file, 'utf8'), 10) || 0
}

/** Whether somebody holds the lock now. */
export async function isLocked(file: string): Promise<boolean> {
  const child = spawn('flock', ['--nonblock', '--conflict-exit-code', String(busy), '--', file, 'true'])
  return (await child.ended).exitCode === busy
}

async function attempt(file: string, options: string[], signal: AbortSignal): Promise<Lock | undefined> {
  signal.throwIfAborted()
  // The child writes our process id into the file, says so, and holds the lock until its input ends: when we close it
  // or die. The lock sits on a descriptor that no other child of ours inherits.
  const script = 'printf %s "$1" >"$2" && echo held && exec cat >/dev/null'
  const child = spawn('flock', [
    '--exclusive',
    ...options,
    '--',
    file,
    'sh',
    '-c',
    script,
    'sh',
    String(process.pid),
    file,
  ])
  const stop = () => child.kill('SIGKILL')
  signal.addEventListener('abort', stop, { once: true })
  const held = await Promise.race([
    new Promise<true>((resolve) => child.stdout?.once('data', () => resolve(true))),
    child.ended.then(() => false as const),
  ])
  signal.removeEventListener('abort', stop)
  if (!held) {
    signal.throwIfAborted()
    const { exitCode, signal: killed } = await child.ended
    if (exitCode === busy) return undefined
    if (exitCode === undefined || exitCode === 127) throw failure('flock', [], { exitCode, signal: killed, stderr: '' })
    throw new Error(`flock ended with status ${exitCode} on ${file}`)
  }
  const lost = new AbortController()
  let released = false
  void child.ended.then(() => released || lost.abort(lostLock(file)))
  return {
    lost: lost.signal,
    release: async () => {
      released = true
      child.stdin?.end()
      await child.ended
    },
  }
}

function lostLock(file: string): VlbError {
  return new VlbError('VLB_KILLED', `the process that held the lock ${file} was killed, so this build stopped`, {
    hint: 'nothing half-built was kept; run the command again',
  })
}
