// What is needed to build a step, and what becomes of its script.
import { chooseRoot, type DiskLayout } from '../core/disk.ts'
import type { VlbError } from '../core/errors.ts'
import { printable } from '../core/errors.ts'
import type { BaseRecord } from '../core/manifest.ts'
import type { Step } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results-build.ts'
import { proxyEnvironment } from '../host/env.ts'
import type { Limit, ScriptRun } from '../image/sandbox.ts'
import { type BackingReference, baseFolder, baseReference, snapshotReference } from '../store/places.ts'
import type { Failure, Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'

/** What a step stands on. */
export type Ground = { snapshot: Snapshot } | { base: BaseRecord } | undefined

export interface StepJob {
  step: Step
  ground: Ground
  /** Scratch folder of the step; holds `src/` if the step has a script. */
  work: string
  /** disk.root of vlb.yaml. */
  root: string | undefined
  label: string
  keepFailed: boolean
  /** Secrets the step's script may read, by id. */
  secrets: ReadonlyMap<string, Buffer>
  /** Writes the step's files to a scratch folder once more: the script may have changed those it was given. */
  writeSources: (work: string) => Promise<void>
}

/** `steps`: what was done for each step of a rolled-up layer. */
export type StepOutcome = { seconds: number; steps?: BuiltLayer[] } & (
  | { snapshot: Snapshot }
  | { failure: Failure; error: VlbError; lastLines: string[] }
)

/** What a build leaves in its scratch folder that is not of the snapshot. */
export const leavings = ['ns', 'src', 'include', 'packages', 'caches', 'mounts', 'scratch', 'index', 'objects']

export interface Failed {
  exitCode: number
  timeout?: number
  /** Bytes that were free in the image's root file system. */
  free?: number | undefined
  /** What it wanted more of than it may have. */
  limits?: readonly Limit[]
}

export function parentOf({ ground }: StepJob): Snapshot | undefined {
  return ground && 'snapshot' in ground ? ground.snapshot : undefined
}

/** The layout of what a step stands on. */
export function groundLayout(job: StepJob): DiskLayout {
  if (!job.ground) throw new Error(`${job.step.name} stands on nothing`)
  if ('snapshot' in job.ground) return job.ground.snapshot.manifest.disk
  return chooseRoot(job.ground.base.disk, job.root, `the base ${printable(job.ground.base.source)}`)
}

export function backingOf({
  ground,
}: Pick<StepJob, 'ground'>): (BackingReference & { format: 'qcow2' | 'raw' }) | undefined {
  if (!ground) return undefined
  if ('snapshot' in ground) return { ...snapshotReference(ground.snapshot.manifest.id), format: 'qcow2' }
  return { ...baseReference(ground.base.digest, ground.base.file), format: ground.base.imageFormat }
}

export function groundFile(context: BuildContext, ground: Ground): string {
  if (!ground) throw new Error('a layer that stands on nothing')
  if ('snapshot' in ground) return ground.snapshot.file
  return context.store.path('bases', baseFolder(ground.base.digest), ground.base.file)
}

export function layerOf(step: Step) {
  if (!step.layer) throw new Error(`step ${step.name} has no layer`)
  return step.layer
}

export function scriptRun(step: Step): ScriptRun {
  const { directives, interpreter } = layerOf(step)
  const { network, hostname = 'localhost' } = directives
  return { script: 'build-layer', interpreter, network, hostname, env: scriptEnvironment(step, '/run/vlb-include') }
}

/** `include`: where the script finds what its include directives name. */
export function scriptEnvironment(step: Step, include: string): Record<string, string> {
  return {
    ...standardEnvironment(layerOf(step).name),
    ...(step.inputs.includes ? { VLB_INCLUDE: include } : {}),
    ...step.inputs.env,
  }
}

/** What every script of a layer finds in its environment. */
export function standardEnvironment(layer: string): Record<string, string> {
  return {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    LANG: 'C.UTF-8',
    DEBIAN_FRONTEND: 'noninteractive',
    SYSTEMD_OFFLINE: '1',
    ...proxyEnvironment(),
    VLB_LAYER: layer,
  }
}
