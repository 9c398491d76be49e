// What a store offers. The local store is the first; others give the same.
import type { MountDirective } from '../core/directives.ts'
import type { DiskLayout } from '../core/disk.ts'
import type { LayerKey, SnapshotId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'

export interface Snapshot {
  manifest: Manifest
  /** Absolute path of its overlay, by way of which qemu finds all that is below it. */
  file: string
  /** Absolute path of its build log. */
  log: string
}

/** What a failed build leaves to look at. */
export interface Failure {
  layer: string
  key: LayerKey
  at: string
  exitCode: number
  /** What a shell needs to stand where the script stood; undefined where there was no script in the image. */
  attempt?: Attempt
  /** Absolute path of the log. */
  log: string
}

/** How a script was run in an image. */
export interface Attempt {
  /** The image's layout. */
  disk: DiskLayout
  env: Record<string, string>
  network: boolean
  hostname: string
  /** What its directives had mounted. */
  mounts?: MountDirective[]
  binds?: MountDirective[]
  secrets: string[]
  interpreter?: string
}

export interface Damage {
  key: LayerKey
  layer: string
  reason: string
  /** How many others stood on it, and were dropped with it. */
  above: number
}

export interface Store {
  /** The current snapshot of a key, or undefined. One that is damaged is dropped, and `onDamage` told. */
  find(key: LayerKey, onDamage: (damage: Damage) => void): Promise<Snapshot | undefined>
  /** Takes over a finished snapshot from its staging folder: afterwards it is there, complete and on disk. */
  put(staging: string, manifest: Manifest): Promise<Snapshot>
  /** The snapshot folder of that id, whether or not its key names another by now. */
  get(id: SnapshotId): Promise<Snapshot | undefined>
  list(): Promise<Manifest[]>
}
