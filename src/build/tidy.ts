// The small files of a store that nothing points to any more. Removing one that was still good costs a build a moment, so
// what cannot be known is decided by age.
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'
import { snapshotId } from '../core/ids.ts'
import { removeLockFile } from '../host/lock.ts'
import { failureUse, readLeases } from '../store/lease.ts'
import { overlayName } from '../store/places.ts'
import { baseFileIdentity } from './base-digests.ts'
import type { BuildContext } from './context.ts'
import { changedAt, imageRecords, namesIn, textOf } from './inventory.ts'

const day = 86_400_000
/** Logs of failed builds; what is remembered of records; passes of checks. */
const ages = { failed: 30 * day, records: 90 * day, tested: 180 * day, locks: day }

export async function tidy(context: BuildContext): Promise<void> {
  const recipes = await tidyImages(context)
  await tidyDigests(context)
  await tidyFailures(context)
  await tidyLocks(context)
  const { store } = context
  for (const name of namesIn(store.path('records'))) await removeOld(store.path('records', name), ages.records)
  for (const name of namesIn(store.path('tested'))) {
    const file = store.path('tested', name)
    const recipe = /"recipe":"([0-9a-f]*)"/.exec(textOf(file))?.[1]
    if (recipe === undefined || !recipes.has(recipe)) await removeOld(file, ages.tested)
  }
}

/** Of keys and caches that were not built or used for a day. */
async function tidyLocks({ store }: BuildContext): Promise<void> {
  for (const name of namesIn(store.path('locks'))) {
    const file = store.path('locks', name)
    const changed = changedAt(file)
    if (changed > 0 && Date.now() - changed > ages.locks) await removeLockFile(file).catch(() => {})
  }
}

/** Records of images that are gone. Returns what the others were made from. */
async function tidyImages({ store }: BuildContext): Promise<Set<string>> {
  const recipes = new Set<string>()
  for (const { file, path, recipe } of imageRecords(store)) {
    if (path !== undefined && (await isThere(path))) recipes.add(recipe ?? '')
    else await remove(file)
  }
  return recipes
}

/** Digests of base files that changed since, or are gone. */
async function tidyDigests({ store }: BuildContext): Promise<void> {
  for (const name of namesIn(store.path('digests'))) {
    const file = store.path('digests', name)
    const [, identity = ''] = textOf(file).split('\n')
    const path = /^file:(.*):\d+:\d+:\d+:\d+:\d+$/.exec(identity)?.[1]
    const same = path !== undefined && (await baseFileIdentity(path).catch(() => '')) === identity
    if (!same && !identity.startsWith('blob:')) await remove(file)
  }
}

async function tidyFailures({ store }: BuildContext): Promise<void> {
  const used = new Set((await readLeases(store.root)).flatMap(({ names }) => [...names]))
  for (const key of namesIn(store.path('failed'))) {
    const folder = store.path('failed', key)
    if (used.has(failureUse(key)) || (await isThere(join(folder, overlayName)))) continue
    if ((await store.get(snapshotId(key))) !== undefined) await remove(folder)
    else await removeOld(folder, ages.failed)
  }
}

async function removeOld(path: string, age: number): Promise<void> {
  const changed = changedAt(path)
  if (changed > 0 && Date.now() - changed > age) await remove(path)
}

async function isThere(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    (error: unknown) => !hasErrorCode(error, 'ENOENT', 'ENOTDIR'),
  )
}

/** What is another user's stays. */
async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => {})
}
