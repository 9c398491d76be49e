// git vlb status
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'

export async function status(context: CommandContext, [revision]: string[]): Promise<CommandResult> {
  const { status: run } = await import('../build/status.ts')
  return { kind: 'status', data: await withProject(context, (project) => run(project, revision)) }
}
