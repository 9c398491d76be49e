// What the commands return: data for `--json`, and what the reporters make text of. Field names of the JSON forms are
// a contract: add, never rename.
import type { Changelog } from './changelog.ts'
import type { CheckResult } from './checks.ts'
import type { StepResult } from './events.ts'
import type { FileChange, FilePatch } from './file-diff.ts'
import type { SealedStep } from './seal.ts'

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

export interface PrebuildResult extends Pick<PrebuildStatus, 'reason'> {
  ok: boolean
  /** `skipped`: another one is at the same already. */
  state: 'done' | 'stopped' | 'failed' | 'skipped'
  layers: BuiltLayer[]
  seconds: number
  error?: BuildError
  exitStatus: number
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

export interface BuiltLayer {
  name: string
  key: string
  contentId: string | null
  result: StepResult
  seconds: number
  bytes: number
  rev?: string
  /** Of a rolled-up layer that was built: its steps. */
  steps?: BuiltLayer[]
}

export interface BuiltImage {
  path: string
  format: string
  bytes: number
  sha256: string | null
  /** What each step of the seal took away when it was written; empty if it is not sealed. */
  seal: SealedStep[]
  /** Whether this run wrote it. */
  written: boolean
  seconds: number
  rev?: string
}

export interface BuiltSbom {
  path: string
  /** How many packages it lists. */
  packages: number
}

export interface BuildError {
  code: string
  message: string
  hint?: string
  layer?: string
  log?: string
  lastLines?: string[]
}

export interface BuildResult {
  ok: boolean
  dryRun: boolean
  layers: BuiltLayer[]
  image: BuiltImage | null
  /** All images, where several revisions were built. */
  images: BuiltImage[]
  /** Where --sbom asked for one. */
  sbom?: BuiltSbom
  seconds: number
  error?: BuildError
  exitStatus: number
}

export interface RollupResult {
  ok: boolean
  dryRun: boolean
  /** In order; `state` is what was found before anything was built. */
  layers: { name: string; key: string; contentId: string | null; state: 'cached' | 'missing'; bytes: number }[]
  /** `bytes` of a dry run are at most that. */
  into: { name: string; key: string; contentId: string | null; bytes: number }
  moves: { from: string; to: string }[]
  /** Layers above that stay in the store. */
  above: { name: string; key: string; state: 'cached' | 'missing' }[]
  message: string
  /** Null with --dry-run and --no-commit. */
  commit: string | null
  /** The branch, or HEAD where none is checked out. */
  branch: string
  seconds: number
}

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

export interface InitResult {
  directory: string
  template: string
  files: string[]
  createdRepository: boolean
}

export interface NewResult {
  name: string
  script: string
}

export interface LogResult {
  layer: string
  key: string
  failed: boolean
  path: string
  text: string
}

export interface DoctorCheck {
  name: string
  ok: boolean
  /** Needed for every build; false: for some commands or templates only. */
  required: boolean
  found: string
  neededFor: string
}

export interface DoctorResult {
  ok: boolean
  checks: DoctorCheck[]
  /** Arguments of the command that installs what is missing; null if there is nothing to install or no known way. */
  install: string[] | null
  missing: string[]
}

/**
 * How a boot ended. booted: the console said all that was expected; ended: the guest powered off or was halted; panicked: its
 * kernel did; restarts: it started over and over; hung: it fell silent; flood: it said more than a serial line carries;
 * timeout: it was still at work; no-boot-loader: the firmware found none; host: qemu or this host failed.
 */
export type BootVerdict =
  | 'booted'
  | 'ended'
  | 'panicked'
  | 'restarts'
  | 'hung'
  | 'flood'
  | 'timeout'
  | 'no-boot-loader'
  | 'host'

export interface BootResult {
  ok: boolean
  verdict: BootVerdict
  image: string
  accelerator: string
  firmware: 'bios' | 'uefi'
  /** The pattern that was waited for last. */
  expect: string | null
  /** All of them, in their order. */
  expected: string[]
  /** The line of the console that matched it. */
  matched: string | null
  seconds: number
  reason: string
  /** Paths of a picture of the screen, and of the overlay with what the guest wrote. */
  screenshot: string | null
  kept: string | null
  /** Exit status for the shell. */
  exitStatus: number
  forwards: string[]
  /** With --check: one for each machine, in the order of vlb.yaml; none where a pass was remembered. */
  machines?: CheckedMachine[]
  /** When this image passed these checks before, ISO 8601: it was not booted again. */
  remembered?: string | null
}

/** The checks on one machine. */
export interface CheckedMachine {
  /** `2 cpus, 1.0 GiB`. */
  name: string
  cpus: number
  /** Bytes. */
  memory: number
  firmware: 'bios' | 'uefi'
  ok: boolean
  /** One line, and after a failure the last lines of the console, indented. */
  reason: string
  /** Until the system had come up; null if it did not. */
  bootSeconds: number | null
  /** In all. */
  seconds: number
  checks: CheckResult[]
  /** Where the overlay is that the guest wrote to; null where none was to be kept. */
  kept: string | null
}

export interface SeedResult {
  path: string
  format: 'iso' | 'vfat'
  bytes: number
  instanceId: string
  /** Names on the disk. */
  files: string[]
}

export interface ShellResult {
  layer: string
  /** The shell's, and the command's. */
  exitStatus: number
  /** Path of the script that --record wrote; null if there is none. */
  recorded: string | null
}

export interface HookStatus {
  name: string
  path: string
  /** `outdated`: of another version of git vlb, or without the project it was asked from. */
  state: 'installed' | 'outdated' | 'missing'
  /** A file of ours; a block in a shell script; behind the first line of another script; before a program kept aside. */
  how: 'alone' | 'block' | 'first-line' | 'kept' | null
  /** Whether there is a hook of somebody else's. */
  other: boolean
  /** Folders it looks after, from the top of the working tree; `.` for the top itself. */
  projects: string[]
}

export interface HooksResult {
  action: 'install' | 'uninstall' | 'status'
  folder: string
  hooks: HookStatus[]
  /** What is to be known about that folder. */
  notes: string[]
}

export interface DiffResult {
  /** What people call the two sides. */
  from: string
  to: string
  changes: FileChange[]
  /** How it is to be shown. */
  form: 'list' | 'name-status' | 'stat' | 'patch'
  /** By path: line by line, where that was asked for. */
  patches: Map<string, FilePatch>
  exitStatus: number
}

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

export type CommandResult =
  | { kind: 'diff'; data: DiffResult }
  | { kind: 'status'; data: StatusResult }
  | { kind: 'build'; data: BuildResult }
  | { kind: 'init'; data: InitResult }
  | { kind: 'rollup'; data: RollupResult }
  | { kind: 'new'; data: NewResult }
  | { kind: 'log'; data: LogResult }
  | { kind: 'doctor'; data: DoctorResult }
  /** The text in the format asked for; written to `output`, if that is not null. */
  | { kind: 'changelog'; data: Changelog; text: string; output: string | null }
  | { kind: 'shell'; data: ShellResult }
  | { kind: 'hooks'; data: HooksResult }
  | { kind: 'prebuild'; data: PrebuildResult }
  | { kind: 'completion'; data: { shell: string; script: string } }
  | { kind: 'test-boot'; data: BootResult; tap?: boolean }
  | { kind: 'cloud-init'; data: SeedResult }
  | { kind: 'ls-remote'; data: RemoteListResult }
  | { kind: 'prune'; data: PruneResult }
  | { kind: 'push'; data: PushResult }
  | { kind: 'pull'; data: PullResult }
  | { kind: 'gc'; data: GcResult }
  | { kind: 'cache'; data: CacheResult }
