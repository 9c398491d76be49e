// What `git vlb status` returns: the state of layers, why they are missing, the image, the prebuild, the store.

export type LayerState = 'cached' | 'missing' | 'building' | 'nocache' | 'remote'

export interface ChangedFile {
  /** Below the layer's folder. */
  path: string
  change: 'added' | 'modified' | 'deleted' | 'mode'
}

export interface ChangingCommit {
  id: string
  subject: string
  author: string
  /** ISO 8601, as its author had it. */
  date: string
}

/** Where a change of files comes from. */
export interface ChangeOrigin {
  /** The newest commit that touched them; null if there is none, or it is not known. */
  commit: ChangingCommit | null
  /** They differ from what is committed. */
  uncommitted: boolean
}

/** An input of a layer's key that is another one than that of its last snapshot. */
export type Why =
  /** `files` are null where what the snapshot was made from is not known any more; `more` counts those left out. */
  | ({ input: 'tree'; before: string; after: string; files: ChangedFile[] | null; more: number } & ChangeOrigin)
  | ({ input: 'include'; path: string; change: 'added' | 'removed' | 'changed' } & ChangeOrigin)
  /** The lowest layer below it that is not as it was. `missing`: it is as it was, but has to be built. */
  | { input: 'parent'; layer: string; change: 'added' | 'removed' | 'moved' | 'changed' | 'missing'; inputs: string[] }
  /** Names only: a value may be what somebody would not have in a log. `missing`: nobody gave it. */
  | { input: 'env'; name: string; change: 'added' | 'removed' | 'changed' | 'missing' }
  | {
      input: 'kind' | 'base' | 'size' | 'root' | 'arch' | 'engine'
      before: string | number | null
      after: string | number | null
    }
  | { input: 'nocache' }
  | { input: 'ttl'; seconds: number }

export interface LayerStatus {
  name: string
  kind: string
  tree: string
  key: string
  state: LayerState
  /** Why it is not cached; empty for a cached one. */
  reason: string
  /** The same as data: what differs from its last snapshot. Empty for a cached layer, and for one never built. */
  why: Why[]
  /** The snapshot that `why` compares with; it may have had another name. */
  last: { layer: string; key: string; builtAt: string } | null
  dirty: boolean
  bytes: number
  seconds: number
  /** ISO 8601, or null for a layer that is not there. */
  builtAt: string | null
  /** Of a rolled-up layer. */
  steps?: LayerStatus[]
}

/** The build in the background that hooks start, or the last one. */
export interface PrebuildStatus {
  state: 'running' | 'done' | 'stopped' | 'failed'
  /** The layer in work, or the one that failed. */
  layer: string | null
  /** Names of the layers it has built. */
  built: string[]
  /** Why it stopped or failed; empty otherwise. */
  reason: string
  pid: number
  /** ISO 8601. */
  startedAt: string
  endedAt: string | null
  /** Absolute path. */
  log: string
}

export interface StatusResult {
  project: string
  rev: string
  base: { digest: string | null; size: number | null; source: string; diskSize: number | null }
  layers: LayerStatus[]
  image: {
    path: string
    state: 'current' | 'stale' | 'missing'
    /** When the current image passed the checks as they are now, ISO 8601; null if it did not. */
    tested: string | null
  }
  /** Layers that would better be one, of a chain so deep that it pays; null otherwise, and for a revision. */
  rollup: { from: string; to: string; layers: number } | null
  /** Null where there was none, and for a revision. */
  prebuild: PrebuildStatus | null
  store: StoreStatus
}

export interface StoreStatus {
  path: string
  /** As it was counted last; null where it never was. */
  bytes: number | null
  /** Null where there is no limit. */
  budgetBytes: number | null
  /** Whether vlb.budget says so; else it is a quarter of what the disk would have free without the store. */
  configured: boolean
}
