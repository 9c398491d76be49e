// git vlb hooks install, uninstall, status
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import script from '../../hooks/prebuild.sh'
import type { Project } from '../build/project.ts'
import { printable, VlbError } from '../core/errors.ts'
import { type HookParts, hookNames } from '../core/hooks.ts'
import { nearest } from '../core/nearest.ts'
import { isOff } from '../core/prebuild.ts'
import type { CommandResult, HooksResult } from '../core/results.ts'
import { ownProgram } from '../host/background.ts'
import { type CommandContext, withProject } from './context.ts'

const actions = ['install', 'uninstall', 'status'] as const

export async function hooks(context: CommandContext, [word = '']: string[]): Promise<CommandResult> {
  const action = actionOf(word)
  const data = await withProject(context, ({ project }) => act(project, action))
  return { kind: 'hooks', data }
}

function actionOf(word: string): HooksResult['action'] {
  const action = actions.find((one) => one === word)
  if (action) return action
  const meant = nearest(word, actions)
  throw new VlbError('VLB_USAGE', `hooks takes install, uninstall or status, not "${printable(word)}"`, {
    hint: meant ? `git vlb hooks ${meant}` : 'git vlb hooks status',
  })
}

async function act(project: Project, action: HooksResult['action']): Promise<HooksResult> {
  const { hooksFolder, hookStates, installHooks, uninstallHooks } = await import('../git/hooks.ts')
  const folder = await hooksFolder(project.repo)
  const parts = await partsFor(project, action)
  if (action === 'install') await installHooks(folder, parts)
  if (action === 'uninstall') {
    // Where they went before somebody set core.hooksPath, too.
    for (const one of new Set([folder, join(project.repo.commonDir, 'hooks')])) await uninstallHooks(one)
    const { forgetPrebuilds } = await import('../build/prebuild-state.ts')
    await forgetPrebuilds(project)
  }
  const hooks = await hookStates(folder, parts)
  return { action, folder, hooks, notes: action === 'uninstall' ? [] : await notesOn(project, folder) }
}

async function partsFor({ folder, prefix }: Project, action: HooksResult['action']): Promise<HookParts> {
  if (action === 'install' && !(await stat(join(folder, 'vlb.yaml')).catch(() => undefined))) {
    throw new VlbError('VLB_NO_PROJECT', `no vlb.yaml in ${folder} or above it`, {
      hint: 'go to the project that the hooks are for, or start one: git vlb init',
    })
  }
  if (prefix.includes('\n')) {
    throw new VlbError('VLB_HOOKS', 'the path of the project holds a line break', { hint: 'rename its folder' })
  }
  return { script, ...ownProgram(), projects: [prefix || '.'] }
}

/** What whoever installs hooks into this folder should know. */
async function notesOn({ repo }: Project, folder: string): Promise<string[]> {
  const [{ trackedHooks }, { settingValues }] = await Promise.all([import('../git/hooks.ts'), import('../git/repo.ts')])
  const within = (top: string | undefined) => top !== undefined && `${folder}/`.startsWith(`${top}/`)
  const notes: string[] = []
  const tracked = await trackedHooks(repo, folder)
  if (tracked.length > 0) notes.push(`git holds ${tracked.join(', ')}: do not commit what was put into it`)
  if (within(repo.worktree) && !within(repo.commonDir))
    notes.push('core.hooksPath names a folder of this working tree: linked worktrees have their own')
  else if (!within(repo.commonDir))
    notes.push(`core.hooksPath names a folder outside this repository: ${hookNames.join(', ')} are shared with others`)
  const values = await settingValues(repo, 'vlb.prebuild')
  if (isOff(values)) notes.push('vlb.prebuild is false: they start nothing')
  return notes
}
