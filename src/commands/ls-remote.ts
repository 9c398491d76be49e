// git vlb ls-remote
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'

export async function lsRemote(context: CommandContext): Promise<CommandResult> {
  const { listRemote } = await import('../build/list-remote.ts')
  return { kind: 'ls-remote', data: await withProject(context, (project) => listRemote(project)) }
}
