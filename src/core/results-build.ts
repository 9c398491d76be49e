// What builds, prebuilds and rollups return.
import type { StepResult } from './events.ts'
import type { PrebuildStatus } from './results-status.ts'
import type { SealedStep } from './seal.ts'

export interface PrebuildResult extends Pick<PrebuildStatus, 'reason'> {
  ok: boolean
  /** `skipped`: another one is at the same already. */
  state: 'done' | 'stopped' | 'failed' | 'skipped'
  layers: BuiltLayer[]
  seconds: number
  error?: BuildError
  exitStatus: number
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
