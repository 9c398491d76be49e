// `git vlb push --image`: the image itself, for those who want to run it, with what tells of it.
import { basename } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { blobOf } from '../core/oci.ts'
import {
  checkTag,
  composeImage,
  fileName,
  fileStem,
  imageBlobs,
  imageStatement,
  type SharedImage,
  type SharedPaper,
} from '../core/oci-image.ts'
import { sumsFile, sumsText } from '../core/output.ts'
import type { PushedImageResult } from '../core/results-remote.ts'
import type { Registry } from '../store/oci.ts'
import { hashWithProgress } from './base-digests.ts'
import { changelog, changelogText } from './changelog.ts'
import type { BuildContext } from './context.ts'
import { type CurrentImage, type ImageWish, openCurrentImage } from './current-image.ts'
import { digestOf } from './flatten.ts'
import type { LoadedSource } from './project.ts'
import { type FoundImage, readImage } from './remote-image.ts'
import { sbomText } from './sbom.ts'
import { secretsWarning } from './secret-files.ts'
import { Sending, send } from './sending.ts'
import { noteIfDamaged, putTag, signsAlways } from './ship.ts'
import { withRemote } from './with-remote.ts'

export interface PushImageRequest extends ImageWish {
  tag: string
  revision: string | undefined
  /** Take the tag from another image. */
  force: boolean
  /** The version of git vlb. */
  version: string
}

export async function pushImage(context: BuildContext, request: PushImageRequest): Promise<PushedImageResult> {
  checkTag(request.tag)
  return await withRemote(context, request.revision, async (source, registry) => {
    const current = await openCurrentImage(context, source, request)
    try {
      return await publish(context, registry, { request, source, current })
    } finally {
      await current.file.close()
    }
  })
}

interface Publishing {
  request: PushImageRequest
  source: LoadedSource
  current: CurrentImage
}

async function publish(context: BuildContext, registry: Registry, work: Publishing): Promise<PushedImageResult> {
  const { request, source, current } = work
  const { tag, force } = request
  const started = Date.now()
  const { path } = current.target
  const read = () => hashWithProgress(context, `reading ${basename(path)}`, current.opened, 'sha256')
  const sha256 = await digestOf(context, path, current.record, read)
  const revision = source.clean ? source.commit : undefined
  if (revision === undefined) {
    const text = 'not all that it was built from is committed: the image will name no revision, and have no changelog'
    context.emit({ type: 'warning', text })
  }
  const signs = await signsAlways(context)
  const found = await readImage(context, registry, tag).catch(async (error: unknown) => {
    await noteIfDamaged(context, registry, error)
    return undefined
  })
  const same = typeof found === 'object' && found.image.disk.sha256 === sha256 && found.image.revision === revision
  if (found !== undefined && !same && !force) throw taken(registry, tag, found, sha256)
  const done = (image: SharedImage, digest: string, result: PushedImageResult['result'], bytes: number) => {
    const { disk, files } = image
    const { format } = current.target
    return {
      ok: true,
      ...{ remote: registry.name, tag, result, digest },
      image: { path, format, bytes: disk.file.size, sha256 },
      ...{ revision: revision ?? null, files: [disk.name, ...files.map(({ name }) => name)], signed: signs },
      ...{ bytes, seconds: (Date.now() - started) / 1000 },
    }
  }
  if (same && !force && (await isThere(context, registry, found, signs)))
    return done(found.image, found.digest, 'there', 0)
  const { chain } = current
  await secretsWarning(context, chain)(new Set(chain.steps.map(({ key }) => key)))
  const { image, sent } = await sendAll(context, registry, { ...work, sha256, revision })
  const compose = (padding: string, signature?: string) => composeImage(image, padding, signature)
  const manifest = await putTag(context, registry, tag, {
    ...{ compose, signs },
    statement: (config) => imageStatement(tag, config),
  })
  return done(image, blobOf(manifest).digest, found === undefined || same ? 'pushed' : 'replaced', sent)
}

/** Whole, and signed if it is to be. */
async function isThere(
  context: BuildContext,
  registry: Registry,
  { image, signer, untrusted }: FoundImage,
  signs: boolean,
): Promise<boolean> {
  if (untrusted !== undefined || (signs && signer === undefined)) return false
  return (await new Sending(context, registry, '').lacking(imageBlobs(image))).length === 0
}

function taken(registry: Registry, tag: string, found: FoundImage | string, sha256: string): VlbError {
  const what =
    typeof found === 'string'
      ? `something else: ${printable(found)}`
      : found.image.disk.sha256 === sha256
        ? `this image, built from ${found.image.revision?.slice(0, 12) ?? 'what was not committed'}`
        : `another image, of ${found.image.builtAt}${found.image.revision ? ` from ${found.image.revision.slice(0, 12)}` : ''}`
  return new VlbError('VLB_EXISTS', `${registry.name} has under the tag ${tag} ${what}`, {
    hint: 'choose another tag; or put this image in its place: --force',
  })
}

interface Papers extends Publishing {
  sha256: string
  revision: string | undefined
}

async function sendAll(
  context: BuildContext,
  registry: Registry,
  papers: Papers,
): Promise<{ image: SharedImage; sent: number }> {
  const { request, source, current, sha256, revision } = papers
  const { target, top, opened } = current
  const { name: project } = source.config
  const name = fileName(project, request.tag, target.format)
  const texts = await textsOf(context, papers, name)
  const parcel = { id: `image-${sha256}`, nonce: sha256, task: `pushing ${name}`, path: opened }
  const { shipment, sent } = await send(context, registry, { ...parcel, packing: undefined, details: undefined })
  const small = new Sending(context, registry, '')
  const files: SharedPaper[] = []
  for (const [title, { mediaType, text }] of texts) {
    const bytes = Buffer.from(text)
    await small.small(bytes)
    files.push({ name: title, mediaType, blob: blobOf(bytes) })
  }
  const { contentId, builtAt, disk } = top.manifest
  const image: SharedImage = {
    ...{ format: 1, project, tag: request.tag },
    ...(revision === undefined ? {} : { revision }),
    ...{ contentId, arch: context.arch, builtAt },
    disk: { name, format: target.format, capacity: disk.size, sha256, file: shipment.file },
    files,
  }
  return { image, sent: sent + small.sent }
}

interface Text {
  mediaType: string
  text: string
}

/** The small files, by name. */
async function textsOf(
  context: BuildContext,
  { request, source, current, sha256, revision }: Papers,
  name: string,
): Promise<Map<string, Text>> {
  const { name: project } = source.config
  const stem = fileStem(project, request.tag)
  const { text } = await sbomText(context, request.version, project, current.top)
  const texts = new Map([[`${stem}.spdx.json`, { mediaType: 'application/spdx+json', text }]])
  const changes = revision === undefined ? undefined : await changelogOf(context, source)
  if (changes !== undefined) texts.set(`${stem}.changelog.md`, { mediaType: 'text/markdown', text: changes })
  const digest = (bytes: string) => blobOf(bytes).digest.slice('sha256:'.length)
  const sums = new Map([[name, sha256], ...[...texts].map(([title, one]) => [title, digest(one.text)] as const)])
  return texts.set(sumsFile, { mediaType: 'text/plain', text: sumsText(sums) })
}

/** Since the tag before it. An image is not kept back for want of one. */
async function changelogOf(context: BuildContext, { label }: LoadedSource): Promise<string | undefined> {
  try {
    return changelogText(await changelog(context, label === '' ? undefined : label), 'md')
  } catch (error) {
    if (!(error instanceof VlbError)) throw error
    context.emit({ type: 'note', text: `without a changelog: ${error.message}` })
    return undefined
  }
}
