// git vlb push
import packageJson from '../../package.json' with { type: 'json' }
import { imageFormats } from '../core/output.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, choice, onlyWith, text, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function push(context: CommandContext, [revision]: string[], options: Options): Promise<CommandResult> {
  const env = readValues(options)
  const tag = text(options, 'image')
  if (tag === undefined) {
    onlyWith(options, 'image', ['force', 'format'])
    const { push: run } = await import('../build/push.ts')
    return { kind: 'push', data: await withProject(context, (project) => run(project, { revision, env })) }
  }
  const { pushImage } = await import('../build/push-image.ts')
  const format = choice(options, 'format', imageFormats)
  const request = { tag, revision, env, format, force: options['force'] === true, version: packageJson.version }
  return { kind: 'push-image', data: await withProject(context, (project) => pushImage(project, request)) }
}
