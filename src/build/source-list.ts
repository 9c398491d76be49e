// The list of what a layer was built from, beside its snapshot, for layers that were not committed: their objects are
// gone when the build has ended. Everything else git itself still knows.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Listing } from '../core/why.ts'
import { listTree } from '../git/listing.ts'
import type { Objects } from '../git/objects.ts'

const listName = 'sources.json'

export async function writeSourceList(objects: Objects, tree: string, folder: string): Promise<void> {
  const listing = await listTree(objects, tree)
  if (listing) await writeFile(join(folder, listName), `${JSON.stringify(listing)}\n`)
}

/** Undefined where there is none that can be read: it is for explanations only. */
export async function readSourceList(folder: string): Promise<Listing | undefined> {
  try {
    const listing = JSON.parse(await readFile(join(folder, listName), 'utf8')) as Listing | null
    const sound = typeof listing === 'object' && listing && Object.values(listing).every((v) => typeof v === 'string')
    return sound ? listing : undefined
  } catch {
    return undefined
  }
}
