// What is known of the image of a commit: from the record of its build, else from the snapshots that are here.
import { createHash } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { VlbError } from '../core/errors.ts'
import { type PackageList, readPackageList } from '../core/packages.ts'
import { type BuildRecord, findRecord } from '../core/record.ts'
import { notesTip, readNote } from '../git/notes.ts'
import { type Objects, openObjects } from '../git/objects.ts'
import type { Snapshot } from '../store/store.ts'
import { planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { packagesOf } from './packages.ts'
import { loadRevision } from './project.ts'
import { makeRecord } from './record.ts'

export interface Known {
  record: BuildRecord
  from: 'notes' | 'store'
  /** Reads the list of what the image has installed; undefined if there is none. */
  packages: () => Promise<PackageList | undefined>
}

/**
 * The note comes first: it says what was built for that commit. The store holds what a build would take today, which is
 * another image where a layer was built again since. Undefined if neither knows.
 */
export async function knownOf(context: BuildContext, commit: string): Promise<Known | undefined> {
  return (await fromNotes(context, commit)) ?? (await fromStore(context, commit))
}

async function fromNotes(context: BuildContext, commit: string): Promise<Known | undefined> {
  const { repo, prefix } = context.project
  const tip = await notesTip(repo)
  if (tip === undefined) return undefined
  const note = await withObjects(context, (objects) => readNote(objects, tip, commit))
  const record = note && findRecord(note.toString('utf8'), prefix)
  return record && { record, from: 'notes', packages: () => recordedList(context, record) }
}

/** Of the last layer. Digests are checked: a note comes from anybody. */
async function recordedList(context: BuildContext, record: BuildRecord): Promise<PackageList | undefined> {
  const digest = record.layers.at(-1)?.packages
  const blob = digest === undefined || !Object.hasOwn(record.lists, digest) ? undefined : record.lists[digest]
  if (blob === undefined) return undefined
  try {
    const content = await withObjects(context, (objects) => objects.blob(blob))
    const sound = createHash('sha256').update(content).digest('hex') === digest
    return sound ? readPackageList(content.toString('utf8')) : undefined
  } catch (error) {
    // Not fetched, or no blob.
    if (error instanceof VlbError) return undefined
    throw error
  }
}

async function withObjects<T>(context: BuildContext, read: (objects: Objects) => Promise<T>): Promise<T> {
  const objects = await openObjects(context.project.repo)
  try {
    return await read(objects)
  } finally {
    await objects.close()
  }
}

async function fromStore(context: BuildContext, commit: string): Promise<Known | undefined> {
  // Planning may have to read a whole base, for nothing where nothing was built.
  const there = await readdir(context.store.path('snapshots')).catch(() => [])
  if (there.length === 0) return undefined
  try {
    const source = await loadRevision(context.project, commit)
    try {
      const { base, steps, found } = await planChain(context, source, source.layers, {})
      const snapshots = found.filter((one): one is Snapshot => one !== undefined)
      const top = snapshots.at(-1)
      if (!top || snapshots.length < steps.length) return undefined
      const chain = {
        base: base?.digest,
        steps: steps.map(({ name }, i) => ({ name, snapshot: snapshots[i] as Snapshot })),
      }
      const record = makeRecord(context, source, { chain, env: {}, image: undefined })
      return { record, from: 'store', packages: () => packagesOf(context, top) }
    } finally {
      await source.objects.close()
    }
  } catch (error) {
    // A revision that cannot be planned here, say for want of its base or of a value, is one that nothing is known of.
    if (error instanceof VlbError) return undefined
    throw error
  }
}
