// git vlb init: a project that builds as it is.
import { readFile, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { configFile } from '../core/config.ts'
import { VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import { createRepository, openRepository } from '../git/repo.ts'
import { makeFolders } from '../host/files.ts'
import { Scratch } from '../host/scratch.ts'
import { type CommandContext, choice } from './context.ts'
import type { Options } from './table.ts'
import { type Content, contentOf, targetName, templateFiles, writeFileOf } from './templates.ts'

export const templateNames = ['debian', 'busybox', 'url'] as const

export async function init(context: CommandContext, [folder]: string[], options: Options): Promise<CommandResult> {
  const template = choice(options, 'template', templateNames) ?? 'debian'
  const directory = resolve(context.cwd, folder ?? '.')
  const { root, files } = await templateFiles(template)
  const targets = files.map(targetName)
  const contents = await Promise.all(files.map((file) => contentOf(join(root, file))))
  const there = await refuseToOverwrite(directory, targets, contents)
  await makeFolders(directory)
  const createdRepository = await ensureRepository(directory)
  const scratch = new Scratch(directory)
  try {
    // vlb.yaml is the last: with it a project is complete.
    for (const [i, target] of targets.entries()) {
      const path = join(directory, target)
      if (target !== configFile && !there.has(target))
        await writeFileOf(contents[i] as Content, path, scratch.beside(path))
    }
    const path = join(directory, configFile)
    await writeFileOf(contents[targets.indexOf(configFile)] as Content, path, scratch.beside(path))
  } finally {
    await scratch.close()
  }
  return { kind: 'init', data: { directory, template, files: targets, createdRepository } }
}

/**
 * Looks at all files before it writes the first: nothing is half done. Where there is no vlb.yaml yet, files that are just
 * as they would be written are taken for those of an init that was cut off; returns their names.
 */
async function refuseToOverwrite(directory: string, targets: string[], contents: Content[]): Promise<Set<string>> {
  const there = new Set<string>()
  for (const [i, target] of targets.entries()) {
    const path = join(directory, target)
    if (!(await stat(path).catch(() => undefined))) continue
    if (target !== configFile && (await readFile(path).catch(() => undefined))?.equals(contents[i]?.bytes as Buffer)) {
      there.add(target)
      continue
    }
    throw new VlbError('VLB_EXISTS', `${join(directory, target)} is there already; nothing was written`, {
      hint: 'give another folder: git vlb init DIR',
    })
  }
  return there
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
