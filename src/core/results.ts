// What the commands return: data for `--json`, and what the reporters make text of. Field names of the JSON forms are
// a contract: add, never rename. Larger ones are in files of their own, by what they are about.
import type { Changelog } from './changelog.ts'
import type { FileChange, FilePatch } from './file-diff.ts'
import type { BootResult, SeedResult } from './results-boot.ts'
import type { BuildResult, PrebuildResult, RollupResult } from './results-build.ts'
import type {
  PruneResult,
  PulledImageResult,
  PullResult,
  PushedImageResult,
  PushResult,
  RemoteListResult,
} from './results-remote.ts'
import type { StatusResult } from './results-status.ts'
import type { CacheResult, GcResult } from './results-store.ts'

export interface CiResult {
  service: string
  /** Where it was written; null for the standard output. */
  path: string | null
  text: string
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
  | { kind: 'ci'; data: CiResult }
  | { kind: 'push'; data: PushResult }
  | { kind: 'pull'; data: PullResult }
  | { kind: 'push-image'; data: PushedImageResult }
  | { kind: 'pull-image'; data: PulledImageResult }
  | { kind: 'gc'; data: GcResult }
  | { kind: 'cache'; data: CacheResult }
