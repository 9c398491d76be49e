// Builds a rolled-up layer: each of its steps as a snapshot of its own, as if it stood beside the others, and then all of
// them merged into one. So a failure keeps what succeeded before it, a modify-disk step sees the disk as its predecessor
// left it, and steps that are in the store already, as after `git vlb rollup`, are merged without running a script.
import { randomBytes } from 'node:crypto'
import { copyFile, link, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { Manifest } from '../core/manifest.ts'
import { packagesName } from '../core/packages.ts'
import type { Step } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results.ts'
import { logHeading } from '../core/rolled-up.ts'
import { allocatedBytes } from '../host/files.ts'
import { checkImage, copyOverlay, nameBacking, rebaseOverlay, sameDisk } from '../image/qcow2.ts'
import { logName, overlayName, snapshotReference } from '../store/local.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { backingOf, type Ground, type StepJob, type StepOutcome } from './job.ts'
import { cached, ended } from './outcome.ts'
import { freeId, standsOn } from './step.ts'

/** How the steps of one rolled-up layer are made; it comes from the chain, of which they are a part. */
export interface InnerSteps {
  /** The steps with their keys as things stand now, and which of them are there. */
  plan: () => Promise<{ steps: Step[]; found: (Snapshot | undefined)[] }>
  again: (step: Step, there: Snapshot) => boolean
  make: (step: Step, ground: Ground, there: Snapshot | undefined) => Promise<StepOutcome & { built: boolean }>
}

export async function buildRolledUp(context: BuildContext, job: StepJob, inner: InnerSteps): Promise<StepOutcome> {
  const { label } = job
  const started = Date.now()
  const seconds = () => (Date.now() - started) / 1000
  context.emit({ type: 'step-started', label, name: job.step.name })
  const steps: BuiltLayer[] = []
  const made: Made[] = []
  let ground = job.ground
  let plan = await inner.plan()
  for (let i = 0; i < plan.steps.length; i++) {
    const step = plan.steps[i] as Step
    const there = plan.found[i]
    if (there && !inner.again(step, there)) {
      steps.push(cached(context, label, step, there))
      made.push({ step, snapshot: there })
    } else {
      const outcome = await inner.make(step, ground, there)
      steps.push(ended(context, label, step, outcome))
      if ('failure' in outcome) return { ...outcome, steps, seconds: seconds() }
      made.push({ step, snapshot: outcome.snapshot })
      plan = await inner.plan()
    }
    ground = { snapshot: (made.at(-1) as Made).snapshot }
  }
  return { snapshot: await merge(context, job, made), steps, seconds: seconds() }
}

interface Made {
  step: Step
  snapshot: Snapshot
}

/** One overlay on the job's ground, equal to the last step's disk bit by bit. */
async function merge(context: BuildContext, job: StepJob, made: readonly Made[]): Promise<Snapshot> {
  const { step, label, work } = job
  const top = made.at(-1)?.snapshot
  const backing = backingOf(job)
  if (!top || !backing) throw new Error(`${step.name} is made of nothing, or stands on nothing`)
  const told = made.length === 1 ? 'taken over from its one step' : `merging ${made.length} snapshots into one`
  context.emit({ type: 'step-output', label, name: step.name, line: told })
  const overlay = join(work, overlayName)
  await copyOverlay(join(context.store.path('snapshots', top.manifest.id), overlayName), overlay, context.signal)
  await nameBacking(overlay, snapshotBelow(top, backing.building), formatBelow(top, backing.format), context.signal)
  await rebaseOverlay(overlay, backing.building, backing.format, context.signal)
  await checkImage(overlay, context.signal)
  if (!(await sameDisk(top.file, overlay, context.signal))) {
    throw new VlbError('VLB_STORE_DAMAGED', `the merged snapshot of ${step.name} is not the disk that its steps left`, {
      hint: `nothing was kept; build its steps anew: git vlb build --rebuild ${step.name}`,
    })
  }
  await nameBacking(overlay, backing.stored, backing.format, context.signal)
  await writeFile(join(work, logName), await logsOf(made))
  const packages = await takePackages(context, top, work)
  return await context.store.put(work, { ...(await describe(context, job, made, top)), ...packages })
}

/** How the copied overlay names what it stood on, seen from a folder below tmp/. */
function snapshotBelow({ manifest }: Snapshot, otherwise: string): string {
  return manifest.parent === undefined ? otherwise : snapshotReference(manifest.parent).building
}

function formatBelow({ manifest }: Snapshot, otherwise: 'qcow2' | 'raw'): 'qcow2' | 'raw' {
  return manifest.parent === undefined ? otherwise : 'qcow2'
}

async function describe(
  context: BuildContext,
  { step, work, ground }: StepJob,
  made: readonly Made[],
  top: Snapshot,
): Promise<Manifest> {
  const overlay = join(work, overlayName)
  const { contentId, disk } = top.manifest
  const steps = made.map(({ step: { layer }, snapshot: { manifest } }) => ({
    layer: layer?.name ?? '',
    key: manifest.key,
    contentId: manifest.contentId,
    seconds: manifest.seconds,
    builtAt: manifest.builtAt,
  }))
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

async function logsOf(made: readonly Made[]): Promise<string> {
  const logs = made.map(async ({ step, snapshot }) => {
    const text = await readFile(snapshot.log, 'utf8').catch(() => '(its log is gone)')
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
