// git vlb pull
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function pull(context: CommandContext, [revision]: string[], options: Options): Promise<CommandResult> {
  const { pull: run } = await import('../build/pull.ts')
  const env = readValues(options)
  return { kind: 'pull', data: await withProject(context, (project) => run(project, { revision, env })) }
}
