// The last step: the chain written into image files, one for each format; or, with --no-flatten, an overlay on the chain.
import { createHash } from 'node:crypto'
import { readFile, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { Compat, Compression, ImageFormat } from '../core/output.ts'
import type { Machine } from '../core/ovf.ts'
import type { BuiltImage } from '../core/results-build.ts'
import { type SealedStep, type SealStep, sealVersion } from '../core/seal.ts'
import { allocatedBytes, explainWriteError, hashFile, makeFolders } from '../host/files.ts'
import { failure, run, spawn } from '../host/run.ts'
import { type Conversion, convertArguments, createOverlay, formatOptions, virtualSize } from '../image/qcow2.ts'
import { type ImageRecord, imageRecord, placeImage, saveImageRecord } from '../store/images.ts'
import type { Snapshot } from '../store/store.ts'
import { Ahead } from './ahead.ts'
import type { BuildContext } from './context.ts'
import { areSound, blameDamage, partsOf, SnapshotGone } from './damage.ts'
import { requireRoom } from './room.ts'
import { sealed } from './seal.ts'

export interface ImageTarget {
  /** Absolute. */
  path: string
  format: ImageFormat
  compress: Compression
  compat: Compat
}

export interface ImageJob {
  top: Snapshot
  targets: ImageTarget[]
  flatten: boolean
  seal: readonly SealStep[]
  /** Names the revision in events. */
  label: string
  /** The caller wants to know the images' SHA-256. */
  digest: boolean
  /** What an ova says of the computer that it is for. */
  machine: Omit<Machine, 'firmware'>
  /** A file of checksums that is no longer true when one of the images is replaced. */
  sums: string | undefined
  /** One of them, begun while the top was still being built. */
  ahead: Ahead | undefined
}

type Recipe = Pick<ImageJob, 'top' | 'flatten' | 'machine' | 'seal'>

/** What an image is made from and how: two images with one recipe are the same. */
export function imageRecipe({ top, flatten, machine, seal }: Recipe, target: ImageTarget): string {
  const content = top.manifest.contentId
  const { format, compress } = target
  const options = format === 'ova' ? JSON.stringify(machine) : formatOptions({ ...target, format })
  // An overlay names its chain, and must be written anew when the store moves.
  const form = flatten ? `${format} ${compress} ${options}` : `overlay ${top.manifest.nonce} ${top.file}`
  const sealing = flatten && seal.length > 0 ? `seal ${sealVersion} ${seal.join(' ')}\n` : ''
  return createHash('sha256').update(`git-vlb image 1\n${content}\n${form}\n${sealing}`).digest('hex')
}

/** A file that is being written beside its place. */
interface Staged {
  target: ImageTarget
  recipe: string
  temporary: string
  seconds: number
}

/** The snapshot that images are to be made of was dropped since it was looked up. */

/** Writes the images, in the order of the targets; those that are already what would be written are left alone. */
export async function makeImages(context: BuildContext, job: ImageJob): Promise<BuiltImage[]> {
  const known = await Promise.all(
    job.targets.map(async (target) => {
      const recipe = imageRecipe(job, target)
      const record = await imageRecord(context.store, target.path)
      return { target, recipe, record: record?.recipe === recipe ? record : undefined }
    }),
  )
  const stale = known.filter(({ record }) => !record)
  const parts = stale.length > 0 ? await partsOf(context, job.top) : { ids: [], base: undefined }
  if (stale.length > 0) {
    if (!(await context.store.hold(parts.ids, context.signal))) throw new SnapshotGone()
    if (!(await areSound(context, parts.ids, parts.base))) throw new SnapshotGone()
  }
  const begun = job.ahead === undefined ? 0 : await allocatedBytes(job.ahead.target.to).catch(() => 0)
  if (job.flatten && stale.length > 0)
    await requireRoom(
      context,
      job.top,
      stale.map(({ target }) => target),
      begun,
    )
  const { written: staged, seal } = await stageSealed(context, job, stale).catch(async (error: unknown) => {
    await blameDamage(context, error, parts.ids, parts.base)
    throw error
  })
  if (staged.length > 0 && job.sums !== undefined) await rm(job.sums, { force: true })
  const images: BuiltImage[] = []
  for (const { target, record } of known) {
    const file = staged.find((one) => one.target === target)
    const there = record ?? (file && (await place(context, job, file, seal)))
    if (!there) throw new Error(`${target.path} was neither there nor written`)
    images.push({
      path: target.path,
      format: target.format,
      bytes: there.bytes,
      sha256: job.digest ? await digestOf(context, target.path, there) : (there.sha256 ?? null),
      seal: there.seal ?? [],
      written: !record,
      seconds: file?.seconds ?? 0,
    })
  }
  return images
}

/** Renamed to its place only when all are written: from there on another build may replace it. */
async function place(
  context: BuildContext,
  job: ImageJob,
  { target, recipe, temporary }: Staged,
  seal: SealedStep[],
): Promise<ImageRecord> {
  try {
    const { size, blocks } = await stat(temporary)
    const sparse = job.flatten && (target.format === 'raw' || target.format === 'vpc')
    const bytes = sparse ? blocks * 512 : size
    return await placeImage(context.store, temporary, target.path, { recipe, bytes, seal }, flushes(context))
  } catch (error) {
    throw explainWriteError(error, target.path)
  }
}

/** Waiting for the disk can take longer than all else of a build, so it is done for those who ask for it. */
function flushes({ project }: BuildContext): boolean {
  return ['true', 'yes', 'on', '1'].includes((project.settings.get('fsync') ?? '').toLowerCase())
}

/** Whether others can be made from it as fast as a disk image can be read. */
function isPlain({ format, compress }: ImageTarget): boolean {
  return format === 'raw' || (format === 'qcow2' && compress === 'none')
}

/** Begins to write an image of `below`, the top's parent-to-be; undefined where the images are of other kinds. */
export async function startAhead(
  context: BuildContext,
  below: Snapshot,
  targets: readonly ImageTarget[],
): Promise<Ahead | undefined> {
  const target = targets.find(isPlain)
  if (!target) return undefined
  await makeFolders(dirname(target.path)).catch(() => {})
  // No room: that is told when all that is to be written is known.
  const fits = await requireRoom(context, below, [target]).then(
    () => true,
    () => false,
  )
  if (!fits) return undefined
  const { path: place, compat } = target
  const format = target.format === 'raw' ? 'raw' : 'qcow2'
  const to = await temporaryFor(context, place).catch(() => undefined)
  return to === undefined ? undefined : new Ahead(context, below, { place, to, format, compat })
}

type Stale = Pick<Staged, 'target' | 'recipe'>

/** An overlay stays here, where its chain is, and is what the chain is. */
async function stageSealed(context: BuildContext, job: ImageJob, stale: Stale[]) {
  if (stale.length === 0) return { written: [], seal: [] }
  const steps = job.flatten ? job.seal : []
  return await sealed(context, { ...job, seal: steps }, (disk) => stage(context, job, stale, disk))
}

async function stage(context: BuildContext, job: ImageJob, stale: Stale[], disk: string): Promise<Staged[]> {
  const rank = ({ target }: { target: ImageTarget }) => (isPlain(target) ? 0 : target.format === 'ova' ? 2 : 1)
  const staged: Staged[] = []
  let source: Conversion['from'] = { path: disk, format: 'qcow2' }
  for (const { target, recipe } of [...stale].sort((a, b) => rank(a) - rank(b))) {
    const started = Date.now()
    try {
      await makeFolders(dirname(target.path))
      const vmdk = staged.find((one) => one.target.format === 'vmdk')?.temporary
      const temporary =
        (await finishAhead(context, job, target, disk)) ?? (await write(context, job, target, source, vmdk))
      // On a chain of 20 snapshots with 500 MB, raw, vdi and vhdx take 0.9 s each from one flat image and 2 s from the
      // chain; with a vmdk, compressing takes 14 s either way.
      if (staged.length === 0 && job.flatten && isPlain(target))
        source = { path: temporary, format: target.format === 'raw' ? 'raw' : 'qcow2' }
      staged.push({ target, recipe, temporary, seconds: (Date.now() - started) / 1000 })
    } catch (error) {
      throw explainWriteError(error, target.path)
    }
  }
  return staged
}

/** Where the image is now, unless it has to be written whole. */
async function finishAhead(
  context: BuildContext,
  { ahead, top }: ImageJob,
  target: ImageTarget,
  disk: string,
): Promise<string | undefined> {
  if (ahead?.target.place !== target.path) return undefined
  const started = Date.now()
  if (!(await ahead.finish(top, disk === top.file ? [disk] : [top.file, disk]))) return undefined
  await told(context, target.path, ahead.target.to, started)
  return ahead.target.to
}

async function write(
  context: BuildContext,
  job: ImageJob,
  target: ImageTarget,
  from: Conversion['from'],
  vmdk: string | undefined,
): Promise<string> {
  const temporary = await temporaryFor(context, target.path)
  const { format, compress, compat } = target
  if (!job.flatten) await overlay(context, job, temporary)
  else if (format === 'ova') await writeOva(context, job, target, temporary, from, vmdk)
  else await convert(context, { from, to: temporary, format, compress, compat }, target.path)
  return temporary
}

/** A name beside the image for a file that goes there by a rename; what is left of it is removed when we end. */
async function temporaryFor(context: BuildContext, path: string): Promise<string> {
  return await context.store.scratch.linkedBeside(path)
}

async function overlay(context: BuildContext, job: ImageJob, target: string): Promise<void> {
  const reference = relative(dirname(target), job.top.file)
  const backing = { reference, format: 'qcow2' } as const
  await createOverlay(dirname(target), basename(target), backing, job.top.manifest.disk.size, context.signal)
}

async function writeOva(
  context: BuildContext,
  job: ImageJob,
  target: ImageTarget,
  to: string,
  from: Conversion['from'],
  written: string | undefined,
): Promise<void> {
  const vmdk = written ?? (await temporaryFor(context, target.path))
  if (!written) await convert(context, { from, to: vmdk, format: 'vmdk', compress: 'none' }, target.path)
  const machine = { ...job.machine, firmware: await firmwareOf(context, job) }
  const { writeOva: write } = await import('../image/ova.ts')
  const capacity = await virtualSize(job.top.file)
  await write({ machine, vmdk, capacity, to, date: new Date(job.top.manifest.builtAt), signal: context.signal })
  if (!written) await rm(vmdk, { force: true })
}

/** UEFI for a disk that a BIOS finds no program on: the first 440 bytes are its boot code. */
async function firmwareOf(context: BuildContext, job: ImageJob): Promise<Machine['firmware']> {
  if (job.machine.arch === 'aarch64') return 'uefi'
  if (!job.top.manifest.disk.partitions.some(({ fs }) => fs === 'vfat')) return 'bios'
  const sector = join(await context.store.scratch.folder(), 'sector')
  const options = ['-f', 'qcow2', '-O', 'raw', 'bs=512', 'count=1', `if=${job.top.file}`, `of=${sector}`]
  await run('qemu-img', ['dd', ...options], { signal: context.signal })
  return (await readFile(sector)).subarray(0, 440).every((byte) => byte === 0) ? 'uefi' : 'bios'
}

async function convert(context: BuildContext, conversion: Conversion, shown: string): Promise<void> {
  const args = convertArguments(conversion)
  const { path, format } = conversion.from
  const total = format === 'raw' ? (await stat(path)).size : await virtualSize(path)
  const started = Date.now()
  const task = taskOf(shown)
  const child = spawn('qemu-img', args)
  const stop = () => child.kill('SIGKILL')
  context.signal.addEventListener('abort', stop, { once: true })
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()))
  child.stdout?.on('data', (chunk: Buffer) => {
    // qemu-img -p writes "    (12.34/100%)\r".
    const percent = /\((\d+\.\d+)\/100%\)\s*$/.exec(chunk.toString())?.[1]
    if (percent) context.emit({ type: 'progress', task, done: Math.round((total * Number(percent)) / 100), total })
  })
  const result = await child.ended
  context.signal.removeEventListener('abort', stop)
  context.signal.throwIfAborted()
  if (result.exitCode !== 0) throw failure('qemu-img', args, { ...result, stderr: said })
  await told(context, shown, conversion.to, started)
}

async function told(context: BuildContext, path: string, written: string, started: number): Promise<void> {
  const { size } = await stat(written)
  const seconds = (Date.now() - started) / 1000
  context.emit({ type: 'progress-ended', task: taskOf(path), bytes: size, seconds })
}

/** What progress is reported as. */
function taskOf(path: string): string {
  return `writing ${basename(path)}`
}

/** Of an image that is what its record says; remembered there. `hash`: how it is found out. */
export async function digestOf(
  context: BuildContext,
  path: string,
  record: ImageRecord,
  hash = () => hashFile(path, 'sha256', { signal: context.signal }),
): Promise<string> {
  if (record.sha256) return record.sha256
  const sha256 = await hash()
  await saveImageRecord(context.store, path, { ...record, sha256 })
  return sha256
}

/** An image over its own base would destroy what it is made from. */
export function checkOutput(path: string, base: string | undefined): void {
  if (base !== path) return
  throw new VlbError('VLB_CONFIG', `the image would overwrite its own base, ${path}`, {
    hint: 'give output.path or -o another name',
  })
}
