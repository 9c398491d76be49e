// What this process uses of the store, told to whoever wants to remove something. A file that is locked (flock(2)) as long
// as we live, with a line for each thing: the kernel drops the lock however we end, so that no lease outlives its process.
//
// Whoever takes a lease and whoever removes might miss each other. So the one writes what it uses, and then looks whether
// somebody is removing; the other says that it is removing, and then reads the leases. One of them sees the other. Who is
// to use something waits until the other has done, and looks for what it wants once more.
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, fchmodSync, fstatSync, openSync, statSync, writeSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'
import { explainWriteError } from '../host/files.ts'
import { lockOpenFile, takeLock, tryLock } from '../host/lock.ts'

/** Names of what is used: a snapshot's id; of others with their kind in front. */
export const baseUse = (folder: string): string => `base ${folder}`
export const failureUse = (key: string): string => `failed ${key}`

/** Who uses something, as far as it says. */
export interface Use {
  pid: number
  /** The verb of its command line. */
  what: string
  names: ReadonlySet<string>
}

export class Lease {
  readonly #store: string
  readonly #names = new Set<string>()
  #held: Promise<{ fd: number; path: string }> | undefined

  constructor(store: string) {
    this.#store = store
  }

  /** From now on these stay, if they are there: look for them only after that. */
  async add(names: readonly string[], signal: AbortSignal): Promise<void> {
    const more = names.filter((name) => !this.#names.has(name))
    if (more.length === 0) return
    this.#held ??= this.#take().catch((error: unknown) => {
      throw explainWriteError(error, this.#store)
    })
    const { fd } = await this.#held
    writeSync(fd, more.map((name) => `${name}\n`).join(''))
    await waitForSweep(this.#store, signal)
    for (const name of more) this.#names.add(name)
  }

  async #take(): Promise<{ fd: number; path: string }> {
    const folder = leasesIn(this.#store)
    await mkdir(folder, { recursive: true })
    for (;;) {
      const path = join(folder, `${process.pid}-${randomBytes(6).toString('hex')}`)
      const fd = openSync(path, 'ax', 0o644)
      // Before it was locked it looked like one that was left behind, and may be gone.
      if ((await lockOpenFile(fd)) && isFile(fd, path)) {
        // Others who share the store are to read it, whatever our umask.
        fchmodSync(fd, 0o644)
        writeSync(fd, `${process.pid} ${process.argv[2] ?? ''}\n`)
        return { fd, path }
      }
      closeSync(fd)
    }
  }

  async release(): Promise<void> {
    const held = await this.#held?.catch(() => undefined)
    this.#held = undefined
    this.#names.clear()
    if (!held) return
    await rm(held.path, { force: true })
    closeSync(held.fd)
  }
}

function leasesIn(store: string): string {
  return join(store, 'leases')
}

function isFile(fd: number, path: string): boolean {
  const [open, named] = [fstatSync(fd), statSync(path, { throwIfNoEntry: false })]
  return open.ino === named?.ino && open.dev === named.dev
}

/** All leases of processes that live. Those of others are removed. */
export async function readLeases(store: string): Promise<Use[]> {
  const folder = leasesIn(store)
  const uses: Use[] = []
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name)
    try {
      const file = await open(path, 'r')
      try {
        // Removed while we hold a lock on it: nobody can have the exclusive one of a lease then.
        if (await lockOpenFile(file.fd, 'shared')) await rm(path, { force: true }).catch(() => {})
        else uses.push(parseUse(await readFile(path, 'utf8')))
      } finally {
        await file.close()
      }
    } catch (error) {
      if (!hasErrorCode(error, 'ENOENT')) throw error
    }
  }
  return uses
}

function parseUse(text: string): Use {
  const [first = '', ...names] = text.split('\n')
  const [pid = '', what = ''] = first.split(' ')
  return { pid: Number.parseInt(pid, 10) || 0, what, names: new Set(names.filter(Boolean)) }
}

const sweepLock = (store: string): string => join(store, 'locks/sweep')
const sweepMark = (store: string): string => join(store, 'sweeping')

/** Does `work`, which removes things, while nobody begins to use any; it hears what is in use. Meant for milliseconds. */
export async function whileSweeping<T>(
  store: string,
  signal: AbortSignal,
  work: (uses: Use[], signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const lock = await takeLock(sweepLock(store), signal, () => {})
  try {
    // One that was left may be another user's.
    await rm(sweepMark(store), { force: true })
    await (await open(sweepMark(store), 'w')).close()
    return await work(await readLeases(store), AbortSignal.any([signal, lock.lost]))
  } finally {
    await rm(sweepMark(store), { force: true })
    await lock.release()
  }
}

/** A mark that stands there with nobody behind it was left by one who was killed. */
async function waitForSweep(store: string, signal: AbortSignal): Promise<void> {
  if (!existsSync(sweepMark(store))) return
  const file = sweepLock(store)
  const lock = (await tryLock(file, signal)) ?? (await takeLock(file, signal, () => {}))
  try {
    await rm(sweepMark(store), { force: true })
  } finally {
    await lock.release()
  }
}
