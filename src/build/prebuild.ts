// `git vlb prebuild`: the layers of the working tree, without an image, at the lowest priority. Of those that hooks start
// there is one per worktree at work: a newer one replaces it, or leaves it alone where both want the same.
import { mkdir, truncate } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Interrupted, VlbError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { diskStep, noKey, type Step } from '../core/plan.ts'
import { allowsPrebuild, type PrebuildState } from '../core/prebuild.ts'
import type { BuildError, BuiltLayer, PrebuildResult } from '../core/results-build.ts'
import { currentBranch, headCommit, settingValues } from '../git/repo.ts'
import { lowerPriority, onYield, send, thisProcess, yieldSignal } from '../host/background.ts'
import { type Lock, takeLock, tryLock } from '../host/lock.ts'
import { whyNotRoot } from '../host/privilege.ts'
import { mustRebuild } from './again.ts'
import { type Chain, surveyChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { prebuildPath, runningPrebuild, writePrebuild } from './prebuild-state.ts'
import { loadWorkingTree } from './project.ts'
import { pullerFor } from './sharing.ts'
import { buildChain, type ChainResult } from './walk.ts'

export interface PrebuildOptions {
  /** As the hooks call it: heeds vlb.prebuild, and errors are for its log alone. */
  hook: boolean
}

/** What it came to, before anything of it is written down. */
interface Outcome {
  state: 'done' | 'stopped' | 'failed'
  reason: string
  layers: BuiltLayer[]
  error?: BuildError | undefined
  exitStatus?: number
}

export async function prebuild(context: BuildContext, { hook }: PrebuildOptions): Promise<PrebuildResult> {
  const started = Date.now()
  await lowerPriority()
  await context.store.prepare()
  await mkdir(dirname(prebuildPath(context.project, 'lock')), { recursive: true })
  const wanted = await wantedKeys(context).catch((error: unknown) => expected(error, []))
  const lock = await replaceOlder(context, wanted, hook)
  if (!lock) return finished({ state: 'skipped', reason: 'another prebuild is at it', layers: [] }, started)
  try {
    if (hook) await truncate(prebuildPath(context.project, 'log')).catch(() => {})
    return finished(await work(context, hook, new Date(started)), started)
  } finally {
    await lock.release()
  }
}

function finished(outcome: Omit<Outcome, 'state'> & Pick<PrebuildResult, 'state'>, started: number): PrebuildResult {
  const { exitStatus = 0, error, ...rest } = outcome
  const seconds = (Date.now() - started) / 1000
  return { ok: outcome.state !== 'failed', ...rest, ...(error ? { error } : {}), seconds, exitStatus }
}

/** The value for an error that a user can act on; others are thrown. */
function expected<T>(error: unknown, value: T): T {
  if (error instanceof VlbError) return value
  throw error
}

/** A look at the working tree as it is now. */
async function survey<T>(context: BuildContext, look: (chain: Chain) => Promise<T>): Promise<T> {
  const source = await loadWorkingTree(context.project)
  try {
    return await look(await surveyChain(context, source, {}))
  } finally {
    await source.objects.close()
  }
}

async function wantedKeys(context: BuildContext): Promise<string[]> {
  return await survey(context, async (chain) => keysOf(chain))
}

/** Of all that may be in work: a rolled-up layer's steps, too. */
function keysOf({ steps }: Chain): string[] {
  return steps.flatMap(({ key, inner = [] }) => [key, ...inner.map((step) => step.key)])
}

/**
 * The right to be the one at work, or undefined if that is not needed. An older one ends at once, or after its present
 * layer if that is wanted still; or it stays, if all that it wants is.
 */
async function replaceOlder(context: BuildContext, wanted: string[], hook: boolean): Promise<Lock | undefined> {
  const { project, signal } = context
  const lock = prebuildPath(project, 'lock')
  const free = await tryLock(lock, signal)
  if (free) return free
  const older = await runningPrebuild(project)
  if (hook && older && older.keys.join() === wanted.join()) return undefined
  if (older) await send(older, older.key !== null && wanted.includes(older.key) ? yieldSignal : 'SIGTERM')
  // Whoever waits looks at the working tree when its turn has come: one that waits is enough.
  const next = await tryLock(prebuildPath(project, 'next'), signal)
  if (hook && !next) return undefined
  try {
    return await takeLock(lock, signal, (pid) =>
      context.emit({ type: 'note', text: `waiting for the prebuild in the background (pid ${pid})` }),
    )
  } finally {
    await next?.release()
  }
}

/** Builds, and writes down all that others may want to know of it. */
async function work(context: BuildContext, hook: boolean, started: Date): Promise<Outcome> {
  const { project } = context
  const state: PrebuildState = {
    ...(await thisProcess()),
    state: 'running',
    layer: null,
    key: null,
    keys: [],
    built: [],
    reason: '',
    startedAt: started.toISOString(),
    endedAt: null,
  }
  const end = async (outcome: Outcome): Promise<Outcome> => {
    const layer = outcome.error?.layer ?? null
    const { state: how, reason } = outcome
    await writePrebuild(project, { ...state, state: how, reason, layer, key: null, endedAt: new Date().toISOString() })
    return outcome
  }
  try {
    return await end(await buildWanted(context, hook, state))
  } catch (error) {
    if (error instanceof Interrupted || context.signal.aborted) {
      await end({ state: 'stopped', reason: 'it was interrupted, or replaced by a newer one', layers: [] })
      throw error
    }
    if (!(error instanceof VlbError)) throw error
    const reason = error.hint ? `${error.message} (${error.hint})` : error.message
    const outcome = await end({ state: 'stopped', reason, layers: [] })
    if (hook) return outcome
    throw error
  }
}

async function buildWanted(outer: BuildContext, hook: boolean, state: PrebuildState): Promise<Outcome> {
  const { project } = outer
  let names: string[] = []
  const emit: Emit = (event) => {
    if (event.type === 'step-ended' && event.result === 'built' && names.includes(event.name))
      state.built.push(event.name)
    outer.emit(event)
  }
  const context = { ...outer, emit }
  let yielded = false
  onYield(() => {
    yielded = true
  })
  const source = await loadWorkingTree(project)
  try {
    const chain = await surveyChain(context, source, {})
    state.keys = keysOf(chain)
    names = chain.steps.map(({ name }) => name)
    await writePrebuild(project, state)
    const none = (how: 'done' | 'stopped', reason: string): Outcome => ({ state: how, reason, layers: [] })
    if (hook && !(await allowed(context))) return none('stopped', 'vlb.prebuild does not name this branch')
    const { last, missing, why } = bound(chain)
    if (missing === 0) return none('done', why)
    const lacking = await whyNotRoot()
    if (lacking) throw lacking
    let reason = why
    const beforeBuild = async (step: Step): Promise<boolean> => {
      if (!yielded && (await stillWanted(context, source.commit, step))) {
        await writePrebuild(project, Object.assign(state, { layer: step.name, key: step.key }))
        // Who asked while that was written saw no layer in work.
        if (!yielded) return true
      }
      reason = yielded ? 'it made way for a build' : 'what is checked out now does not want the next layer'
      return false
    }
    const options = { env: {}, rebuild: new Set<string>(), frozen: false, dryRun: false, keepFailed: false }
    const since = Date.parse(state.startedAt)
    const pull = pullerFor(context, source, options)
    const wish = { ...options, last, since, secrets: new Map(), beforeBuild, pull }
    const result = await buildChain(context, source, wish)
    return outcomeOf(result, reason)
  } finally {
    await source.objects.close()
  }
}

function outcomeOf({ layers, failed, stopped }: ChainResult, reason: string): Outcome {
  if (!failed) return { state: stopped ? 'stopped' : 'done', reason, layers }
  const { error, failure, lastLines } = failed
  const { code, message, hint } = error
  const told = {
    code,
    message,
    ...(hint === undefined ? {} : { hint }),
    layer: failure.layer,
    log: failure.log,
    lastLines,
  }
  return { state: 'failed', reason: message, layers, error: told, exitStatus: error.exitStatus }
}

async function allowed({ project }: BuildContext): Promise<boolean> {
  const values = await settingValues(project.repo, 'vlb.prebuild')
  return allowsPrebuild(values, await currentBranch(project.repo))
}

/** Nothing moved since it began, or what is checked out now wants this step, too. */
async function stillWanted(context: BuildContext, commit: string | undefined, step: Step): Promise<boolean> {
  if ((await headCommit(context.project.repo)) === commit) return true
  const keys = await wantedKeys(context).catch((error: unknown) => expected<string[]>(error, []))
  return keys.includes(step.key)
}

/** How far it goes: what is always built again, or lacks what only a person can give, is left to a build. */
function bound({ steps, found }: Chain): { last: string | undefined; missing: number; why: string } {
  const isThere = (step: Step, i: number) => {
    const snapshot = found[i]
    return snapshot !== undefined && mustRebuild(step, snapshot) === undefined
  }
  const reasons = steps.map((step, i) => (isThere(step, i) ? undefined : whyLeft(step)))
  const stop = reasons.findIndex((reason) => reason !== undefined)
  const within = steps.slice(0, stop < 0 ? steps.length : stop)
  const last = within.findLast(({ name }) => name !== diskStep)?.name
  const missing = within.filter((step, i) => !isThere(step, i)).length
  const why = stop < 0 ? '' : `${reasons[stop]}: it and what stands on it are left to a build`
  return { last, missing: last === undefined ? 0 : missing, why }
}

function whyLeft({ name, key, layer, lacks }: Step): string | undefined {
  if (key === noKey) return `${name} lacks the value ${lacks}`
  if (layer?.directives.nocache) return `${name} says nocache`
  return layer && layer.directives.secrets.length > 0 ? `${name} needs a secret` : undefined
}
