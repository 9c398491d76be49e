// `git vlb pull --image`: an image from the remote, checked, to where people want it.
import { createHash } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { checkTag, type SharedImage } from '../core/oci-image.ts'
import { sumsText, withFormat } from '../core/output.ts'
import type { PulledImageResult } from '../core/results-remote.ts'
import { explainWriteError, makeFolders, moveInto } from '../host/files.ts'
import { requireSpace } from '../host/space.ts'
import { inspectImage } from '../image/foreign.ts'
import { digHoles } from '../image/qcow2.ts'
import type { Registry } from '../store/oci.ts'
import { haveOf, partName } from '../store/oci-file.ts'
import { noteDamage } from '../store/shared.ts'
import { fetchFile } from './arrival.ts'
import { hashWithProgress } from './base-digests.ts'
import type { BuildContext } from './context.ts'
import { checkOutput } from './flatten.ts'
import { writeOutput } from './output.ts'
import { type LoadedSource, loadWorkingTree } from './project.ts'
import { needRemote } from './remote.ts'
import { type FoundImage, readImage } from './remote-image.ts'
import { sumsFor } from './targets.ts'

export interface PullImageRequest {
  tag: string
  /** Absolute path, instead of output.path of vlb.yaml. */
  output: string | undefined
}

export async function pullImage(context: BuildContext, request: PullImageRequest): Promise<PulledImageResult> {
  const started = Date.now()
  const { tag } = request
  checkTag(tag)
  const source = await loadWorkingTree(context.project)
  try {
    const registry = await needRemote(context, source.config)
    try {
      await context.store.prepare()
      const found = await trusted(context, registry, tag)
      const { image, signer, digest } = found
      const { format, sha256, file } = image.disk
      const path = placeFor(context, source, request, image)
      const bytes = await bring(context, registry, { image, path, source })
      return {
        ...{ ok: true, remote: registry.name, tag, result: bytes === undefined ? 'there' : 'pulled', digest },
        image: { path, format, bytes: file.size, sha256 },
        ...{ project: image.project, revision: image.revision ?? null, builtAt: image.builtAt },
        ...{ signer: signer ?? null, bytes: bytes ?? 0, seconds: (Date.now() - started) / 1000 },
      }
    } catch (error) {
      throw await told(context, registry, error)
    } finally {
      registry.close()
    }
  } finally {
    await source.objects.close()
  }
}

async function trusted(context: BuildContext, registry: Registry, tag: string): Promise<FoundImage> {
  const found = await readImage(context, registry, tag)
  const hint = 'see what it has: git vlb ls-remote'
  if (found === undefined)
    throw new VlbError('VLB_NO_IMAGE', `${registry.name} has no image under the tag ${tag}`, { hint })
  if (typeof found === 'string') {
    const what = `what ${registry.name} has under the tag ${tag} is not taken: ${printable(found)}`
    throw new VlbError('VLB_NO_IMAGE', what, { hint })
  }
  if (found.untrusted === undefined) return found
  throw new VlbError('VLB_SIGNATURE', `the image ${tag} at ${registry.name} is not taken: ${found.untrusted}`, {
    hint: 'ask whoever pushed it; whom you trust: git config gpg.ssh.allowedSignersFile, or gpg --list-keys',
  })
}

/** As a build would name it. */
function placeFor(
  { project }: BuildContext,
  { config }: LoadedSource,
  { output }: PullImageRequest,
  { disk }: SharedImage,
): string {
  const { path, formats } = config.output
  const own = resolve(project.folder, path)
  const exact = formats.length === 1 && formats[0] === disk.format
  const place = output ?? (exact ? own : withFormat(own, disk.format))
  checkOutput(place, config.base?.from === 'path' ? resolve(project.folder, config.base.path) : undefined)
  return place
}

interface Bringing {
  image: SharedImage
  path: string
  source: LoadedSource
}

/** Bytes of what was fetched; undefined if the very file was there already. */
async function bring(context: BuildContext, registry: Registry, bringing: Bringing): Promise<number | undefined> {
  const { image, path, source } = bringing
  const { format, sha256, file } = image.disk
  const lock = await context.store.lock(
    `image-${createHash('sha256').update(path).digest('hex')}`,
    context.signal,
    (pid) => context.emit({ type: 'note', text: `waiting for pid ${pid}, which writes ${path}` }),
  )
  try {
    const sums = sumsFor(source, [{ path, format, compress: 'none', compat: '1.1' }])
    const there = await isThere(context, path, image)
    if (!there) {
      await makeFolders(dirname(path))
      const part = join(
        dirname(path),
        `${partStem(path)}${partName(file).slice('oci-'.length, 'oci-'.length + 16)}.part`,
      )
      requireSpace(part, file.size - (await haveOf(part)))
      await fetchFile(context, registry, file, { task: `pulling ${basename(path)}`, target: part })
      await accept(context, registry, image, part)
      if (sums !== undefined) await rm(sums, { force: true })
      await moveInto(part, path)
      await sweepParts(path)
    }
    if (sums !== undefined) await writeOutput(context, sums, sumsText(new Map([[basename(path), sha256]])))
    return there ? undefined : file.size
  } catch (error) {
    throw explainWriteError(error, path)
  } finally {
    await lock.release()
  }
}

async function isThere(context: BuildContext, path: string, { disk }: SharedImage): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isDirectory()) {
    throw new VlbError('VLB_EXISTS', `${path} is a folder`, { hint: 'name the file to write: -o FILE' })
  }
  if (!found?.isFile() || found.size !== disk.file.size) return false
  return (await hashWithProgress(context, `looking at ${basename(path)}`, path, 'sha256')) === disk.sha256
}

/** What is no image of the kind it says is not left to be taken for one. */
async function accept(
  context: BuildContext,
  registry: Registry,
  { tag, disk }: SharedImage,
  part: string,
): Promise<void> {
  const { sha256, file, format, capacity } = disk
  try {
    // Of one piece it is known.
    const isWhole = async () => (await hashWithProgress(context, `checking ${disk.name}`, part, 'sha256')) === sha256
    if (file.parts.length > 1 && !(await isWhole()))
      throw new VlbError('VLB_REMOTE_DAMAGED', `the image ${tag} at ${registry.name} has another digest than it says`)
    await inspectImage(part, `the image ${tag} at ${registry.name}`, { format, capacity }, context.signal)
  } catch (error) {
    if (error instanceof VlbError) await rm(part, { force: true })
    throw error
  }
  if (format === 'raw' || format === 'vpc') await digHoles(part, context.signal)
}

const partStem = (path: string) => `${basename(path)}.`

/** What was begun of other images for that place. */
async function sweepParts(path: string): Promise<void> {
  const stem = partStem(path)
  for (const name of await readdir(dirname(path)))
    if (name.startsWith(stem) && /^[0-9a-f]{16}\.part$/.test(name.slice(stem.length)))
      await rm(join(dirname(path), name), { force: true })
}

/** Nothing is built in its place. */
async function told(context: BuildContext, registry: Registry, error: unknown): Promise<unknown> {
  if (!(error instanceof VlbError) || error.code !== 'VLB_REMOTE_DAMAGED') return error
  const { digest } = error.data ?? {}
  if (typeof digest === 'string') await noteDamage(context.store, registry.name, digest)
  return new VlbError(error.code, error.message, {
    hint: 'nothing was written; whoever has the image can push it again, which replaces what is damaged',
    cause: error,
  })
}
