// git vlb init: a project that builds as it is.
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import { createRepository, openRepository } from '../git/repo.ts'
import { makeFolders } from '../host/files.ts'
import { type CommandContext, choice } from './context.ts'
import type { Options } from './table.ts'
import { copyTemplate, targetName, templateFiles } from './templates.ts'

export const templateNames = ['debian', 'busybox', 'url'] as const

export async function init(context: CommandContext, [folder]: string[], options: Options): Promise<CommandResult> {
  const template = choice(options, 'template', templateNames) ?? 'debian'
  const directory = resolve(context.cwd, folder ?? '.')
  const { root, files } = await templateFiles(template)
  const targets = files.map(targetName)
  await refuseToOverwrite(directory, targets)
  await makeFolders(directory)
  const createdRepository = await ensureRepository(directory)
  for (const [i, file] of files.entries()) await copyTemplate(join(root, file), join(directory, targets[i] ?? file))
  return { kind: 'init', data: { directory, template, files: targets, createdRepository } }
}

/** Looks at all files before it writes the first: nothing is half done. */
async function refuseToOverwrite(directory: string, targets: string[]): Promise<void> {
  for (const target of targets) {
    if (!(await stat(join(directory, target)).catch(() => undefined))) continue
    throw new VlbError('VLB_EXISTS', `${join(directory, target)} is there already; nothing was written`, {
      hint: 'give another folder: git vlb init DIR',
    })
  }
}

async function ensureRepository(directory: string): Promise<boolean> {
  try {
    const repository = await openRepository(directory)
    if (repository.worktree !== undefined) return false
    throw new VlbError('VLB_BARE', `${directory} lies in a bare repository`, { hint: 'go to a working tree' })
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_NOT_A_REPOSITORY') throw error
    await createRepository(directory)
    return true
  }
}
