// A step that failed: what of it is kept to look at, and what is said of it.
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { Step } from '../core/plan.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
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
  return await context.store.keepFailure(work, failure, job.keepFailed)
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
  return { failure, error: failureError(job.step, failed, log.last), lastLines: [...log.last] }
}

function failureError(step: Step, failed: Failed, lastLines: readonly string[]): VlbError {
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
  const how =
    failed.exitCode > 128 ? `was killed by signal ${failed.exitCode - 128}` : `ended with status ${failed.exitCode}`
  const full = lastLines.some((line) => /No space left on device/i.test(line))
  const size = step.inputs.size === undefined ? '' : ` (now ${formatBytes(step.inputs.size)})`
  return new VlbError('VLB_LAYER_FAILED', `${script} ${how}`, {
    hint: full
      ? `the image's disk is full: raise disk.size in vlb.yaml${size}; whole log: git vlb log ${step.name}`
      : `whole log: git vlb log ${step.name}`,
  })
}
