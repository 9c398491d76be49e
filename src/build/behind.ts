// Image files that stand on a snapshot of the store: overlays of `--no-flatten` and `--keep`.
import { dirname, resolve } from 'node:path'
import { type SnapshotId, snapshotId } from '../core/ids.ts'
import { backingName } from '../image/qcow2.ts'
import type { LocalStore } from '../store/local.ts'
import type { BuildContext } from './context.ts'

/** The snapshot that backs a file; undefined where it stands alone, on something else, or is gone. */
export async function snapshotBehind(store: LocalStore, file: string): Promise<SnapshotId | undefined> {
  const name = await backingName(file).catch(() => undefined)
  const path = name === undefined ? '' : resolve(dirname(file), name)
  const [, id] =
    /^([0-9a-f]{64})\.qcow2$/.exec(
      path.startsWith(`${store.path('chain')}/`) ? path.slice(store.path('chain').length + 1) : '',
    ) ?? []
  return id === undefined ? undefined : snapshotId(id)
}

/** Keeps that snapshot as long as we live. */
export async function holdBehind({ store, signal }: BuildContext, file: string): Promise<void> {
  const id = await snapshotBehind(store, file)
  if (id !== undefined) await store.hold([id], signal)
}
