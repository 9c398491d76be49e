// Temporary files that do not outlive us. A small child, the janitor, knows each path; when our end of its pipe closes,
// by a normal end or a SIGKILL, it removes what is left of them.
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { startTime } from './background.ts'
import { explainWriteError, nameBeside } from './files.ts'
import { type Child, spawn } from './run.ts'

// Lines of `+PATH`; on end of file each is removed. A session of its own, and deaf to what a terminal sends, so that
// it outlives whatever ends us. `--one-file-system`: never through a mount that somebody left below.
const janitorScript = `trap '' INT TERM HUP QUIT
while IFS= read -r line; do set -- "$@" "\${line#+}"; done
[ $# = 0 ] || rm -rf --one-file-system -- "$@"`

export class Scratch {
  #janitor: Child | undefined
  #paths: string[] = []
  readonly #folder: string

  /** `folder` is where scratch folders are made: on the file system of what will be made there. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** Has the janitor watch over a path that does not exist yet. */
  watch(path: string): void {
    if (path.includes('\n')) throw new Error(`a path with a line break: ${JSON.stringify(path)}`)
    // Not tethered: it must outlive us.
    this.#janitor ??= spawn('sh', ['-c', janitorScript, 'git-vlb-janitor'], { tether: false })
    this.#janitor.stdin?.write(`+${path}\n`)
    this.#paths.push(path)
  }

  /** A name for a file that is to go elsewhere on this file system by a rename. */
  async file(): Promise<string> {
    const path = join(this.#folder, `${process.pid}-${await startTime(process.pid)}-${randomBytes(4).toString('hex')}`)
    this.watch(path)
    return path
  }

  /** The same beside `path`, for what goes elsewhere than to the file system of the scratch folders. */
  beside(path: string): string {
    const name = nameBeside(path)
    this.watch(name)
    return name
  }

  /** A new, empty folder, named after this process. */
  async folder(): Promise<string> {
    const path = await this.file()
    try {
      await mkdir(path, { recursive: true, mode: 0o755 })
    } catch (error) {
      throw explainWriteError(error, this.#folder)
    }
    return path
  }

  /** Removes all that is left, now. */
  async close(): Promise<void> {
    for (const path of this.#paths) await rm(path, { recursive: true, force: true })
    this.#paths = []
    this.#janitor?.stdin?.end()
    await this.#janitor?.ended
    this.#janitor = undefined
  }
}

/** Removes scratch folders whose process is gone: what a power loss left, or the death of process and janitor at once. */
export async function sweepScratch(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const [pid, start] = name.split('-')
    if (start && (await startTime(Number(pid))) !== start)
      await rm(join(folder, name), { recursive: true, force: true })
  }
}
