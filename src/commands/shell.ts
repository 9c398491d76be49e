// git vlb shell
import { dirname, join } from 'node:path'
import type { BuildContext } from '../build/context.ts'
import type { Typed } from '../build/shell.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, environmentValue, list, nbdDevice, text, withProject } from './context.ts'
import { nextName } from './new.ts'
import { readSecrets } from './secrets.ts'
import type { Options } from './table.ts'
import { writeLayer } from './templates.ts'
import { readValues } from './values.ts'

export async function shell(context: CommandContext, [target]: string[], options: Options): Promise<CommandResult> {
  const { openShell } = await import('../build/shell.ts')
  const name = text(options, 'record')
  const work = async (project: BuildContext): Promise<CommandResult> => {
    // A name that cannot be is said before the work of a whole session is at stake.
    const script = name === undefined ? undefined : await recordPath(project, name)
    const outcome = await openShell(project, {
      target,
      failed: options['failed'] === true,
      record: name !== undefined,
      env: readValues(options),
      secrets: await readSecrets(list(options, 'secret'), context.cwd),
      terminal: process.stdin.isTTY === true && process.stdout.isTTY === true,
      terminalType: environmentValue('TERM') ?? 'dumb',
    })
    const recorded = script !== undefined && outcome.typed.length > 0 ? script : null
    if (recorded !== null) await writeRecord(project, recorded, outcome.typed, options['edit'] !== false)
    return { kind: 'shell', data: { layer: outcome.layer, exitStatus: outcome.exitCode, recorded } }
  }
  return await withProject(context, work, { device: nbdDevice(options) })
}

async function recordPath({ project }: BuildContext, name: string): Promise<string> {
  const { layerFolders } = await import('../git/worktree.ts')
  return join(project.folder, nextName(await layerFolders(project.folder), name, undefined), 'build-layer')
}

async function writeRecord(
  { project, store }: BuildContext,
  script: string,
  typed: readonly Typed[],
  edit: boolean,
): Promise<void> {
  const { recordedScript } = await import('../build/shell.ts')
  await writeLayer(store.scratch, dirname(script), { bytes: Buffer.from(recordedScript(typed)), executable: true })
  if (!edit || process.stdin.isTTY !== true) return
  const { openEditor } = await import('../git/repo.ts')
  await openEditor(project.repo, script)
}
