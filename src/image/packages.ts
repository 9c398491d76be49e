// What the runner found of an image's packages, in the folder `work`/packages: a text for each database, and `state`, by
// which two disks' databases are compared without reading them.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Databases, type PackageList, packageList, rpmQuery } from '../core/packages.ts'

const folder = 'packages'

/** Asks the runner to look, unless the databases are as `known` says. */
export async function askForPackages(work: string, known: string | undefined): Promise<void> {
  await mkdir(join(work, folder))
  await writeFile(join(work, folder, 'known'), known ?? '')
  await writeFile(join(work, folder, 'query'), rpmQuery)
}

export interface FoundPackages {
  state: string
  /** Undefined if the databases are as they were known to be. */
  list: PackageList | undefined
}

/** Undefined if the runner did not look. */
export async function foundPackages(work: string, known: string | undefined): Promise<FoundPackages | undefined> {
  const read = (name: string) => readFile(join(work, folder, name), 'utf8').catch(() => undefined)
  const state = (await read('state'))?.trim()
  if (state === undefined) return undefined
  if (state === known) return { state, list: undefined }
  const databases: Databases = {}
  for (const name of ['dpkg', 'apk', 'pacman', 'rpm', 'os', 'problem'] as const) {
    const text = await read(name)
    if (text !== undefined) databases[name] = text
  }
  return { state, list: packageList(databases) }
}
