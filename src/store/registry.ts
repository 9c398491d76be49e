// Which projects a store is used for: what their branches need is worth keeping. A store may serve several repositories.
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'

export interface RegisteredProject {
  /** The repository's git folder, which its worktrees share. */
  commonDir: string
  /** Folder of vlb.yaml below the repository's top; '' for the top. */
  prefix: string
}

function placeOf({ commonDir, prefix }: RegisteredProject): string[] {
  const name = createHash('sha256').update(`${commonDir}\0${prefix}`).digest('hex').slice(0, 40)
  return ['repositories', `${name}.json`]
}

/** `write` writes a file of the store. */
export async function register(
  store: string,
  project: RegisteredProject,
  write: (path: string[], text: string) => Promise<void>,
): Promise<void> {
  const place = placeOf(project)
  if (statSync(join(store, ...place), { throwIfNoEntry: false })) return
  const { commonDir, prefix } = project
  await write(place, `${JSON.stringify({ format: 1, commonDir, prefix })}\n`)
}

/** All projects of the store. One whose repository is gone is forgotten, if `forget` says so. */
export async function registered(store: string, forget: boolean): Promise<RegisteredProject[]> {
  const projects: RegisteredProject[] = []
  for (const name of await readdir(join(store, 'repositories')).catch(() => [])) {
    const place = join(store, 'repositories', name)
    const project = name.endsWith('.json') ? parse(await readFile(place, 'utf8').catch(() => '')) : undefined
    if (project && !(await isGone(project.commonDir))) projects.push(project)
    else if (forget) await rm(place, { force: true })
  }
  return projects
}

function parse(text: string): RegisteredProject | undefined {
  try {
    const data = JSON.parse(text) as Partial<RegisteredProject> | null
    if (typeof data?.commonDir !== 'string' || typeof data.prefix !== 'string') return undefined
    return { commonDir: data.commonDir, prefix: data.prefix }
  } catch {
    return undefined
  }
}

/** One that we may not look at is there for others. */
async function isGone(folder: string): Promise<boolean> {
  try {
    return !(await stat(folder)).isDirectory()
  } catch (error) {
    return hasErrorCode(error, 'ENOENT', 'ENOTDIR')
  }
}
