// Locks between processes: flock(2), held by a small child that ends when we do. The kernel drops such a lock however
// its holder dies, so there is no stale lock to recognise, not even after a reboot.
import { randomBytes } from 'node:crypto'
import { link, open, readFile, rm, stat } from 'node:fs/promises'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { explainWriteError, shareWithGroup } from './files.ts'
import { failure, spawn } from './run.ts'

export interface Lock {
  /** Fires if the lock is lost because somebody killed its holder. */
  lost: AbortSignal
  release(): Promise<void>
}

/** flock(1)'s status when somebody else has the lock; ours to choose. */
const busy = 75
/** Of ours, when the file was removed while we waited. */
const removed = 76

/**
 * Takes the lock `file`, waiting as long as it takes. `onWait` hears once, with the process id of the holder (0 if it
 * has not said). Rejects with the signal's reason when aborted.
 */
export async function takeLock(file: string, signal: AbortSignal, onWait: (pid: number) => void): Promise<Lock> {
  let told = false
  for (;;) {
    const now = await tryLock(file, signal)
    if (now) return now
    if (!told) onWait(await holderOf(file))
    told = true
    const later = await attempt(file, [], signal)
    if (later && later !== 'removed') return later
  }
}

/** Takes the lock `file` if nobody has it; undefined otherwise. */
export async function tryLock(file: string, signal: AbortSignal): Promise<Lock | undefined> {
  for (;;) {
    await makeLockFile(file)
    const lock = await attempt(file, ['--nonblock', '--conflict-exit-code', String(busy)], signal)
    if (lock !== 'removed') return lock
  }
}

/**
 * Removes a lock file that nobody holds. Whoever opened it meanwhile, and gets the lock of what has no name any more, finds
 * that out and makes another one.
 */
export async function removeLockFile(file: string): Promise<void> {
  const handle = await open(file, 'r+')
  try {
    if (await lockOpenFile(handle.fd)) await rm(file, { force: true })
  } finally {
    await handle.close()
  }
}

/** Under its name the file is there with its last mode at once: others of the group may open it from then on. */
async function makeLockFile(file: string): Promise<void> {
  if (await stat(file).catch(() => undefined)) return
  const made = `${file}.${process.pid}.${randomBytes(3).toString('hex')}.tmp`
  try {
    await (await open(made, 'wx', 0o644)).close()
    await shareWithGroup(made)
    await link(made, file).catch((error: unknown) => {
      if (!hasErrorCode(error, 'EEXIST')) throw error
    })
  } catch (error) {
    throw explainWriteError(error, file)
  } finally {
    await rm(made, { force: true })
  }
}

/**
 * Locks an open file, or tells that somebody else has. The lock is that of the open file (flock(2)): it ends when we
 * close it or die, and no child of ours has it. NFS gives an exclusive one only where the file is open for writing.
 */
export async function lockOpenFile(fd: number, how: 'exclusive' | 'shared' = 'exclusive'): Promise<boolean> {
  const child = spawn('flock', [`--${how}`, '--nonblock', '--conflict-exit-code', String(busy), '3'], {
    inherited: fd,
  })
  const { exitCode, signal } = await child.ended
  if (exitCode === 0) return true
  if (exitCode === busy) return false
  throw failure('flock', [], { exitCode, signal, stderr: '' })
}

/** Who holds the lock, as written by the holder; 0 if unknown. */
async function holderOf(file: string): Promise<number> {
  return Number.parseInt(await readFile(file, 'utf8').catch(() => ''), 10) || 0
}

/** Whether somebody holds the lock now. */
export async function isLocked(file: string): Promise<boolean> {
  const child = spawn('flock', ['--nonblock', '--conflict-exit-code', String(busy), '--', file, 'true'])
  return (await child.ended).exitCode === busy
}

async function attempt(file: string, options: string[], signal: AbortSignal): Promise<Lock | 'removed' | undefined> {
  signal.throwIfAborted()
  // The child writes our process id into the file, says so, and holds the lock until its input ends: when we close it
  // or die. The lock sits on a descriptor that no other child of ours inherits.
  const script = `[ "$2" -ef /proc/self/fd/3 ] || exit ${removed}
{ printf %s "$1" >"$2"; } 2>/dev/null; echo held && exec cat >/dev/null`
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
    if (exitCode === removed) return 'removed'
    throw failure('flock', [file], { exitCode, signal: killed, stderr: '' })
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
