// The files that `init` and `new` write come from templates/.
import { chmod, constants, copyFile, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { hasErrorCode, VlbError } from '../core/errors.ts'

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

/** npm leaves files called .gitignore out of packages, so they have no dot here. */
export function targetName(file: string): string {
  return file.replace(/(^|\/)gitignore$/, '$1.gitignore')
}

/** Copies one file, never over another, with the mode that git would give it. */
export async function copyTemplate(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL)
  } catch (error) {
    if (!hasErrorCode(error, 'EEXIST')) throw error
    throw new VlbError('VLB_EXISTS', `${to} is there already`, { hint: 'choose another name, or move it away' })
  }
  await chmod(to, (await stat(from)).mode & 0o100 ? 0o755 : 0o644)
}
