// What is wrong with a snapshot. Whenever one is looked up: its manifest, its length, its header, its parent. Before its
// disk is read: its mapping tables, too, so that nothing is read from the wrong place. A flipped byte in the data itself is
// found by the digest of the whole file alone.
import { join } from 'node:path'
import { short } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import { readHead, tablesDigest } from '../host/tables.ts'
import { hasDigest } from './digest.ts'
import { baseReference, overlayName, snapshotReference } from './places.ts'

/** As `found`, the manifest of the parent: undefined where there is none. */
export function damageOf(
  folder: string,
  manifest: Manifest,
  parent: Manifest | 'unreadable' | undefined,
): string | undefined {
  const head = readHead(join(folder, overlayName))
  if (head === undefined) return 'its overlay is missing'
  if (head.fileBytes !== manifest.fileBytes)
    return `its overlay has ${head.fileBytes} bytes instead of ${manifest.fileBytes}`
  const { header, nonce } = head
  if (header === undefined) return 'the header of its overlay is damaged'
  if (nonce !== undefined && nonce !== manifest.nonce) return "its overlay is another snapshot's"
  if (header.size !== manifest.disk.size)
    return `its overlay is a disk of ${header.size} bytes instead of ${manifest.disk.size}`
  if (!standsOn(manifest, header.backing)) return `its overlay names another file that backs it`
  if (manifest.parent === undefined) return undefined
  if (parent === undefined) return `its parent ${short(manifest.parent)} is missing`
  if (parent === 'unreadable' || parent.nonce !== manifest.parentNonce || manifest.parent === manifest.id)
    return `its parent ${short(manifest.parent)} is not the one it was built on`
  return undefined
}

function standsOn({ parent, base }: Manifest, backing: string): boolean {
  if (parent !== undefined) return backing === snapshotReference(parent).stored
  if (base === undefined) return backing === ''
  return ['qcow2', 'raw'].some((format) => backing === baseReference(base, `disk.${format}`).stored)
}

/** What reading the tables, or for `whole` all of the overlay, finds. */
export async function lookInto(
  folder: string,
  manifest: Manifest,
  how: 'tables' | 'whole',
): Promise<string | undefined> {
  const overlay = join(folder, overlayName)
  try {
    if (manifest.tables !== undefined && (await tablesDigest(overlay)) !== manifest.tables)
      return 'the tables of its overlay are damaged'
    if (how === 'tables' || !manifest.digest) return undefined
    return (await hasDigest(overlay, manifest.digest)) ? undefined : 'its overlay is damaged'
  } catch (error) {
    return `its overlay cannot be read (${(error as Error).message})`
  }
}
