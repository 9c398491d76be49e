// Bases that are in the store, and whether they are as they should be.
import { readFile, stat } from 'node:fs/promises'
import { type Digest, short } from '../core/ids.ts'
import { type BaseRecord, parseBaseRecord } from '../core/manifest.ts'
import { hashFile } from '../host/files.ts'
import { tablesDigest } from '../host/tables.ts'
import { baseFolder } from '../store/places.ts'
import type { BuildContext } from './context.ts'

/** The record of a base that is there whole, as far as a look at its length tells; one that is not is told. */
export async function storedBase(context: BuildContext, id: Digest): Promise<BaseRecord | undefined> {
  const text = await readFile(context.store.path('bases', baseFolder(id), 'base.json'), 'utf8').catch(() => undefined)
  if (text === undefined || context.store.damagedBases.has(id)) return undefined
  const record = parseBaseRecord(text, id)
  if (!record) return damagedBase(context, id, 'its record is unreadable')
  const size = (await stat(baseFile(context, record)).catch(() => undefined))?.size
  if (size === record.fileBytes) return record
  return damagedBase(context, id, `it has ${size ?? 'no'} bytes instead of ${record.fileBytes}`)
}

function baseFile({ store }: BuildContext, { digest, file }: BaseRecord): string {
  return store.path('bases', baseFolder(digest), file)
}

/** It stays until another copy can take its place: what stands on it is sound, and will be on that. */
function damagedBase(context: BuildContext, id: Digest, reason: string): undefined {
  context.store.damagedBases.add(id)
  const text = `the base ${short(id)} in the store is damaged: ${reason}; it will be brought again`
  context.emit({ type: 'warning', text })
}

/** Looks into a base that is going to be read: into what all of it hangs on, or into all of it. False: damage is found. */
export async function baseIsSound(context: BuildContext, id: Digest, how: 'tables' | 'whole'): Promise<boolean> {
  const record = await storedBase(context, id)
  // One that is missing, or known to be damaged, is brought when it is asked for.
  if (!record) return true
  const file = baseFile(context, record)
  try {
    const tables = record.tables === undefined || (await tablesDigest(file, record.imageFormat)) === record.tables
    const all = how === 'tables' || !record.sha256 || (await hashFile(file, 'sha256')) === record.sha256
    if (tables && all) return true
    damagedBase(context, id, 'its bytes are not what they were')
  } catch (error) {
    damagedBase(context, id, `it cannot be read (${(error as Error).message})`)
  }
  return false
}
