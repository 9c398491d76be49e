// What a snapshot says of itself: the versioned JSON file beside its overlay.
import type { DiskLayout } from './disk.ts'
import type { ContentId, LayerKey, SnapshotId } from './ids.ts'
import type { KeyInputs } from './key.ts'

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
}

/** SHA-256 of an overlay's first bytes, which name its backing file, and of all behind them. */
export interface OverlayDigest {
  head: string
  rest: string
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
  let data: Partial<Manifest> | null
  try {
    data = JSON.parse(text) as Partial<Manifest> | null
  } catch {
    return undefined
  }
  const sound =
    data?.format === 1 &&
    typeof data.id === 'string' &&
    typeof data.key === 'string' &&
    typeof data.contentId === 'string' &&
    typeof data.nonce === 'string' &&
    typeof data.fileBytes === 'number' &&
    typeof data.inputs === 'object' &&
    data.inputs !== null &&
    Array.isArray(data.disk?.partitions)
  return sound ? (data as Manifest) : undefined
}

/** What the store knows of a base disk. */
export interface BaseRecord {
  format: 1
  digest: string
  /** File name in the base's folder. */
  file: string
  imageFormat: 'qcow2' | 'raw'
  fileBytes: number
  /** SHA-256 of that file; absent where an older git vlb brought it. */
  sha256?: string
  disk: Omit<DiskLayout, 'root'>
  source: string
  addedAt: string
}
