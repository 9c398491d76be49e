// git vlb status
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function status(context: CommandContext, [revision]: string[], options: Options): Promise<CommandResult> {
  const { status: run } = await import('../build/status.ts')
  const env = readValues(options)
  return {
    kind: 'status',
    data: await withProject(context, (project) => run(project, { revision, env, remote: options['remote'] === true })),
  }
}
