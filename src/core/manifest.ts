// What a snapshot says of itself: the versioned JSON file beside its overlay.
import { createHash } from 'node:crypto'
import type { DiskLayout } from './disk.ts'
import type { ContentId, LayerKey, SnapshotId } from './ids.ts'
import type { KeyInputs } from './key.ts'
import { areNamedTexts, areNumbers, areTexts, maybeText } from './shape.ts'

export interface Manifest {
  format: 1
  /** Folder of the store that it lies in. */
  id: SnapshotId
  key: LayerKey
  contentId: ContentId
  /** Another text for every build. An overlay fits only the very disk it was made on, block by block, not a later build of the same key. */
  nonce: string
  /** What the key was made from, so that `status` can say why another key is new. */
  inputs: KeyInputs
  /** Name of the layer when it was built; not part of the key. */
  layer: string
  project: string
  disk: DiskLayout
  /** Length of layer.qcow2 in bytes: a cheap check for truncation. */
  fileBytes: number
  /** What layer.qcow2 holds, for `git vlb cache verify`; absent where an older git vlb built it. */
  digest?: OverlayDigest
  /** Of its header and mapping tables alone, which is quick: looked at before it is read. */
  tables?: string
  /** Bytes it takes on the host's disk. */
  bytes: number
  /** How long its script ran, with attach and detach. */
  seconds: number
  /** ISO 8601. */
  builtAt: string
  /** The snapshot that backs it; undefined for one that stands alone or on a base. */
  parent?: SnapshotId
  /** The nonce that the parent had. */
  parentNonce?: string
  /** SHA-256 of packages.json beside it, and what the disk's package databases looked like. */
  packages?: { digest: string; state: string }
  /** Digest of the base that backs it. */
  base?: string
  /** Of a rolled-up layer: what it was merged from, in order. */
  steps?: MergedStep[]
  /** SHA-256 of all the rest. */
  check?: string
}

/** SHA-256 of an overlay's first bytes, which name its backing file, and of all behind them. */
export interface OverlayDigest {
  head: string
  rest: string
  /** `rest` is of checksums of what lies there; absent where an older git vlb made it of the bytes themselves. */
  sums?: 'crc32'
}

export interface MergedStep {
  /** Name of its folder in `layers/`. */
  layer: string
  key: LayerKey
  contentId: ContentId
  seconds: number
  /** ISO 8601. */
  builtAt: string
}

/** A manifest read from disk, or undefined if it is not one this version understands. */
export function parseManifest(text: string): Manifest | undefined {
  const data = parse<Manifest>(text)
  const sound =
    data?.format === 1 &&
    areTexts(data.id, data.key, data.contentId, data.nonce, data.layer, data.project, data.builtAt) &&
    areNumbers(data.fileBytes, data.bytes, data.seconds) &&
    areInputs(data.inputs) &&
    isLayout(data.disk) &&
    areNumbers(data.disk?.root) &&
    maybeText(data.disk?.subvolume) &&
    maybeText(data.disk?.fstab) &&
    [data.parent, data.parentNonce, data.base].every(maybeText) &&
    (data.digest === undefined || isDigest(data.digest)) &&
    (data.packages === undefined || areTexts(data.packages?.digest, data.packages?.state)) &&
    !Number.isNaN(Date.parse(data.builtAt ?? '')) &&
    (data.steps === undefined || (Array.isArray(data.steps) && data.steps.every(isStep)))
  if (!sound) return undefined
  const { check, ...rest } = data as Manifest
  // An older git vlb wrote none.
  return check === undefined || check === checkOf(rest) ? (rest as Manifest) : undefined
}

/** As parseManifest reads it, with a digest of itself: no damage of it goes unnoticed. */
export function manifestText(manifest: Manifest): string {
  const { check: _, ...rest } = manifest
  return `${JSON.stringify({ ...rest, check: checkOf(rest) }, null, 2)}\n`
}

function isDigest({ head, rest, sums }: Partial<OverlayDigest>): boolean {
  return areTexts(head, rest) && (sums === undefined || sums === 'crc32')
}

function checkOf(manifest: Partial<Manifest>): string {
  return createHash('sha256').update(JSON.stringify(manifest)).digest('hex')
}

function parse<T>(text: string): Partial<T> | null {
  try {
    return JSON.parse(text) as Partial<T> | null
  } catch {
    return null
  }
}

function areInputs(inputs: Partial<KeyInputs> | undefined): boolean {
  return (
    areTexts(inputs?.kind) &&
    areNumbers(inputs?.engine) &&
    [inputs?.arch, inputs?.parent, inputs?.base, inputs?.tree, inputs?.root].every(maybeText) &&
    [inputs?.includes, inputs?.env].every((one) => one === undefined || areNamedTexts(one)) &&
    (inputs?.size === undefined || areNumbers(inputs.size))
  )
}

function isLayout(disk: Partial<DiskLayout> | undefined): boolean {
  return (
    areTexts(disk?.table) &&
    areNumbers(disk?.size) &&
    Array.isArray(disk?.partitions) &&
    disk.partitions.every(
      (one) =>
        areNumbers(one?.number, one?.start, one?.size) &&
        [one.fs, one.label, one.uuid, one.partuuid, one.partlabel, one.fstab].every(maybeText) &&
        (one.subvolumes === undefined || (Array.isArray(one.subvolumes) && one.subvolumes.every(isSubvolume))),
    )
  )
}

function isSubvolume(one: { path?: string; fstab?: string } | null): boolean {
  return areTexts(one?.path) && maybeText(one?.fstab)
}

function isStep(step: Partial<MergedStep> | null): boolean {
  return areTexts(step?.layer, step?.key, step?.contentId, step?.builtAt) && areNumbers(step?.seconds)
}

/** What is written beside the base of that digest, or undefined if it is not that, or names a file that is none of its own. */
export function parseBaseRecord(text: string, digest: string): BaseRecord | undefined {
  const data = parse<BaseRecord>(text)
  const sound =
    data?.format === 1 &&
    data.digest === digest &&
    areTexts(data.source, data.addedAt) &&
    (data.imageFormat === 'qcow2' || data.imageFormat === 'raw') &&
    data.file === `disk.${data.imageFormat}` &&
    areNumbers(data.fileBytes) &&
    [data.sha256, data.tables].every(maybeText) &&
    isLayout(data.disk)
  return sound ? (data as BaseRecord) : undefined
}

/** What the store knows of a base disk. */
export interface BaseRecord {
  format: 1
  digest: string
  /** File name in the base's folder. */
  file: string
  imageFormat: 'qcow2' | 'raw'
  fileBytes: number
  /** Of what all of it hangs on: a qcow2's tables, the beginning of a raw disk. */
  tables?: string
  /** SHA-256 of that file; absent where an older git vlb brought it. */
  sha256?: string
  disk: Omit<DiskLayout, 'root'>
  source: string
  addedAt: string
}
