// A step that failed: what of it is kept to look at, and what is said of it.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { Step } from '../core/plan.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import type { Limit } from '../image/sandbox.ts'
import { keepFailure } from '../store/failures.ts'
import type { Failure } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { type Failed, groundLayout, layerOf, leavings, type StepJob, scriptRun } from './job.ts'
import type { BuildLog } from './log.ts'

/** Puts the scratch folder among the failures, less what is of no use there. */
export async function keep(context: BuildContext, job: StepJob, exitCode: number): Promise<Failure> {
  const { step, work } = job
  for (const name of [...leavings, 'disk']) await rm(join(work, name), { recursive: true, force: true })
  await job.writeSources(work)
  const at = new Date().toISOString()
  const failure = { layer: step.name, key: step.key, at, exitCode, ...attemptOf(job) }
  return await keepFailure(context.store, work, failure, job.keepFailed)
}

function attemptOf(job: StepJob): Pick<Failure, 'attempt'> {
  if (job.step.inputs.kind !== 'build-layer') return {}
  const { env, network, hostname, interpreter } = scriptRun(job.step)
  const { secrets, mounts, binds } = layerOf(job.step).directives
  return {
    attempt: {
      disk: groundLayout(job),
      env,
      network,
      hostname,
      secrets,
      mounts,
      binds,
      ...(interpreter ? { interpreter } : {}),
    },
  }
}

export async function fail(
  context: BuildContext,
  job: StepJob,
  failed: Failed,
  log: BuildLog,
): Promise<{ failure: Failure; error: VlbError; lastLines: string[] }> {
  const failure = await keep(context, job, failed.exitCode)
  return {
    failure,
    error: failureError(job.step, failed, log.last, job.ground ? groundLayout(job).size : 0),
    lastLines: [...log.last],
  }
}

/** Of the image's own disk; the host's is another matter (watchSpace). */
function spaceHint(free: number | undefined, lastLines: readonly string[], disk: number): string {
  const told = lastLines.some((line) => /No space left on device/i.test(line))
  if (disk > 0 && (free === undefined ? told : free < 2 ** 20))
    return `the image's disk is full: raise disk.size in vlb.yaml (it has ${formatBytes(disk)})`
  return told
    ? 'something that it wrote to is full: /tmp and /run are in memory, other partitions as large as they are'
    : ''
}

function limitHint(limits: readonly Limit[] = []): string {
  if (limits.includes('memory')) return 'it ran out of memory: raise vlb.memory (git config), or run less at once'
  return limits.includes('processes') ? 'it started more processes than a script may have' : ''
}

function failureError(step: Step, failed: Failed, lastLines: readonly string[], disk: number): VlbError {
  const script = `${step.name}/${step.inputs.kind}`
  if (failed.timeout !== undefined) {
    return new VlbError(
      'VLB_LAYER_TIMEOUT',
      `${script} was ended after its timeout of ${formatSeconds(failed.timeout)}`,
      {
        hint: `see: git vlb log ${step.name}; or raise "# vlb: timeout" in the script`,
      },
    )
  }
  // A shell adds 128 to the number of a signal, of which there are 64 (signal(7)); 255 is a status of its own.
  const signal = failed.exitCode - 128
  const how = signal > 0 && signal <= 64 ? `was killed by signal ${signal}` : `ended with status ${failed.exitCode}`
  const log = `whole log: git vlb log ${step.name}`
  const reason = [limitHint(failed.limits), spaceHint(failed.free, lastLines, disk)].filter(Boolean).join('; ')
  return new VlbError('VLB_LAYER_FAILED', `${script} ${how}`, { hint: reason === '' ? log : `${reason}; ${log}` })
}
