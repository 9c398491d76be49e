// git vlb log: the log of a layer's snapshot or of its failure; without a layer, of the last failure.
import { readFile } from 'node:fs/promises'
import type { Chain } from '../build/chain.ts'
import type { BuildContext } from '../build/context.ts'
import { VlbError } from '../core/errors.ts'
import { stepsFolder } from '../core/layer.ts'
import { findLayer, giveValue, needsValue, noKey, type Step } from '../core/plan.ts'
import type { CommandResult, LogResult } from '../core/results.ts'
import { logHeading, splitLog, stepPath } from '../core/rolled-up.ts'
import { failureOfKey, lastFailure } from '../store/failures.ts'
import type { Snapshot } from '../store/store.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function log(context: CommandContext, [layer]: string[], options: Options): Promise<CommandResult> {
  const env = readValues(options)
  const data = await withProject(context, (project) =>
    layer === undefined ? logOfLastFailure(project) : layerLog(project, layer, env),
  )
  return { kind: 'log', data }
}

async function logOfLastFailure({ store }: BuildContext): Promise<LogResult> {
  const failure = await lastFailure(store)
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
    const [folder = '', part] = wanted.replace(/\/+$/, '').split(`/${stepsFolder}/`)
    const layer = findLayer(source.layers, folder)
    const name = part === undefined ? layer.name : stepPath(layer.name, findLayer(layer.steps ?? [], part).name)
    const chain = await surveyChain(context, source, env)
    const at = chain.steps.findIndex((step) => step.name === layer.name)
    const [whole, snapshot] = [chain.steps[at], chain.found[at]]
    const step = part === undefined ? whole : whole?.inner?.find((one) => one.name === name)
    if (step && step === whole && snapshot) {
      const failure = await failureOfKey(context.store, step.key)
      return await read(name, step.key, failure !== undefined, (failure ?? snapshot).log)
    }
    const logs = await stepLogs(context, chain, step, snapshot)
    if (step && logs.length > 0) return joined(name, step, logs)
    // Its files, or what it stands on, changed since it failed: what went wrong is still what the user asks for.
    const earlier = await lastFailure(context.store)
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

/** The logs of a step that is not there as a whole: of its failure, or of what of a rolled-up layer is there. */
async function stepLogs(
  { store }: BuildContext,
  { find }: Chain,
  step: Step | undefined,
  merged: Snapshot | undefined,
): Promise<LogResult[]> {
  const logs: LogResult[] = []
  for (const one of step?.inner ?? (step ? [step] : [])) {
    // The merged snapshot knows best what it was merged from.
    const key = merged?.manifest.steps?.find(({ layer }) => layer === one.layer?.name)?.key ?? one.key
    const failure = key === noKey ? undefined : await failureOfKey(store, key)
    const log = failure?.log ?? (await find(key))?.log
    if (log !== undefined) logs.push(await read(one.name, key, failure !== undefined, log))
    else if (merged) logs.push(...(await partOfLog(one, key, merged)))
  }
  return logs
}

/** Of a step whose own snapshot is gone. */
async function partOfLog({ name, layer }: Step, key: string, { manifest, log }: Snapshot): Promise<LogResult[]> {
  // The rolled-up layer may have been renamed since.
  const paths = (manifest.steps ?? []).map((step) => stepPath(manifest.layer, step.layer))
  const whole = await read(name, key, false, log)
  const text = splitLog(whole.text, paths).get(stepPath(manifest.layer, layer?.name ?? ''))
  return text === undefined ? [] : [{ ...whole, text }]
}

function joined(name: string, { key, inner }: Step, logs: readonly LogResult[]): LogResult {
  const last = logs.at(-1) as LogResult
  if (!inner) return last
  const text = logs.map((log) => `${logHeading(log.layer)}${log.text}`).join('\n')
  return { layer: name, key, failed: logs.some(({ failed }) => failed), path: last.path, text }
}

async function read(layer: string, key: string, failed: boolean, path: string): Promise<LogResult> {
  return { layer, key, failed, path, text: await readFile(path, 'utf8') }
}
