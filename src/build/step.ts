// Builds one step of a chain: an overlay on its parent, its script run in it, checked, and handed to the store.
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkGrowth, chooseRoot, type DiskLayout, parseProbe, rootPartition, withFstab } from '../core/disk.ts'
import { VlbError } from '../core/errors.ts'
import { contentId, type LayerKey, type SnapshotId, snapshotId } from '../core/ids.ts'
import { firstContentId } from '../core/key.ts'
import type { Manifest } from '../core/manifest.ts'
import type { Step } from '../core/plan.ts'
import { formatBytes } from '../core/units.ts'
import { allocatedBytes, explainWriteError, sync } from '../host/files.ts'
import { run } from '../host/run.ts'
import { stampOverlay } from '../host/tables.ts'
import { checkImage, convertArguments, createOverlay, inspectDisk, renameBacking, virtualSize } from '../image/qcow2.ts'
import { cacheLines, grow, probe, type RunnerOptions, runInImage, runOnDisk, runOnHost } from '../image/sandbox.ts'
import { hashBody, overlayDigest } from '../store/digest.ts'
import { overlayName } from '../store/places.ts'
import type { BuildContext } from './context.ts'
import { fail, keep } from './failure.ts'
import {
  backingOf,
  type Failed,
  type Ground,
  groundFile,
  groundLayout,
  layerOf,
  leavings,
  parentOf,
  type StepJob,
  type StepOutcome,
  scriptEnvironment,
  scriptRun,
} from './job.ts'
import { BuildLog } from './log.ts'
import { prepareMounts, rootPlace } from './mounts.ts'
import { expectPackages, writePackages } from './packages.ts'

export async function buildStep(context: BuildContext, job: StepJob): Promise<StepOutcome> {
  const { step, work } = job
  const started = Date.now()
  const seconds = () => (Date.now() - started) / 1000
  context.emit({ type: 'step-started', label: job.label, name: step.name })
  const log = new BuildLog(context, job)
  try {
    await mkdir(join(work, 'ns'), { recursive: true })
    const made = await make(context, job, log)
    await log.end()
    if ('exitCode' in made) return { ...(await fail(context, job, made, log)), seconds: seconds() }
    // Written out and hashed while it is checked: what changes of it afterwards is its head.
    const overlay = join(work, overlayName)
    const body = hashBody(overlay, context.signal)
    const flushed = sync(overlay)
    for (const begun of [body, flushed]) begun.catch(() => {})
    await checkOverlay(context, job, made.layout)
    await flushed
    const packages = await writePackages(context, work, made.layout, parentOf(job), step.inputs.kind === 'disk')
    const backing = backingOf(job)
    if (backing) await renameBacking(overlay, backing.building, backing.stored, backing.format, context.signal)
    const described = await describe(context, job, made.layout, seconds())
    stampOverlay(overlay, described.nonce)
    const digest = await overlayDigest(overlay, body)
    const manifest = { ...described, digest, packages }
    for (const name of leavings) await rm(join(work, name), { recursive: true, force: true })
    return { snapshot: await context.store.put(work, manifest), seconds: seconds() }
  } catch (error) {
    await log.end().catch(() => {})
    const told = explainWriteError(error, context.store.root)
    // What the log says of it is all that helps with, say, a file system that cannot be mounted.
    if (!(told instanceof VlbError) || context.signal.aborted) throw told
    // With the host's disk full, what is written of the snapshot is of no use, and in the way.
    if (['VLB_HOST_SPACE', 'VLB_HOST_IO'].includes(told.code)) await rm(join(work, overlayName), { force: true })
    const failure = await keep(context, job, 0).catch(() => undefined)
    if (!failure) throw told
    return { failure, error: told, lastLines: [...log.last], seconds: seconds() }
  }
}

/** Whole, and as large as it should be: a disk that a tool cut short must never be stored. */
async function checkOverlay(context: BuildContext, job: StepJob, layout: DiskLayout): Promise<void> {
  const overlay = join(job.work, overlayName)
  await checkImage(overlay, context.signal)
  const size = await virtualSize(overlay)
  if (size === layout.size) return
  throw new VlbError('VLB_DISK', `${job.step.name} left a disk of ${size} bytes instead of ${layout.size}`, {
    hint: 'what it did is not kept; see its log: git vlb log',
  })
}

async function make(context: BuildContext, job: StepJob, log: BuildLog): Promise<{ layout: DiskLayout } | Failed> {
  const { step } = job
  const runner: RunnerOptions = {
    attach: context.attach,
    memory: context.memory,
    signal: context.signal,
    onOutput: log.write,
    secrets: job.secrets,
  }
  if (step.inputs.kind === 'build-base') return await makeBase(context, job, runner)
  if (step.inputs.kind === 'disk') return { layout: await growDisk(context, job, step.inputs.size ?? 0, runner) }
  if (step.inputs.kind === 'modify-disk') return await modifyDisk(context, job, runner)
  return await makeLayer(context, job, log, runner)
}

async function makeBase(
  context: BuildContext,
  job: StepJob,
  runner: RunnerOptions,
): Promise<{ layout: DiskLayout } | Failed> {
  const { step, work } = job
  const exitCode = await withTimeout(step, runner, (limited) =>
    runOnHost(work, 'build-base', scriptEnvironment(step, join(work, 'include')), limited),
  )
  if (typeof exitCode !== 'number') return exitCode
  if (exitCode !== 0) return { exitCode }
  const disk = join(work, 'disk')
  if (!(await stat(disk).catch(() => undefined))?.isFile()) {
    throw new VlbError('VLB_DISK', `${step.name}/build-base ended well, but wrote no disk to its argument OUTPUT`, {
      hint: 'write a qcow2 or raw disk to "$1"',
    })
  }
  const { format, size } = await inspectDisk(disk, `the disk that ${step.name}/build-base wrote`)
  const overlay = join(work, overlayName)
  if (format === 'qcow2') await rename(disk, overlay)
  else {
    await run(
      'qemu-img',
      convertArguments({ from: { path: disk, format }, to: overlay, format: 'qcow2', compress: 'none' }),
      { signal: context.signal },
    )
    await rm(disk)
  }
  const found = parseProbe(await probe(work, overlay, 'qcow2', runner), size)
  return { layout: chooseRoot(found, job.root, step.name) }
}

async function overlayOn(context: BuildContext, job: StepJob, size = groundLayout(job).size): Promise<void> {
  const backing = backingOf(job)
  if (!backing) throw new Error(`${job.step.name} stands on nothing`)
  const { building, format } = backing
  await createOverlay(job.work, overlayName, { reference: building, format }, size, context.signal)
}

async function growDisk(context: BuildContext, job: StepJob, size: number, runner: RunnerOptions): Promise<DiskLayout> {
  const layout = groundLayout(job)
  checkGrowth(layout, size)
  await overlayOn(context, job, size)
  if (size === layout.size) return layout
  const lines = await grow(job.work, layout.root, rootPlace(layout), runner)
  const found = parseProbe(lines, size)
  if (found.partitions.find((p) => p.number === layout.root)?.fs !== rootPartition(layout).fs) {
    throw new VlbError('VLB_DISK', `growing the disk to ${formatBytes(size)} lost its root file system`, {
      hint: 'this should not happen; please report it with the output of: qemu-img info and sfdisk --list of the base',
    })
  }
  return chooseRoot(found, String(layout.root), job.step.name)
}

async function makeLayer(
  context: BuildContext,
  job: StepJob,
  log: BuildLog,
  runner: RunnerOptions,
): Promise<{ layout: DiskLayout } | Failed> {
  const { step } = job
  const layout = groundLayout(job)
  const { root, notes } = await prepareMounts(job.work, layout, layerOf(step).directives, `${step.name}/build-layer`)
  await overlayOn(context, job)
  for (const note of notes) log.write(Buffer.from(note))
  const script = scriptRun(step)
  await expectPackages(job.work, parentOf(job))
  try {
    const ended = await withCaches(context, job, () =>
      withTimeout(step, runner, (limited) => runInImage(job.work, root, script, limited)),
    )
    if (!('fstab' in ended) || ended.exitCode !== 0) return ended
    // What the script made of it is what the next one finds mounted.
    return { layout: withFstab(layout, ended.fstab) }
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_SCRIPT_INTERPRETER') throw error
    throw new VlbError(
      'VLB_SCRIPT_INTERPRETER',
      `${step.name}/build-layer wants ${error.message} as its interpreter, which is not in the image`,
      {
        hint: 'correct its #! line, or install the interpreter in a layer before this one',
      },
    )
  }
}

async function modifyDisk(
  context: BuildContext,
  job: StepJob,
  runner: RunnerOptions,
): Promise<{ layout: DiskLayout } | Failed> {
  const { step, work, ground } = job
  const layout = groundLayout(job)
  await overlayOn(context, job)
  const env = scriptEnvironment(step, join(work, 'include'))
  const source = groundFile(context, ground)
  const ended = await withTimeout(step, runner, (limited) => runOnDisk(work, source, 'modify-disk', env, limited))
  if (!('lines' in ended) || ended.exitCode !== 0) return ended
  return { layout: chooseRoot(parseProbe(ended.lines, layout.size), job.root, `the disk that ${step.name} left`) }
}

/** Lends the script its cache folders. One that another build has now is copied, and the copy thrown away. */
async function withCaches<T>(context: BuildContext, job: StepJob, work: () => Promise<T>): Promise<T> {
  const { caches } = layerOf(job.step).directives
  const borrowed = []
  try {
    for (const target of caches) {
      const name = `${context.project.folder}\0${target}`
      borrowed.push({ target, ...(await context.store.borrowCache(name, context.signal)) })
    }
    const mounts = borrowed.map(({ folder, target, lock }) => ({ folder, target, copy: lock === undefined }))
    if (mounts.length > 0) await writeFile(join(job.work, 'caches'), cacheLines(mounts))
    return await work()
  } finally {
    for (const { lock } of borrowed) await lock?.release()
  }
}

/** Runs with a signal that also fires when the layer's time is up; then everything in the sandbox is killed. */
async function withTimeout<T>(
  step: Step,
  runner: RunnerOptions,
  action: (limited: RunnerOptions) => Promise<T>,
): Promise<T | Failed> {
  const limit = step.layer?.directives.timeout
  if (limit === undefined) return await action(runner)
  const clock = AbortSignal.timeout(limit * 1000)
  try {
    return await action({ ...runner, signal: AbortSignal.any([runner.signal, clock]) })
  } catch (error) {
    if (runner.signal.aborted || !clock.aborted) throw error
    return { exitCode: 124, timeout: limit }
  }
}

async function describe(context: BuildContext, job: StepJob, layout: DiskLayout, seconds: number): Promise<Manifest> {
  const { step, ground } = job
  const overlay = join(job.work, overlayName)
  const id = await freeId(context, step.key)
  return {
    format: 1,
    id,
    key: step.key,
    contentId: id === (step.key as string) ? firstContentId(step.key) : contentId(id),
    nonce: randomBytes(16).toString('hex'),
    inputs: step.inputs,
    layer: step.name,
    project: context.project.folder,
    disk: layout,
    fileBytes: (await stat(overlay)).size,
    bytes: await allocatedBytes(overlay),
    seconds,
    builtAt: new Date().toISOString(),
    ...standsOn(ground),
  }
}

/** What a manifest says of the disk below it. */
export function standsOn(ground: Ground): Pick<Manifest, 'parent' | 'parentNonce' | 'base'> {
  if (!ground) return {}
  if ('base' in ground) return { base: ground.base.digest }
  const { id, nonce } = ground.snapshot.manifest
  return { parent: id, parentNonce: nonce }
}

/** The key itself for its first snapshot. A later one must not replace the file that other overlays are backed by. */
export async function freeId(context: BuildContext, key: LayerKey): Promise<SnapshotId> {
  if ((await context.store.get(snapshotId(key))) === undefined) return snapshotId(key)
  return snapshotId(createHash('sha256').update(key).update(randomBytes(16)).digest('hex'))
}
