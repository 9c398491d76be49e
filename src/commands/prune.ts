// git vlb prune
import { VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, text, withProject } from './context.ts'
import type { Options } from './table.ts'

export async function prune(context: CommandContext, _: string[], options: Options): Promise<CommandResult> {
  const keepDays = parseDays(text(options, 'keepDays'))
  const { prune: run } = await import('../build/prune.ts')
  const wish = { keepDays, dryRun: options['dryRun'] === true, force: options['force'] === true }
  return { kind: 'prune', data: await withProject(context, (project) => run(project, wish)) }
}

function parseDays(given = '7'): number {
  if (/^\d{1,5}(\.\d+)?$/.test(given)) return Number(given)
  throw new VlbError('VLB_USAGE', `--keep-days takes a number of days, not "${given}"`, {
    hint: 'git vlb prune --keep-days 7',
  })
}
