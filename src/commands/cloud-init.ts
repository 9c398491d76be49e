// git vlb cloud-init
import { resolve } from 'node:path'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, text, withProject } from './context.ts'
import type { Options } from './table.ts'

export async function cloudInit(context: CommandContext, _: string[], options: Options): Promise<CommandResult> {
  const { writeSeed } = await import('../build/cloud-init.ts')
  const given = text(options, 'output')
  const output = given === undefined ? undefined : resolve(context.cwd, given)
  const data = await withProject(context, (project) =>
    writeSeed(project, { output, schema: options['schema'] !== false }),
  )
  return { kind: 'cloud-init', data }
}
