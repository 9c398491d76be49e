// git vlb prebuild
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'

export async function prebuild(context: CommandContext, _: string[], options: Options): Promise<CommandResult> {
  const { prebuild: run } = await import('../build/prebuild.ts')
  const hook = options['hook'] === true
  return { kind: 'prebuild', data: await withProject(context, (project) => run(project, { hook })) }
}
