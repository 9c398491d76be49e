// What a remote holds under the tag of an image.

import { blobOf, configLimit } from '../core/oci.ts'
import { imageStatement, parseImage, parseImageManifest, type SharedImage } from '../core/oci-image.ts'
import type { Registry } from '../store/oci.ts'
import type { BuildContext } from './context.ts'
import { type Trust, trustIn } from './remote.ts'

export interface FoundImage extends Trust {
  image: SharedImage
  /** Of its manifest. */
  digest: string
}

/** Undefined where nothing has the tag; a text says why what has it is no image of this project's tools. */
export async function readImage(
  context: BuildContext,
  registry: Registry,
  tag: string,
): Promise<FoundImage | string | undefined> {
  const text = await registry.manifest(tag)
  if (text === undefined) return undefined
  const manifest = parseImageManifest(text)
  if (typeof manifest === 'string') return manifest
  const trust = await trustIn(context, imageStatement(tag, manifest.config.digest), manifest.signature)
  const config = (await registry.blob(manifest.config, configLimit)).toString('utf8')
  const image = parseImage(config, tag, manifest.blobs)
  return typeof image === 'string' ? image : { image, digest: blobOf(text).digest, ...trust }
}
