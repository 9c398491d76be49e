// What things in the store are called, and how overlays name what backs them.
import type { SnapshotId } from '../core/ids.ts'

export const overlayName = 'layer.qcow2'
export const logName = 'build.log'

/** How an overlay names what backs it: while it is being built (or failed), in a folder below tmp/ (or failed/), and in chain/. */
export interface BackingReference {
  building: string
  stored: string
}

export function snapshotReference(id: SnapshotId): BackingReference {
  return { building: `../../chain/${id}.qcow2`, stored: `${id}.qcow2` }
}

export function baseReference(digest: string, file: string): BackingReference {
  const path = `bases/${baseFolder(digest)}/${file}`
  return { building: `../../${path}`, stored: `../${path}` }
}

/** `sha256:abc…` → `sha256-abc…`: a folder name. */
export function baseFolder(digest: string): string {
  return digest.replace(':', '-')
}
