// A snapshot as an OCI registry holds it: an image manifest that lists the blobs of the whole chain, and a config that says
// what they are. What comes back from a registry is anybody's bytes: it is checked here before anything else looks at it.
//
// The tag is the key. Since each manifest lists its whole chain, a registry's garbage collection never cuts one, and what
// several have in common is stored once. Neither key nor content id is ever made from what is packed for the way.
import { createHash } from 'node:crypto'
import { type Schema, Validator } from '@cfworker/json-schema'
import schema from '../../docs/oci-snapshot.schema.json' with { type: 'json' }
import type { DiskLayout } from './disk.ts'
import type { ContentId, LayerKey } from './ids.ts'
import { type KeyInputs, keyOf } from './key.ts'
import type { BaseRecord, Manifest } from './manifest.ts'

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  artifact: 'application/vnd.git-vlb.snapshot.v1',
  config: 'application/vnd.git-vlb.snapshot.config.v1+json',
  /** A piece of an overlay, or of a base, which may be raw. */
  layer: 'application/vnd.git-vlb.layer.v1.qcow2',
  base: 'application/vnd.git-vlb.base.v1',
  details: 'application/vnd.git-vlb.details.v1+json+gzip',
} as const

/** Some registries take no larger blob, others give up on an upload that takes long. */
export const partLimit = 512 * 2 ** 20
/** What of a manifest or a config is read at all. */
export const manifestLimit = 4 * 2 ** 20
export const configLimit = 64 * 2 ** 20

export interface Blob {
  /** `sha256:HEX` */
  digest: string
  size: number
}

/** A file in pieces of at most `partLimit`. */
export interface SharedFile {
  size: number
  parts: Blob[]
}

/**
 * What others are told of a snapshot: its manifest without what is of one machine, and without declared values, which may
 * be what somebody would not have in a registry.
 */
export interface SharedManifest
  extends Omit<
    Manifest,
    'format' | 'id' | 'project' | 'fileBytes' | 'bytes' | 'digest' | 'inputs' | 'parent' | 'parentNonce'
  > {
  inputs: Omit<KeyInputs, 'env'>
  /** Names of the declared values. */
  values?: string[]
}

export interface SharedLayer {
  manifest: SharedManifest
  file: SharedFile
  /** Its log and package list: gzipped JSON. */
  details: Blob
}

/** `sha256`: of the disk itself, however it travels. */
export interface SharedBase extends Pick<BaseRecord, 'digest' | 'disk' | 'source' | 'sha256'> {
  file: SharedFile
}

/** Whether the digest of a base of that path or URL may be one of a packed file, and not of the disk in it. */
export function isPackedName(source: string): boolean {
  return /\.(gz|xz|zst)$/i.test(source.replace(/[?#].*$/s, ''))
}

export interface SharedSnapshot {
  format: 1
  key: LayerKey
  contentId: ContentId
  arch: string
  base?: SharedBase
  /** From the base up; each stands on the one before it. */
  layers: SharedLayer[]
}

/** The small files beside an overlay. */
export interface Details {
  log: string
  packages?: string
}

export function shareManifest(manifest: Manifest): SharedManifest {
  const { key, contentId, nonce, layer, disk, seconds, builtAt, packages, base, steps } = manifest
  const { env, ...inputs } = manifest.inputs
  return {
    ...{ key, contentId, nonce, inputs, layer, disk, seconds, builtAt },
    ...(env ? { values: Object.keys(env) } : {}),
    ...(packages ? { packages } : {}),
    ...(base === undefined ? {} : { base }),
    ...(steps ? { steps } : {}),
  }
}

/** Bytes as a blob that a manifest can name. */
export function blobOf(bytes: Buffer | string): Blob {
  return { digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, size: Buffer.byteLength(bytes) }
}

/** Config and manifest of a snapshot; with the same input always the same bytes. `padding`: blanks behind the config. */
export function composeManifest(
  snapshot: SharedSnapshot,
  padding = '',
  signature?: string,
  pushedAt?: string,
): { config: string; manifest: string } {
  const config = `${JSON.stringify(snapshot)}${padding}\n`
  const top = snapshot.layers.at(-1)?.manifest
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType: mediaTypes.artifact,
    config: { mediaType: mediaTypes.config, ...blobOf(config) },
    layers: describeBlobs(snapshot),
    annotations: {
      'org.opencontainers.image.title': top?.layer ?? '',
      'org.opencontainers.image.created': top?.builtAt ?? '',
      'vnd.git-vlb.key': snapshot.key,
      ...(pushedAt === undefined ? {} : { [pushedName]: pushedAt }),
      ...(signature === undefined ? {} : { [signatureName]: signature }),
    },
  }
  return { config, manifest: JSON.stringify(manifest) }
}

/** The annotation that a signature is in. */
export const signatureName = 'vnd.git-vlb.signature'
/** When it was written to this registry, which does not tell by itself. */
const pushedName = 'vnd.git-vlb.pushed'

/** The manifest as if it were pushed at that time, which no signature covers; undefined if it is none of ours. */
export function pushedNow(text: string, time: string): string | undefined {
  if (typeof parseOciManifest(text) === 'string') return undefined
  const data = parseJson(text) as { annotations?: Record<string, unknown> }
  return JSON.stringify({ ...data, annotations: { ...data.annotations, [pushedName]: time } })
}

/**
 * What is signed of a snapshot. The config names all blobs of the chain by their digests; with the key, a manifest cannot
 * pass for that of another one.
 */
export function statementOf(key: string, config: string): string {
  return `git-vlb snapshot 1\nkey ${key}\nconfig ${config}\n`
}

export interface Descriptor extends Blob {
  mediaType: string
  annotations: Record<string, string>
}

function describeBlobs({ base, layers }: SharedSnapshot): Descriptor[] {
  const found = base ? describeFile(base.file, mediaTypes.base, 'base', { [layerName]: '0' }) : []
  for (const [i, { manifest, file, details }] of layers.entries()) {
    const index = String(i + 1)
    const name = `${index.padStart(2, '0')}-${manifest.layer.replaceAll('/', '-')}`
    found.push(...describeFile(file, mediaTypes.layer, `${name}.qcow2`, { [layerName]: index }))
    found.push({
      mediaType: mediaTypes.details,
      digest: details.digest,
      size: details.size,
      annotations: { 'org.opencontainers.image.title': `${name}.json.gz`, [layerName]: index },
    })
  }
  return found
}

const layerName = 'vnd.git-vlb.layer'

/** One for each piece. Where there are several, their names end in .001 and so on. */
export function describeFile(
  { parts }: SharedFile,
  mediaType: string,
  name: string,
  more: Record<string, string> = {},
): Descriptor[] {
  let offset = 0
  return parts.map(({ digest, size }, i) => {
    const title = parts.length === 1 ? name : `${name}.${String(i + 1).padStart(3, '0')}`
    const annotations = {
      'org.opencontainers.image.title': title,
      ...more,
      'vnd.git-vlb.offset': String(offset),
    }
    offset += size
    return { mediaType, digest, size, annotations }
  })
}

export interface ParsedManifest {
  config: Blob
  blobs: Blob[]
  signature: string | undefined
}

/** The descriptors of a manifest, or why it is none of ours. */
export function parseOciManifest(text: string): ParsedManifest | string {
  return parseArtifact(text, mediaTypes.config, 'snapshot')
}

/** The same for what has a config of that type, which people call `kind`. */
export function parseArtifact(text: string, configType: string, kind: string): ParsedManifest | string {
  const data = parseJson(text) as Partial<{
    schemaVersion: number
    config: Partial<Descriptor>
    layers: Partial<Descriptor>[]
    annotations: Record<string, unknown>
  }> | null
  if (data?.schemaVersion !== 2 || !Array.isArray(data.layers)) return 'it is no image manifest'
  if (data.config?.mediaType !== configType) return `it is no ${kind} of git vlb`
  const config = toBlob(data.config)
  const blobs = data.layers.map(toBlob)
  if (!config || blobs.some((blob) => !blob)) return 'a descriptor of its is not valid'
  const signature = data.annotations?.[signatureName]
  return { config, blobs: blobs as Blob[], signature: typeof signature === 'string' ? signature : undefined }
}

export interface Summary {
  config: string
  signature: string | undefined
  layer: string
  /** ISO 8601, or '' where it does not say. */
  builtAt: string
  pushedAt: string
  /** Of the layer itself; of the whole chain with its base. */
  bytes: number
  chainBytes: number
}

/** What a manifest says of its snapshot, for a list; undefined if it is none of ours. */
export function summaryOf(text: string): Summary | undefined {
  const found = parseOciManifest(text)
  if (typeof found === 'string') return undefined
  const { annotations, layers } = parseJson(text) as Partial<Descriptor> & { layers: Partial<Descriptor>[] }
  const index = ({ annotations: own }: Partial<Descriptor>) => Number(own?.[layerName] ?? -1)
  const top = Math.max(...layers.map(index))
  const sum = (some: Partial<Descriptor>[]) => some.reduce((total, { size = 0 }) => total + size, 0)
  const builtAt = timeIn(annotations?.['org.opencontainers.image.created'])
  return {
    config: found.config.digest,
    signature: found.signature,
    layer: String(annotations?.['org.opencontainers.image.title'] ?? ''),
    builtAt,
    pushedAt: timeIn(annotations?.[pushedName]) || builtAt,
    bytes: sum(layers.filter((one) => index(one) === top)),
    chainBytes: sum(layers),
  }
}

/** A date with its time, or nothing. */
export function timeIn(text: unknown): string {
  return typeof text === 'string' && !Number.isNaN(Date.parse(text)) ? text : ''
}

function toBlob(given: Partial<Descriptor> | null): Blob | undefined {
  const { digest, size } = given ?? {}
  const sound = typeof digest === 'string' && /^sha256:[0-9a-f]{64}$/.test(digest) && Number.isSafeInteger(size)
  return sound && (size ?? -1) >= 0 ? { digest, size: size ?? 0 } : undefined
}

/**
 * A config as a registry gave it for `key`, checked against its schema and in itself; or what is wrong with it. That its
 * blobs are what they say is seen when they arrive.
 */
export function parseSnapshot(text: string, key: LayerKey, blobs: readonly Blob[]): SharedSnapshot | string {
  const data = parseJson(text)
  const wrong = wrongByForm(data, schema)
  if (wrong !== undefined) return `its config is not valid at ${wrong}`
  const snapshot = data as SharedSnapshot
  return wrongIn(snapshot, key) ?? notListed(blobsOf(snapshot), blobs) ?? snapshot
}

/** Where it is not as a schema says. */
export function wrongByForm(data: unknown, schema: unknown): string | undefined {
  try {
    const result = new Validator(schema as Schema, '2020-12', true).validate(data)
    return result.valid ? undefined : (result.errors.at(-1)?.instanceLocation ?? '#')
  } catch (error) {
    // Half a character in a name, of which the validator makes no path.
    if (error instanceof URIError) return '#'
    throw error
  }
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** The chain has to be one that gives this key. */
function wrongIn({ key, contentId, base, layers }: SharedSnapshot, wanted: LayerKey): string | undefined {
  const top = layers.at(-1)?.manifest
  if (key !== wanted || top?.key !== wanted || top.contentId !== contentId) return 'it is of another key'
  for (const [i, { manifest, file }] of layers.entries()) {
    const { inputs, values = [], layer } = manifest
    const below = layers[i - 1]?.manifest
    // Values are not told; but then what stands on such a layer still names its content id.
    if (values.length === 0 && keyOf(inputs) !== manifest.key) return `the inputs of ${layer} give another key`
    if (inputs.parent !== below?.contentId) return `${layer} does not stand on what is below it`
    if (inputs.base !== manifest.base || (below && manifest.base !== undefined))
      return `${layer} stands on another base`
    if (!below && inputs.base === undefined && inputs.kind !== 'build-base') return `${layer} stands on nothing`
    if (manifest.disk.size < (below?.disk.size ?? base?.disk.size ?? 0)) return `${layer} makes the disk smaller`
    const wrong = wrongLayout(manifest.disk) ?? wrongFile(file)
    if (wrong) return `${layer}: ${wrong}`
  }
  if (!base) return undefined
  if (base.digest !== layers[0]?.manifest.base) return 'its base is another one'
  const wrong = wrongLayout(base.disk) ?? wrongFile(base.file)
  return wrong && `base: ${wrong}`
}

function wrongLayout(disk: Omit<DiskLayout, 'root'> & { root?: number }): string | undefined {
  if (disk.partitions.some(({ start, size }) => start + size > disk.size)) return 'a partition lies beyond its disk'
  if (disk.root !== undefined && !disk.partitions.some(({ number }) => number === disk.root)) return 'it has no root'
  return undefined
}

export function wrongFile({ size, parts }: SharedFile): string | undefined {
  const sum = parts.reduce((total, part) => total + part.size, 0)
  return sum === size ? undefined : 'its pieces do not make up its file'
}

/** What the manifest does not list, the registry may have dropped. */
export function notListed(needed: readonly Blob[], blobs: readonly Blob[]): string | undefined {
  const listed = new Map(blobs.map(({ digest, size }) => [digest, size]))
  const lacking = needed.find(({ digest, size }) => listed.get(digest) !== size)
  return lacking && `its manifest does not list ${lacking.digest}`
}

/** All that a snapshot is made of, but for its config. */
export function blobsOf({ base, layers }: SharedSnapshot): Blob[] {
  return [...(base?.file.parts ?? []), ...layers.flatMap(({ file, details }) => [...file.parts, details])]
}
