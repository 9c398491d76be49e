// What the store remembers of sharing: in which pieces a snapshot or a base went to a registry or came from one, where it
// is known to be, and which blobs a registry holds damaged. All of it can be lost; then it is found out again.
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import type { Blob, SharedFile } from '../core/oci.ts'
import type { LocalStore } from './local.ts'
import { baseFolder } from './places.ts'

const folder = 'shared'

export interface Shipment {
  /** Of which very snapshot, or base: a later one may have the same name. */
  nonce: string
  file: SharedFile
  /** Of a snapshot: its log and package list. */
  details?: Blob
  /** `HOST/REPOSITORY` of all that have been seen to have it. */
  places: string[]
}

/** What the shipments of a base are remembered by. */
export function baseShipment(digest: string): { id: string; nonce: string } {
  return { id: `base-${baseFolder(digest)}`, nonce: `${digest} whole` }
}

export async function readShipment(store: LocalStore, id: string, nonce: string): Promise<Shipment | undefined> {
  const text = await readFile(store.path(folder, `${id}.json`), 'utf8').catch(() => '')
  try {
    const data = JSON.parse(text) as Partial<Shipment> | null
    const sound = data?.nonce === nonce && Array.isArray(data.file?.parts) && Array.isArray(data.places)
    return sound ? (data as Shipment) : undefined
  } catch {
    return undefined
  }
}

export async function writeShipment(store: LocalStore, id: string, shipment: Shipment): Promise<void> {
  await store.write([folder, `${id}.json`], `${JSON.stringify(shipment)}\n`)
}

function damageNote(place: string, digest: string): string[] {
  return [folder, `${damagePrefix(place)}${digest.replace(':', '-')}`]
}

function damagePrefix(place: string): string {
  return `damaged-${place.replace(/[^A-Za-z0-9.-]/g, '_')}-`
}

/** Whether anything ever came damaged from there. */
export async function hasDamage(store: LocalStore, place: string): Promise<boolean> {
  const names = await readdir(store.path(folder)).catch((): string[] => [])
  return names.some((name) => name.startsWith(damagePrefix(place)))
}

/** A blob came damaged from there: what is there counts as nothing from now on. */
export async function noteDamage(store: LocalStore, place: string, digest: string): Promise<void> {
  await store.write(damageNote(place, digest), '')
}

export async function isDamaged(store: LocalStore, place: string, digest: string): Promise<boolean> {
  return (await stat(store.path(...damageNote(place, digest))).catch(() => undefined)) !== undefined
}

/** It is whole there after all. */
export async function forgetDamage(store: LocalStore, place: string, digest: string): Promise<void> {
  await rm(store.path(...damageNote(place, digest)), { force: true })
}
