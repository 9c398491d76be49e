// git vlb push
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function push(context: CommandContext, [revision]: string[], options: Options): Promise<CommandResult> {
  const { push: run } = await import('../build/push.ts')
  const env = readValues(options)
  return { kind: 'push', data: await withProject(context, (project) => run(project, { revision, env })) }
}
