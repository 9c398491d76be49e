// Declared values as the command line gives them.
import { printable, VlbError } from '../core/errors.ts'
import { list } from './context.ts'
import type { Options } from './table.ts'

/** All of `--env NAME=VALUE`; the last one of a name holds. */
export function readValues(options: Options): Record<string, string> {
  const values: Record<string, string> = {}
  for (const assignment of list(options, 'env')) {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(assignment)
    if (!match?.[1])
      throw new VlbError('VLB_USAGE', `--env takes NAME=VALUE, not "${printable(assignment)}"`, {
        hint: 'NAME as a layer declares it, # vlb: env NAME; see: git vlb build -h',
      })
    values[match[1]] = match[2] ?? ''
  }
  return values
}
