// The last step: the chain written into one image file; or, with --no-flatten, an overlay on the chain.
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import type { OutputSettings } from '../core/config.ts'
import { VlbError } from '../core/errors.ts'
import type { BuiltImage } from '../core/results.ts'
import { explainWriteError, hashFile } from '../host/files.ts'
import { failure, spawn } from '../host/run.ts'
import { convertArguments, createOverlay, virtualSize } from '../image/qcow2.ts'
import { type ImageRecord, imageRecord, placeImage, saveImageRecord } from '../store/images.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'

export interface ImageJob {
  top: Snapshot
  output: OutputSettings
  /** Absolute path. */
  path: string
  flatten: boolean
  /** The caller wants to know the image's SHA-256. */
  digest: boolean
}

/** What an image is made from and how: two images with one recipe are the same. */
export function imageRecipe(top: Snapshot, output: OutputSettings, flatten: boolean): string {
  const content = top.manifest.contentId
  // An overlay names its chain, and must be written anew when the store moves.
  const form = flatten ? `${output.format} ${output.compress}` : `overlay ${top.manifest.nonce} ${top.file}`
  return createHash('sha256').update(`git-vlb image 1\n${content}\n${form}\n`).digest('hex')
}

/** Writes the image, unless the file there is already what would be written. */
export async function makeImage(context: BuildContext, job: ImageJob): Promise<BuiltImage> {
  const started = Date.now()
  const recipe = imageRecipe(job.top, job.output, job.flatten)
  const known = await imageRecord(context.store.root, job.path)
  const current = known?.recipe === recipe ? known : undefined
  const record = current ?? (await writeImage(context, job, recipe))
  const sha256 = job.digest ? await digestOf(context, job.path, record) : (record.sha256 ?? null)
  const format = job.flatten ? job.output.format : 'qcow2'
  return {
    path: job.path,
    format,
    bytes: record.bytes,
    sha256,
    written: !current,
    seconds: (Date.now() - started) / 1000,
  }
}

async function writeImage(context: BuildContext, job: ImageJob, recipe: string): Promise<ImageRecord> {
  const folder = dirname(job.path)
  const temporary = join(folder, `.${basename(job.path)}.${process.pid}.${randomBytes(3).toString('hex')}.tmp`)
  try {
    await mkdir(folder, { recursive: true })
    context.store.scratch.watch(temporary)
    if (job.flatten) await flatten(context, job, temporary)
    else await overlay(context, job, temporary)
    const { size, blocks } = await stat(temporary)
    const bytes = job.flatten && job.output.format === 'raw' ? blocks * 512 : size
    return await placeImage(context.store.root, temporary, job.path, recipe, bytes)
  } catch (error) {
    throw explainWriteError(error, job.path)
  }
}

async function overlay(context: BuildContext, job: ImageJob, target: string): Promise<void> {
  const reference = relative(dirname(target), job.top.file)
  await createOverlay(dirname(target), basename(target), { reference, format: 'qcow2' }, undefined, context.signal)
}

async function flatten(context: BuildContext, job: ImageJob, target: string): Promise<void> {
  const { output, top } = job
  const args = convertArguments({
    from: { path: top.file, format: 'qcow2' },
    to: target,
    format: output.format,
    compress: output.compress,
  })
  const total = await virtualSize(top.file)
  const started = Date.now()
  const task = `writing ${basename(job.path)}`
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
  context.emit({
    type: 'progress-ended',
    task,
    bytes: (await stat(target)).size,
    seconds: (Date.now() - started) / 1000,
  })
}

async function digestOf(context: BuildContext, path: string, record: ImageRecord): Promise<string> {
  if (record.sha256) return record.sha256
  const sha256 = await hashFile(path, 'sha256', { signal: context.signal })
  await saveImageRecord(context.store.root, path, { ...record, sha256 })
  return sha256
}

/** An image over its own base would destroy what it is made from. */
export function checkOutput(path: string, base: string | undefined): void {
  if (base !== path) return
  throw new VlbError('VLB_CONFIG', `the image would overwrite its own base, ${path}`, {
    hint: 'give output.path or -o another name',
  })
}
