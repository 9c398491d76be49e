// Builds one step of a chain: an overlay on its parent, its script run in it, checked, and handed to the store.
import { createHash, randomBytes } from 'node:crypto'
import { createWriteStream, type WriteStream } from 'node:fs'
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { checkGrowth, chooseRoot, type DiskLayout, parseProbe, rootPartition, withFstab } from '../core/disk.ts'
import { printable, VlbError } from '../core/errors.ts'
import { contentId, type LayerKey, type SnapshotId, snapshotId } from '../core/ids.ts'
import { firstContentId } from '../core/key.ts'
import type { BaseRecord, Manifest } from '../core/manifest.ts'
import { Mask } from '../core/mask.ts'
import type { Step } from '../core/plan.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import { proxyEnvironment } from '../host/env.ts'
import { allocatedBytes, explainWriteError } from '../host/files.ts'
import { run } from '../host/run.ts'
import { checkImage, convertArguments, createOverlay, inspectDisk, nameBacking, virtualSize } from '../image/qcow2.ts'
import {
  cacheLines,
  grow,
  probe,
  type RunnerOptions,
  runInImage,
  runOnDisk,
  runOnHost,
  type ScriptRun,
} from '../image/sandbox.ts'
import {
  type BackingReference,
  baseFolder,
  baseReference,
  logName,
  overlayName,
  snapshotReference,
} from '../store/local.ts'
import type { Failure, Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { prepareMounts, rootPlace } from './mounts.ts'
import { expectPackages, writePackages } from './packages.ts'

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

export type StepOutcome =
  | { snapshot: Snapshot; seconds: number }
  | { failure: Failure; seconds: number; error: VlbError; lastLines: string[] }

/** What a build leaves in its scratch folder that is not of the snapshot. */
const leavings = ['ns', 'src', 'include', 'packages', 'caches', 'mounts', 'scratch', 'index', 'objects']

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
    await checkOverlay(context, job, made.layout)
    const packages = await writePackages(context, work, made.layout, parentOf(job), step.inputs.kind === 'disk')
    const backing = backingOf(job)
    if (backing) await nameBacking(join(work, overlayName), backing.stored, backing.format, context.signal)
    const manifest = { ...(await describe(context, job, made.layout, seconds())), packages }
    for (const name of leavings) await rm(join(work, name), { recursive: true, force: true })
    return { snapshot: await context.store.put(work, manifest), seconds: seconds() }
  } catch (error) {
    await log.end().catch(() => {})
    const told = explainWriteError(error, context.store.root)
    // What the log says of it is all that helps with, say, a file system that cannot be mounted.
    if (!(told instanceof VlbError) || context.signal.aborted) throw told
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

/** The log of a script: written as it comes, told line by line, its last lines remembered. */
class BuildLog {
  readonly #file: WriteStream
  readonly #tell: (line: string) => void
  // A character's bytes may come in two chunks.
  readonly #decoder = new StringDecoder('utf8')
  readonly #mask: Mask
  #rest = ''
  #failed: Error | undefined
  readonly last: string[] = []

  constructor(context: BuildContext, job: StepJob) {
    this.#file = createWriteStream(join(job.work, logName))
    this.#mask = new Mask([...job.secrets.values()])
    // Without a listener a full disk would end the program; end() tells.
    this.#file.on('error', (error) => {
      this.#failed ??= error
    })
    this.#tell = (line) => context.emit({ type: 'step-output', label: job.label, name: job.step.name, line })
  }

  write = (chunk: Buffer): void => this.#take(this.#mask.push(chunk))

  #take(chunk: Buffer): void {
    this.#file.write(chunk)
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n')
    // A program that never ends its line must not fill our memory.
    this.#rest = (lines.pop() ?? '').slice(-10_000)
    for (const line of lines) this.#line(line)
  }

  #line(line: string): void {
    // A progress bar rewrites its line by carriage returns: what stands there in the end is the line.
    const shown = (line.replace(/\r+$/, '').split('\r').at(-1) ?? '').slice(0, 2000)
    this.#tell(shown)
    this.last.push(shown)
    if (this.last.length > 20) this.last.shift()
  }

  async end(): Promise<void> {
    if (!this.#file.writableEnded) this.#take(this.#mask.end())
    if (this.#rest) this.#line(this.#rest)
    this.#rest = ''
    if (!this.#failed && !this.#file.writableFinished) {
      await new Promise<void>((resolve) => this.#file.once('error', () => resolve()).end(resolve))
    }
    if (this.#failed) throw this.#failed
  }
}

interface Failed {
  exitCode: number
  timeout?: number
}

async function make(context: BuildContext, job: StepJob, log: BuildLog): Promise<{ layout: DiskLayout } | Failed> {
  const { step } = job
  const runner: RunnerOptions = { signal: context.signal, onOutput: log.write, secrets: job.secrets }
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

function parentOf({ ground }: StepJob): Snapshot | undefined {
  return ground && 'snapshot' in ground ? ground.snapshot : undefined
}

/** The layout of what a step stands on. */
function groundLayout(job: StepJob): DiskLayout {
  if (!job.ground) throw new Error(`${job.step.name} stands on nothing`)
  if ('snapshot' in job.ground) return job.ground.snapshot.manifest.disk
  return chooseRoot(job.ground.base.disk, job.root, `the base ${printable(job.ground.base.source)}`)
}

function backingOf({ ground }: StepJob): (BackingReference & { format: 'qcow2' | 'raw' }) | undefined {
  if (!ground) return undefined
  if ('snapshot' in ground) return { ...snapshotReference(ground.snapshot.manifest.id), format: 'qcow2' }
  return { ...baseReference(ground.base.digest, ground.base.file), format: ground.base.imageFormat }
}

async function overlayOn(context: BuildContext, job: StepJob, size?: number): Promise<void> {
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

function groundFile(context: BuildContext, ground: Ground): string {
  if (!ground) throw new Error('a layer that stands on nothing')
  if ('snapshot' in ground) return ground.snapshot.file
  return context.store.path('bases', baseFolder(ground.base.digest), ground.base.file)
}

function scriptRun(step: Step): ScriptRun {
  const { directives, interpreter } = layerOf(step)
  const { network, hostname = 'localhost' } = directives
  return { script: 'build-layer', interpreter, network, hostname, env: scriptEnvironment(step, '/run/vlb-include') }
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

function layerOf(step: Step) {
  if (!step.layer) throw new Error(`step ${step.name} has no layer`)
  return step.layer
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

/** `include`: where the script finds what its include directives name. */
function scriptEnvironment(step: Step, include: string): Record<string, string> {
  return {
    ...standardEnvironment(step.name),
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
    ...(ground && 'snapshot' in ground
      ? { parent: ground.snapshot.manifest.id, parentNonce: ground.snapshot.manifest.nonce }
      : {}),
    ...(ground && 'base' in ground ? { base: ground.base.digest } : {}),
  }
}

/** The key itself for its first snapshot. A later one must not replace the file that other overlays are backed by. */
async function freeId(context: BuildContext, key: LayerKey): Promise<SnapshotId> {
  if ((await context.store.get(snapshotId(key))) === undefined) return snapshotId(key)
  return snapshotId(createHash('sha256').update(key).update(randomBytes(16)).digest('hex'))
}

/** Puts the scratch folder among the failures, less what is of no use there. */
async function keep(context: BuildContext, job: StepJob, exitCode: number): Promise<Failure> {
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

async function fail(
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
