// git vlb pull
import { resolve } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, onlyWith, text, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function pull(context: CommandContext, [revision]: string[], options: Options): Promise<CommandResult> {
  const env = readValues(options)
  const tag = text(options, 'image')
  if (tag === undefined) {
    onlyWith(options, 'image', ['output'])
    const { pull: run } = await import('../build/pull.ts')
    return { kind: 'pull', data: await withProject(context, (project) => run(project, { revision, env })) }
  }
  if (revision !== undefined) {
    throw new VlbError('VLB_USAGE', `the tag says which image is pulled: "${printable(revision)}" is too much`, {
      hint: `git vlb pull --image ${printable(tag)}`,
    })
  }
  const { pullImage } = await import('../build/pull-image.ts')
  const output = text(options, 'output')
  const request = { tag, output: output === undefined ? undefined : resolve(context.cwd, output) }
  return { kind: 'pull-image', data: await withProject(context, (project) => pullImage(project, request)) }
}
