// git vlb log: the log of a layer's snapshot or of its failure; without a layer, of the last failure.
import { readFile } from 'node:fs/promises'
import type { BuildContext } from '../build/context.ts'
import { VlbError } from '../core/errors.ts'
import { findLayer, giveValue, needsValue, noKey } from '../core/plan.ts'
import type { CommandResult, LogResult } from '../core/results.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function log(context: CommandContext, [layer]: string[], options: Options): Promise<CommandResult> {
  const env = readValues(options)
  const data = await withProject(context, (project) =>
    layer === undefined ? lastFailure(project) : layerLog(project, layer, env),
  )
  return { kind: 'log', data }
}

async function lastFailure({ store }: BuildContext): Promise<LogResult> {
  const failure = await store.lastFailure()
  if (!failure)
    throw new VlbError('VLB_NOTHING_LOGGED', 'no failed build is kept', {
      hint: 'the log of a layer: git vlb log LAYER',
    })
  return await read(failure.layer, failure.key, true, failure.log)
}

async function layerLog(context: BuildContext, wanted: string, env: Record<string, string>): Promise<LogResult> {
  const [{ loadWorkingTree }, { surveyChain }] = await Promise.all([
    import('../build/project.ts'),
    import('../build/chain.ts'),
  ])
  const source = await loadWorkingTree(context.project)
  try {
    const { name } = findLayer(source.layers, wanted)
    const chain = await surveyChain(context, source, env)
    const at = chain.steps.findIndex((step) => step.name === name)
    const [step, snapshot] = [chain.steps[at], chain.found[at]]
    const failure = step && step.key !== noKey && (await context.store.failure(step.key))
    if (failure) return await read(name, step.key, true, failure.log)
    if (step && snapshot) return await read(name, step.key, false, snapshot.log)
    // Its files, or what it stands on, changed since it failed: what went wrong is still what the user asks for.
    const earlier = await context.store.lastFailure()
    if (earlier?.layer === name) return await read(name, earlier.key, true, earlier.log)
    const lacking = chain.steps.find((one) => one.lacks !== undefined)
    if (step?.key === noKey && lacking?.lacks !== undefined) {
      throw new VlbError('VLB_ENV', `${lacking.name} ${needsValue(lacking.lacks)}`, { hint: giveValue(lacking.lacks) })
    }
    throw new VlbError('VLB_NOTHING_LOGGED', `${name} as it is now was not built yet`, {
      hint: 'see why: git vlb status; build it: git vlb build',
    })
  } finally {
    await source.objects.close()
  }
}

async function read(layer: string, key: string, failed: boolean, path: string): Promise<LogResult> {
  return { layer, key, failed, path, text: await readFile(path, 'utf8') }
}
