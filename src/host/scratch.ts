// Temporary files that do not outlive us. A small child, the janitor, knows each path; when our end of its pipe closes,
// by a normal end or a SIGKILL, it removes what is left of them.
//
// Should both be killed at once, or the host lose power, the next run sweeps. Which scratch folders are in use it tells by
// a lock (flock(2)) on a file beside them, which lasts as long as their process. A process id would not do: the store may
// be shared with another container, which has process ids of its own, and after a start of the host they are given anew.
import { randomBytes } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, readlink, rm, symlink } from 'node:fs/promises'
import { basename, isAbsolute, join, resolve } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'
import { explainWriteError, isBeside, nameBeside, shareWithGroup } from './files.ts'
import { lockOpenFile } from './lock.ts'
import { type Child, spawn } from './run.ts'

// Lines of `+PATH`; on end of file each is removed. A session of its own, and deaf to what a terminal sends, so that
// it outlives whatever ends us. `--one-file-system`: never through a mount that somebody left below.
const janitorScript = `trap '' INT TERM HUP QUIT
while IFS= read -r line; do set -- "$@" "\${line#+}"; done
[ $# = 0 ] || rm -rf --one-file-system -- "$@"`

/** Who the folders belong to: the beginning of their names, and the open file that is locked. */
interface Owner {
  name: string
  held: FileHandle
}

export class Scratch {
  #janitor: Child | undefined
  #paths: string[] = []
  #owner: Promise<Owner> | undefined
  #closed = false
  readonly #folder: string

  /** `folder` is where scratch folders are made: on the file system of what will be made there. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** Has the janitor watch over a path that does not exist yet. */
  watch(path: string): void {
    if (path.includes('\n')) throw new Error(`a path with a line break: ${JSON.stringify(path)}`)
    // A janitor that nobody dismisses would keep us from ending.
    if (this.#closed) throw new Error(`scratch files are wanted after they were removed: ${path}`)
    // Not tethered: it must outlive us.
    this.#janitor ??= spawn('sh', ['-c', janitorScript, 'git-vlb-janitor'], { tether: false })
    this.#janitor.stdin?.write(`+${path}\n`)
    this.#paths.push(path)
  }

  /** Begins with what the first scratch file takes: it need not be waited for before that. */
  prepare(): void {
    this.#owner ??= this.#own()
    this.#owner.catch(() => {})
  }

  /** A name for a file that is to go elsewhere on this file system by a rename. */
  async file(): Promise<string> {
    this.#owner ??= this.#own()
    const { name } = await this.#owner
    const path = join(this.#folder, `${name}-${randomBytes(4).toString('hex')}`)
    this.watch(path)
    return path
  }

  /** The same beside `path`, for what goes elsewhere than to the file system of the scratch folders. */
  beside(path: string): string {
    const name = nameBeside(path)
    this.watch(name)
    return name
  }

  /** The same for what may be large: a link to it, among the scratch files, tells who sweeps what became of nobody's. */
  async linkedBeside(path: string): Promise<string> {
    const name = this.beside(resolve(path))
    try {
      await symlink(name, await this.file())
    } catch (error) {
      throw explainWriteError(error, this.#folder)
    }
    return name
  }

  /** A new, empty folder, named after this process. */
  async folder(): Promise<string> {
    try {
      const path = await this.file()
      await mkdir(path, { mode: 0o755 })
      await shareWithGroup(path)
      return path
    } catch (error) {
      throw explainWriteError(error, this.#folder)
    }
  }

  async #own(): Promise<Owner> {
    await mkdir(this.#folder, { recursive: true })
    for (;;) {
      const name = `${process.pid}-${randomBytes(4).toString('hex')}`
      const path = join(this.#folder, `${name}${lockEnding}`)
      this.watch(path)
      const held = await open(path, 'wx+', 0o644)
      await shareWithGroup(path)
      // Before it is locked, somebody who sweeps may take it for one that was left: then they have its lock, or it is gone.
      if ((await lockOpenFile(held.fd)) && (await held.stat()).nlink > 0) return { name, held }
      await held.close()
    }
  }

  /** Removes all that is left, now. Nothing can be had of it from then on. */
  async close(): Promise<void> {
    this.#closed = true
    // The last is the first that was made, the lock. What root made in them may be beyond us;
    // but who waits for the janitor must not wait for ever.
    for (const path of this.#paths.reverse()) await rm(path, { recursive: true, force: true }).catch(() => {})
    this.#paths = []
    await (await this.#owner?.catch(() => undefined))?.held.close()
    this.#owner = undefined
    this.#janitor?.stdin?.end()
    await this.#janitor?.ended
    this.#janitor = undefined
  }
}

const lockEnding = '.lock'

/** Removes scratch folders whose process is gone: what a power loss left, or the death of process and janitor at once. */
export async function sweepScratch(folder: string): Promise<void> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => /^\d+-/.test(name))
  const owners = new Set(names.map(ownerOf))
  for (const owner of owners) {
    const lock = join(folder, `${owner}${lockEnding}`)
    const held = await open(lock, 'r+').catch((error: unknown) => {
      if (hasErrorCode(error, 'ENOENT')) return undefined
      return 'unknown' as const
    })
    if (held === 'unknown') continue
    try {
      if (held && !(await lockOpenFile(held.fd))) continue
      for (const name of names) if (ownerOf(name) === owner) await remove(join(folder, name))
    } finally {
      await held?.close()
    }
  }
}

function ownerOf(name: string): string {
  return name.endsWith(lockEnding) ? name.slice(0, -lockEnding.length) : name.slice(0, name.lastIndexOf('-'))
}

/**
 * What cannot be removed was another user's, or is being removed by somebody else. A link was made for a file beside
 * another's place; no name but such a one is believed.
 */
async function remove(path: string): Promise<void> {
  const beside = await readlink(path).catch(() => '')
  if (isAbsolute(beside) && isBeside(basename(beside))) await rm(beside, { force: true }).catch(() => {})
  await rm(path, { recursive: true, force: true }).catch(() => {})
}
