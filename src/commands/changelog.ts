// git vlb changelog
import { extname, resolve } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, choice, list, text, withProject } from './context.ts'
import { readSecrets } from './secrets.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function changelog(context: CommandContext, [range]: string[], options: Options): Promise<CommandResult> {
  const run = await import('../build/changelog.ts')
  const output = text(options, 'output')
  const named = run.changelogFormats.find((format) => `.${format}` === extname(output ?? ''))
  const format = choice(options, 'format', run.changelogFormats) ?? named ?? 'md'
  const given = { env: readValues(options), secrets: await readSecrets(list(options, 'secret'), context.cwd) }
  const files = options['files'] === true
  if (!files && (Object.keys(given.env).length > 0 || given.secrets.size > 0)) {
    throw new VlbError('VLB_USAGE', '--env and --secret are for what --files has to build', {
      hint: 'add --files, or leave them out',
    })
  }
  return await withProject(context, async (project) => {
    const data = await run.changelog(project, range, { files: files ? given : undefined })
    const written = run.changelogText(data, format)
    if (output === undefined) return { kind: 'changelog', data, text: written, output: null }
    const path = resolve(context.cwd, output)
    const { writeOutput } = await import('../build/output.ts')
    await writeOutput(project, path, written)
    return { kind: 'changelog', data, text: '', output: path }
  })
}
