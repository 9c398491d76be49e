// An image as an OCI registry holds it: an image manifest that lists the pieces of its file and the files beside it, and a
// config that says what they are. Its tag is a name that people choose; what a tag names is checked as that of a snapshot is.
import schema from '../../docs/oci-image.schema.json' with { type: 'json' }
import { printable, VlbError } from './errors.ts'
import {
  type Blob,
  blobOf,
  type Descriptor,
  describeFile,
  mediaTypes,
  notListed,
  type ParsedManifest,
  parseArtifact,
  parseJson,
  type SharedFile,
  signatureName,
  timeIn,
  wrongByForm,
  wrongFile,
} from './oci.ts'
import { endingOf, type ImageFormat } from './output.ts'

export const imageTypes = {
  artifact: 'application/vnd.git-vlb.image.v1',
  config: 'application/vnd.git-vlb.image.config.v1+json',
  /** With the format behind it. */
  disk: 'application/vnd.git-vlb.disk.v1.',
} as const

/** A small file that goes along. */
export interface SharedPaper {
  name: string
  mediaType: string
  blob: Blob
}

export interface SharedImage {
  format: 1
  /** Name of the project. */
  project: string
  tag: string
  /** The commit; absent where not all was committed. */
  revision?: string
  contentId: string
  arch: string
  /** When the last layer was built, ISO 8601. */
  builtAt: string
  disk: {
    name: string
    format: ImageFormat
    /** Bytes of the disk as a guest sees it. */
    capacity: number
    /** Of the whole file. */
    sha256: string
    file: SharedFile
  }
  files: SharedPaper[]
}

/**
 * A tag as the distribution specification has it. Keys are the tags of snapshots and of their leases, and names that begin
 * with a digest those under which registries and signing tools keep what belongs to it.
 */
export function checkTag(tag: string): void {
  const hint = 'letters, digits, "_", "." and "-", at most 128 of them, not beginning with "." or "-": v1.0'
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(tag))
    throw new VlbError('VLB_USAGE', `"${printable(tag, 140)}" is no tag that a registry takes`, { hint })
  if (isReserved(tag)) {
    throw new VlbError('VLB_USAGE', `${tag} cannot be the tag of an image: such tags have a meaning of their own`, {
      hint: 'give it a name that people know it by: v1.0',
    })
  }
}

function isReserved(tag: string): boolean {
  return /^(lease-)?[0-9a-f]{64}$/.test(tag) || /^sha(256|512)-[0-9a-f]{64}/.test(tag)
}

/** Whether an image can be under that tag. */
export function mayBeImage(tag: string): boolean {
  return !isReserved(tag)
}

/** What a file of the image is called where tools that know nothing of git vlb write it. */
export function fileName(project: string, tag: string, format: ImageFormat): string {
  return `${fileStem(project, tag)}.${endingOf(format)}`
}

export function fileStem(project: string, tag: string): string {
  const name = project.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[.-]+/, '')
  return `${name.slice(0, 200) || 'image'}-${tag}`
}

/** Config and manifest of an image; with the same input always the same bytes. `padding`: blanks behind the config. */
export function composeImage(
  image: SharedImage,
  padding = '',
  signature?: string,
): { config: string; manifest: string } {
  const { project, tag, revision, builtAt } = image
  const config = `${JSON.stringify(image)}${padding}\n`
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType: imageTypes.artifact,
    config: { mediaType: imageTypes.config, ...blobOf(config) },
    layers: describeImage(image),
    annotations: {
      'org.opencontainers.image.title': project,
      'org.opencontainers.image.version': tag,
      'org.opencontainers.image.created': builtAt,
      ...(revision === undefined ? {} : { 'org.opencontainers.image.revision': revision }),
      ...(signature === undefined ? {} : { [signatureName]: signature }),
    },
  }
  return { config, manifest: JSON.stringify(manifest) }
}

function describeImage({ disk, files }: SharedImage): Descriptor[] {
  return [
    ...describeFile(disk.file, `${imageTypes.disk}${disk.format}`, disk.name),
    ...files.map(({ name, mediaType, blob: { digest, size } }) => ({
      ...{ mediaType, digest, size },
      annotations: { 'org.opencontainers.image.title': name },
    })),
  ]
}

/** What is signed of an image. With the tag, one image cannot pass for another. */
export function imageStatement(tag: string, config: string): string {
  return `git-vlb image 1\ntag ${tag}\nconfig ${config}\n`
}

/** All that an image is made of, but for its config. */
export function imageBlobs({ disk, files }: SharedImage): Blob[] {
  return [...disk.file.parts, ...files.map(({ blob }) => blob)]
}

/** The descriptors of a manifest, or why it is none of an image. */
export function parseImageManifest(text: string): ParsedManifest | string {
  return parseArtifact(text, imageTypes.config, 'image')
}

/** A config as a registry gave it for a tag, checked against its schema and in itself; or what is wrong with it. */
export function parseImage(text: string, tag: string, blobs: readonly Blob[]): SharedImage | string {
  const data = parseJson(text)
  const wrong = wrongByForm(data, schema)
  if (wrong !== undefined) return `its config is not valid at ${wrong}`
  const image = data as SharedImage
  if (image.tag !== tag) return `it was pushed as ${image.tag}`
  const { file, sha256 } = image.disk
  const [first, ...more] = file.parts
  const other = more.length === 0 && first?.digest !== `sha256:${sha256}`
  const problem = other ? 'its file has another digest than it says' : wrongFile(file)
  return problem ?? notListed(imageBlobs(image), blobs) ?? image
}

export interface ImageSummary {
  config: string
  signature: string | undefined
  /** ISO 8601, or '' where it does not say. */
  builtAt: string
  /** The commit, or ''. */
  revision: string
  /** Of the image alone. */
  bytes: number
}

/** What a manifest says of its image, for a list; undefined if it is none of ours. */
export function imageSummary(text: string): ImageSummary | undefined {
  const found = parseImageManifest(text)
  if (typeof found === 'string') return undefined
  const { annotations, layers } = parseJson(text) as Partial<Descriptor> & { layers: Partial<Descriptor>[] }
  const pieces = layers.filter(({ mediaType }) => String(mediaType).startsWith(imageTypes.disk))
  const revision = String(annotations?.['org.opencontainers.image.revision'] ?? '')
  return {
    config: found.config.digest,
    signature: found.signature,
    builtAt: timeIn(annotations?.['org.opencontainers.image.created']),
    revision: /^[0-9a-f]{40,64}$/.test(revision) ? revision : '',
    bytes: pieces.reduce((total, { size = 0 }) => total + size, 0),
  }
}
