// git vlb rollup
import type { BuildContext } from '../build/context.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, list, text, withProject } from './context.ts'
import { readSecrets } from './secrets.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function rollup(
  context: CommandContext,
  [range = '']: string[],
  options: Options,
): Promise<CommandResult> {
  const engine = () => import('../build/rollup.ts')
  const request = {
    range,
    name: text(options, 'name'),
    message: text(options, 'message'),
    dryRun: options['dryRun'] === true,
    commit: options['commit'] !== false,
    env: readValues(options),
    secrets: await readSecrets(list(options, 'secret'), context.cwd),
  }
  const work = async (project: BuildContext) => (await engine()).rollup(project, request)
  return { kind: 'rollup', data: await withProject(context, work, { preload: engine }) }
}
