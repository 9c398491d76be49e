// git vlb changelog
import { extname, resolve } from 'node:path'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, choice, text, withProject } from './context.ts'
import type { Options } from './table.ts'

export async function changelog(context: CommandContext, [range]: string[], options: Options): Promise<CommandResult> {
  const run = await import('../build/changelog.ts')
  const output = text(options, 'output')
  const named = run.changelogFormats.find((format) => `.${format}` === extname(output ?? ''))
  const format = choice(options, 'format', run.changelogFormats) ?? named ?? 'md'
  return await withProject(context, async (project) => {
    const data = await run.changelog(project, range)
    const written = run.changelogText(data, format)
    if (output === undefined) return { kind: 'changelog', data, text: written, output: null }
    const path = resolve(context.cwd, output)
    await run.writeChangelog(project, path, written)
    return { kind: 'changelog', data, text: '', output: path }
  })
}
