// Builds a rolled-up layer: each of its steps as a snapshot of its own, as if it stood beside the others, and then all of
// them merged into one. So a failure keeps what succeeded before it, a modify-disk step sees the disk as its predecessor
// left it, and steps that are in the store already, as after `git vlb rollup`, are merged without running a script.
import { randomBytes } from 'node:crypto'
import { copyFile, link, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { Manifest, MergedStep } from '../core/manifest.ts'
import { packagesName } from '../core/packages.ts'
import type { Step } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results-build.ts'
import { logHeading } from '../core/rolled-up.ts'
import { allocatedBytes, sync } from '../host/files.ts'
import { flushMeanwhile } from '../host/flush.ts'
import { stampOverlay } from '../host/tables.ts'
import { checkImage, copyDisk, rebaseOverlay, renameBacking, sameDisk } from '../image/qcow2.ts'
import { hashBody, overlayDigest } from '../store/digest.ts'
import { type BackingReference, logName, overlayName, snapshotReference } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { backingOf, type Ground, parentOf, type StepJob, type StepOutcome } from './job.ts'
import { cached, ended } from './outcome.ts'
import { requireRoomToMerge } from './room.ts'
import { freeId, standsOn } from './step.ts'

/** What is known of steps that were merged before and may be gone since, by key. */
export type KnownSteps = ReadonlyMap<string, MergedStep & { log?: string | undefined }>

/** How the steps of one rolled-up layer are made; it comes from the chain, of which they are a part. */
export interface InnerSteps {
  /** The steps with their keys as things stand now, and which of them are there. */
  plan: () => Promise<{ steps: Step[]; found: (Snapshot | undefined)[] }>
  again: (step: Step, there: Snapshot | undefined) => boolean
  known: KnownSteps
  make: (step: Step, ground: Ground, there: Snapshot | undefined) => Promise<StepOutcome & { built: boolean }>
}

export async function buildRolledUp(context: BuildContext, job: StepJob, inner: InnerSteps): Promise<StepOutcome> {
  const { label } = job
  const started = Date.now()
  const seconds = () => (Date.now() - started) / 1000
  context.emit({ type: 'step-started', label, name: job.step.name })
  let plan = await inner.plan()
  const start = firstToRun(plan.steps, plan.found, inner.again)
  const made: Made[] = plan.steps.slice(0, start).map((step, i) => ({ step, snapshot: plan.found[i] }))
  const steps: BuiltLayer[] = made.map(({ step, snapshot }) => cached(context, label, step, snapshot))
  let top = made.at(-1)?.snapshot
  for (let i = start; i < plan.steps.length; i++) {
    const step = plan.steps[i] as Step
    const there = plan.found[i]
    const ground: Ground = top ? { snapshot: top } : job.ground
    const outcome =
      there && !inner.again(step, there)
        ? { snapshot: there, seconds: 0, built: false }
        : await inner.make(step, ground, there)
    steps.push(ended(context, label, step, outcome))
    if ('failure' in outcome) return { ...outcome, steps, seconds: seconds() }
    top = outcome.snapshot
    made.push({ step, snapshot: top })
    plan = await inner.plan()
  }
  if (!top) throw new Error(`${job.step.name} is made of nothing`)
  return { snapshot: await merge(context, job, made, top, inner.known), steps, seconds: seconds() }
}

/**
 * The first step whose script has to run. Below one that is there, the others need not be: they were merged once, and
 * dropped. `again` says whether one has to run although it is there, or whether or not it is.
 */
export function firstToRun(
  steps: readonly Step[],
  found: readonly (Snapshot | undefined)[],
  again: InnerSteps['again'],
): number {
  const first = steps.findIndex((step, i) => again(step, found[i]))
  return found.slice(0, first < 0 ? found.length : first).findLastIndex((there) => there) + 1
}

interface Made {
  step: Step
  /** Undefined for one that is gone; never the last. */
  snapshot: Snapshot | undefined
}

/** One overlay on the job's ground, equal to the last step's disk bit by bit. */
async function merge(
  context: BuildContext,
  job: StepJob,
  made: readonly Made[],
  top: Snapshot,
  known: KnownSteps,
): Promise<Snapshot> {
  const { step, label, work } = job
  const backing = backingOf(job)
  if (!backing) throw new Error(`${step.name} stands on nothing`)
  const told = made.length === 1 ? 'taken over from its one step' : `merging ${made.length} snapshots into one`
  context.emit({ type: 'step-output', label, name: step.name, line: told })
  const overlay = join(work, overlayName)
  await requireRoomToMerge(context, top, parentOf(job)?.manifest.id)
  await copyDisk(join(context.store.path('snapshots', top.manifest.id), overlayName), overlay, context.signal)
  const below = referenceBelow(top, backing)
  await renameBacking(overlay, below.stored, below.building, formatBelow(top, backing.format), context.signal)
  await flushMeanwhile(overlay, rebaseOverlay(overlay, backing.building, backing.format, context.signal))
  // The flush, which the store would wait for, takes as long as the comparison.
  const body = hashBody(overlay, context.signal)
  const [same] = await Promise.all([
    sameDisk(top.file, overlay, context.signal),
    checkImage(overlay, context.signal),
    sync(overlay),
    body,
  ])
  if (!same) {
    throw new VlbError('VLB_STORE_DAMAGED', `the merged snapshot of ${step.name} is not the disk that its steps left`, {
      hint: `nothing was kept; build its steps anew: git vlb build --rebuild ${step.name}`,
    })
  }
  await renameBacking(overlay, backing.building, backing.stored, backing.format, context.signal)
  await writeFile(join(work, logName), await logsOf(made, known))
  const packages = await takePackages(context, top, work)
  const described = await describe(context, job, recordOf(made, top, known), top)
  stampOverlay(overlay, described.nonce)
  return await context.store.put(work, {
    ...described,
    digest: await overlayDigest(overlay, body),
    ...packages,
  })
}

/** How the copied overlay names what it stood on. */
function referenceBelow({ manifest }: Snapshot, otherwise: BackingReference): BackingReference {
  return manifest.parent === undefined ? otherwise : snapshotReference(manifest.parent)
}

function formatBelow({ manifest }: Snapshot, otherwise: 'qcow2' | 'raw'): 'qcow2' | 'raw' {
  return manifest.parent === undefined ? otherwise : 'qcow2'
}

async function describe(
  context: BuildContext,
  { step, work, ground }: StepJob,
  steps: MergedStep[],
  top: Snapshot,
): Promise<Manifest> {
  const overlay = join(work, overlayName)
  const { contentId, disk } = top.manifest
  return {
    format: 1,
    id: await freeId(context, step.key),
    key: step.key,
    // What it is, it was before: what stands on the last step stands on this one just as well.
    contentId,
    nonce: randomBytes(16).toString('hex'),
    inputs: step.inputs,
    layer: step.name,
    project: context.project.folder,
    disk,
    fileBytes: (await stat(overlay)).size,
    bytes: await allocatedBytes(overlay),
    seconds: steps.reduce((sum, { seconds }) => sum + seconds, 0),
    builtAt:
      steps
        .map(({ builtAt }) => builtAt)
        .sort()
        .at(-1) ?? new Date().toISOString(),
    ...standsOn(ground),
    steps,
  }
}

function recordOf(made: readonly Made[], top: Snapshot, known: KnownSteps): MergedStep[] {
  return made.map(({ step, snapshot }) => {
    // Of one that is gone and that nobody remembers, its age is at least that of what stands on it.
    const gone = { key: step.key, contentId: step.content, seconds: 0, builtAt: top.manifest.builtAt }
    const { key, contentId, seconds, builtAt } = snapshot?.manifest ?? known.get(step.key) ?? gone
    return { layer: step.layer?.name ?? '', key, contentId, seconds, builtAt }
  })
}

async function logsOf(made: readonly Made[], known: KnownSteps): Promise<string> {
  const logs = made.map(async ({ step, snapshot }) => {
    const text = snapshot ? await readFile(snapshot.log, 'utf8') : (known.get(step.key)?.log ?? '(its log is gone)')
    return logHeading(step.name) + (text === '' || text.endsWith('\n') ? text : `${text}\n`)
  })
  return (await Promise.all(logs)).join('\n')
}

/** The same disk has the same packages. */
async function takePackages(context: BuildContext, top: Snapshot, work: string): Promise<Pick<Manifest, 'packages'>> {
  const { id, packages } = top.manifest
  if (!packages) return {}
  const [from, to] = [context.store.path('snapshots', id, packagesName), join(work, packagesName)]
  await link(from, to).catch(() => copyFile(from, to))
  return { packages }
}
