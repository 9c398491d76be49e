// git vlb diff
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { BuildContext } from '../build/context.ts'
import { VlbError } from '../core/errors.ts'
import type { CommandResult, DiffResult } from '../core/results.ts'
import { type CommandContext, list, withProject } from './context.ts'
import { readSecrets } from './secrets.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

interface Operands {
  from: string
  /** Undefined for the working tree. */
  to: string | undefined
  path: string | undefined
}

export async function diff(context: CommandContext, given: string[], options: Options): Promise<CommandResult> {
  const [{ diffTrees }, { openSides }] = await Promise.all([import('../build/diff.ts'), import('../build/operands.ts')])
  const operands = await readOperands(context.cwd, given)
  const { from, to } = operands
  const sideOptions = {
    cwd: context.cwd,
    env: readValues(options),
    secrets: await readSecrets(list(options, 'secret'), context.cwd),
  }
  return await withProject(context, async (project: BuildContext) => {
    await project.store.prepare()
    const [a, b] = await openSides(project, [from, to], sideOptions)
    const path = operands.path === undefined ? undefined : Buffer.from(operands.path).toString('latin1')
    const patch = options['patch'] === true
    const { changes, single, patches } = await diffTrees(project, a, b, {
      ...(path === undefined ? {} : { path }),
      digests: context.json,
      patches: context.json ? 'none' : patch ? 'all' : 'single',
    })
    const form = formOf(options, patch || single)
    const exitStatus = options['exitCode'] === true && changes.length > 0 ? 1 : 0
    return { kind: 'diff', data: { from: a.label, to: b.label, changes, patches, form, exitStatus } }
  })
}

function formOf(options: Options, patch: boolean): DiffResult['form'] {
  if (options['nameStatus'] === true) return 'name-status'
  if (options['stat'] === true) return 'stat'
  return patch ? 'patch' : 'list'
}

/** `A B PATH`, or `A..B PATH`; without B the working tree, without both what HEAD and it make. */
async function readOperands(cwd: string, given: string[]): Promise<Operands> {
  const [first = 'HEAD', ...others] = given
  const dots = first.indexOf('..')
  if (dots > 0 && !first.includes('...') && !(await stat(resolve(cwd, first)).catch(() => undefined))) {
    const [path, more] = others
    if (more !== undefined) throw tooMany()
    return { from: first.slice(0, dots), to: first.slice(dots + 2) || 'HEAD', path }
  }
  const [to, path, more] = others
  if (more !== undefined) throw tooMany()
  return { from: first, to, path }
}

function tooMany(): VlbError {
  return new VlbError('VLB_USAGE', 'too many operands: there is one path at most', {
    hint: 'git vlb diff A B PATH, or git vlb diff A..B PATH',
  })
}
