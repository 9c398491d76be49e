// What the verbs return that talk to a remote.

/**
 * pushed: the remote has it now; there: it had it before; kept: it, or what is below it, is not to be shared; missing: it is
 * not built.
 */
export interface PushedLayer {
  name: string
  key: string
  result: 'pushed' | 'there' | 'kept' | 'missing'
  /** Bytes that were sent for it, its base among them. */
  bytes: number
}

export interface PushResult {
  ok: boolean
  remote: string
  layers: PushedLayer[]
  bytes: number
  seconds: number
}

/** cached: the store had it; absent: the remote lacks it, or it is not shared. */
export interface PulledLayer {
  name: string
  key: string
  result: 'pulled' | 'cached' | 'absent'
  /** Bytes it takes in the store. */
  bytes: number
}

export interface PullResult {
  ok: boolean
  remote: string
  layers: PulledLayer[]
  /** Bytes that were fetched at most: what an earlier run left is among them. */
  bytes: number
  seconds: number
}

interface SharedImageResult {
  ok: boolean
  remote: string
  tag: string
  /** Of the manifest: the registry's own name of what the tag names. */
  digest: string
  image: { path: string; format: string; bytes: number; sha256: string }
  /** The commit; null where not all was committed. */
  revision: string | null
  /** Bytes that went over the line. */
  bytes: number
  seconds: number
}

export interface PushedImageResult extends SharedImageResult {
  /** there: the tag had this very image; replaced: it had another one. */
  result: 'pushed' | 'there' | 'replaced'
  /** Names under which other tools write them: the image first. */
  files: string[]
  signed: boolean
}

export interface PulledImageResult extends SharedImageResult {
  /** there: the file was that already. */
  result: 'pulled' | 'there'
  project: string
  /** When the last layer was built, ISO 8601. */
  builtAt: string
  /** Who signed it, of those whom git trusts; else null. */
  signer: string | null
}

export interface RemoteImage {
  tag: string
  bytes: number
  /** ISO 8601; null if it does not say. */
  builtAt: string | null
  revision: string | null
  signer: string | null
}

export interface RemoteSnapshot {
  layer: string
  key: string
  /** Of the layer; of all that it stands on, too. */
  bytes: number
  chainBytes: number
  /** ISO 8601; null if it does not say. */
  builtAt: string | null
  /** The store has a snapshot of that key. */
  here: boolean
  /** Who signed it, of those whom git trusts; else null. */
  signer: string | null
}

export interface RemoteListResult {
  ok: boolean
  remote: string
  /** The newest first. */
  snapshots: RemoteSnapshot[]
  /** The newest first. */
  images: RemoteImage[]
}

export interface PrunedSnapshot {
  layer: string
  key: string
  /** Of the layer itself. */
  bytes: number
  /** ISO 8601; null if it does not say. */
  pushedAt: string | null
}

export interface PruneResult {
  ok: boolean
  dryRun: boolean
  remote: string
  removed: PrunedSnapshot[]
  /** Leases that ran out. */
  leases: number
  /** What stays: what something needs; what is new or below that, or has another tag. */
  needed: number
  spared: number
  /** What nothing that stays names any more. */
  freedBytes: number
  /** ISO 8601: what was pushed since then stays. */
  before: string
}
