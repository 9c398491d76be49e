// The files that `init` and `new` write come from templates/.
import { chmod, mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { explainWriteError, moveInto, moveIntoNew, writeDown } from '../host/files.ts'
import type { Scratch } from '../host/scratch.ts'

/** templates/ lies beside dist/ and beside src/. */
async function templatesFolder(): Promise<string> {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== dirname(folder); folder = dirname(folder)) {
    if ((await stat(join(folder, 'templates')).catch(() => undefined))?.isDirectory()) return join(folder, 'templates')
  }
  throw new Error('the folder templates/ is missing from this installation')
}

/** Names of all files of a template, relative to it. */
export async function templateFiles(template: string): Promise<{ root: string; files: string[] }> {
  const root = join(await templatesFolder(), template)
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const files = entries.filter((e) => e.isFile()).map((e) => join(e.parentPath, e.name).slice(root.length + 1))
  return { root, files: files.sort() }
}

export interface Content {
  bytes: Buffer
  executable: boolean
}

/** A file with the mode that git would give it. */
export async function contentOf(path: string): Promise<Content> {
  return { bytes: await readFile(path), executable: ((await stat(path)).mode & 0o100) !== 0 }
}

/** npm leaves files called .gitignore out of packages, so they have no dot here. */
export function targetName(file: string): string {
  return file.replace(/(^|\/)gitignore$/, '$1.gitignore')
}

/** Writes one file of a project, whole or not at all and never over another, by way of the path `temporary`. */
export async function writeFileOf(content: Content, to: string, temporary: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  try {
    await writeDown(temporary, content.bytes)
    await chmod(temporary, content.executable ? 0o755 : 0o644)
    await moveIntoNew(temporary, to)
  } catch (error) {
    if (hasErrorCode(error, 'EEXIST')) throw isThere(to)
    throw explainWriteError(error, to)
  }
}

/** Writes the folder of a new layer with its script: complete or not there, for half a layer would be one all the same. */
export async function writeLayer(scratch: Scratch, folder: string, script: Content): Promise<string> {
  const temporary = scratch.beside(folder)
  try {
    await mkdir(temporary)
    await writeDown(join(temporary, 'build-layer'), script.bytes)
    await chmod(join(temporary, 'build-layer'), script.executable ? 0o755 : 0o644)
    await moveInto(temporary, folder)
  } catch (error) {
    if (hasErrorCode(error, 'EEXIST', 'ENOTEMPTY')) throw isThere(folder)
    throw explainWriteError(error, folder)
  }
  return join(folder, 'build-layer')
}

function isThere(path: string): VlbError {
  return new VlbError('VLB_EXISTS', `${path} is there already`, { hint: 'choose another name, or move it away' })
}
