// git vlb status
import type { BuildContext } from '../build/context.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function status(context: CommandContext, [revision]: string[], options: Options): Promise<CommandResult> {
  const engine = () => import('../build/status.ts')
  const env = readValues(options)
  const work = async (project: BuildContext) => {
    const { status: run } = await engine()
    return await run(project, { revision, env, remote: options['remote'] === true })
  }
  return { kind: 'status', data: await withProject(context, work, { preload: engine }) }
}
