// What `git vlb gc` and `git vlb cache` return.

/** Something of the store that went. `key` and `layer` are null for what is no snapshot. */
export interface Removed {
  kind: 'snapshot' | 'base' | 'failure' | 'cache' | 'download'
  id: string
  key: string | null
  layer: string | null
  bytes: number
  /** ISO 8601. */
  lastUse: string
  /** What it was until then. */
  state: SnapshotState
}

/** used: by a process that runs; needed: by a branch, a tag and so on; recorded: for a commit that is neither. */
export type SnapshotState = 'used' | 'needed' | 'recorded' | 'unneeded'

export interface GcResult {
  dryRun: boolean
  store: string
  /** Snapshots. */
  removed: Removed[]
  /** Bases, disks of failed builds, caches, downloads. */
  others: Removed[]
  /** Of all of them. */
  freedBytes: number
  /** What the store takes now. */
  keptBytes: number
  /** Null where there is no limit. */
  budgetBytes: number | null
  /** What of it a running process uses, and cannot go. */
  usedBytes: number
}

export interface KeptBy {
  kind: 'branch' | 'remote' | 'tag' | 'worktree' | 'stash' | 'record' | 'image' | 'unreadable' | 'process'
  name: string
  /** Path of the repository; empty for an image and a process. */
  repository: string
  /** The snapshot above that it is kept for; null if it is meant itself. */
  above: { id: string; layer: string } | null
}

export interface CacheEntry {
  id: string
  key: string
  layer: string
  project: string
  bytes: number
  /** ISO 8601. */
  builtAt: string
  lastUse: string
  state: SnapshotState
  /** Who keeps it; one for each, the nearest first. */
  keptBy: KeptBy[]
}

export interface Damaged {
  kind: 'snapshot' | 'base'
  id: string
  layer: string
  reason: string
}

export type CacheResult =
  | {
      action: 'ls'
      store: string
      snapshots: CacheEntry[]
      why: boolean
      totalBytes: number
      budgetBytes: number | null
    }
  | {
      action: 'du'
      store: string
      layers: { layer: string; snapshots: number; bytes: number }[]
      folders: { folder: string; bytes: number }[]
      totalBytes: number
      budgetBytes: number | null
    }
  | {
      action: 'verify'
      store: string
      quick: boolean
      dryRun: boolean
      snapshots: number
      bases: number
      /** Of an older git vlb, that noted no digest: their structure alone was looked at. */
      withoutDigest: number
      damaged: Damaged[]
      /** What was dropped: the damaged ones with all that stood on them. */
      removed: Removed[]
      /** What could not be dropped. */
      left: Damaged[]
      seconds: number
      exitStatus: number
    }
  | { action: 'rm'; store: string; dryRun: boolean; removed: Removed[]; freedBytes: number }
