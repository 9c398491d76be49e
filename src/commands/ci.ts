// git vlb ci github, gitlab
import { dirname, join, resolve } from 'node:path'
import { ciFiles, ciServices } from '../core/ci.ts'
import { printable, VlbError } from '../core/errors.ts'
import { nearest } from '../core/nearest.ts'
import type { CommandResult } from '../core/results.ts'
import { makeFolders, writeAtomic } from '../host/files.ts'
import { Scratch } from '../host/scratch.ts'
import { type CommandContext, list, text } from './context.ts'
import type { Options } from './table.ts'
import { writeFileOf } from './templates.ts'

export async function ci(context: CommandContext, [word = '']: string[], options: Options): Promise<CommandResult> {
  const service = ciServices.find((one) => one === word)
  if (!service) {
    throw new VlbError('VLB_USAGE', `there are workflows for github and gitlab, not for "${printable(word, 80)}"`, {
      hint: `git vlb ci ${nearest(word, ciServices) ?? 'github'}`,
    })
  }
  const { describeCi } = await import('../build/ci.ts')
  const wish = { branches: list(options, 'branch'), prune: options['prune'] === true }
  const workflow = await describeCi(context.cwd, service, wish)
  const given = text(options, 'output')
  if (given === undefined && options['write'] !== true)
    return { kind: 'ci', data: { service, path: null, text: workflow.text } }
  const path = given === undefined ? join(workflow.top, ciFiles[service]) : resolve(context.cwd, given)
  await write(path, workflow.text, options['force'] === true)
  return { kind: 'ci', data: { service, path, text: workflow.text } }
}

async function write(path: string, content: string, force: boolean): Promise<void> {
  await makeFolders(dirname(path))
  const scratch = new Scratch(dirname(path))
  try {
    if (force) return await writeAtomic(path, content, scratch.beside(path))
    await writeFileOf({ bytes: Buffer.from(content), executable: false }, path, scratch.beside(path))
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_EXISTS') throw error
    throw new VlbError('VLB_EXISTS', error.message, {
      hint: 'write it elsewhere: -o FILE; or over what is there: --force',
    })
  } finally {
    await scratch.close()
  }
}
