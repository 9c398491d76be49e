// git vlb gc
import { parseBudget } from '../core/gc.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, text, withProject } from './context.ts'
import type { Options } from './table.ts'

export async function gc(context: CommandContext, _: string[], options: Options): Promise<CommandResult> {
  const given = text(options, 'budget')
  const budget = given === undefined ? undefined : (parseBudget(given, '--budget') ?? ('none' as const))
  const { collect } = await import('../build/gc.ts')
  const wish = { budget, dryRun: options['dryRun'] === true, prune: options['prune'] === true }
  return { kind: 'gc', data: await withProject(context, (project) => collect(project, wish)) }
}
