// What failed builds left to look at, in failed/, by the key that was to be built.
import { readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import { shareWithGroup, sync, writeDown } from '../host/files.ts'
import type { LocalStore } from './local.ts'
import { logName, overlayName } from './places.ts'
import type { Failure } from './store.ts'

/** Keeps what a failed build left: log and overlay. Overlays of earlier failures go, unless they were to be kept. */
export async function keepFailure(
  store: LocalStore,
  staging: string,
  failure: Omit<Failure, 'log'>,
  keep: boolean,
): Promise<Failure> {
  store.grown = true
  for (const old of await failures(store)) {
    if (!old.keep && old.key !== failure.key) await rm(store.path('failed', old.key, overlayName), { force: true })
  }
  await writeDown(join(staging, 'failure.json'), `${JSON.stringify({ ...failure, keep }, null, 2)}\n`)
  await shareWithGroup(staging)
  const folder = store.path('failed', failure.key)
  await store.bury(folder)
  await rename(staging, folder)
  await sync(store.path('failed'))
  return { ...failure, log: join(folder, logName) }
}

export async function failureOfKey(store: LocalStore, key: LayerKey): Promise<Failure | undefined> {
  return (await failures(store)).find((failure) => failure.key === key)
}

/** The last failure of a layer, by name or number. */
export async function failureOfLayer(store: LocalStore, layer: string): Promise<Failure | undefined> {
  const wanted = layer.replace(/\/+$/, '')
  const matches = (name: string) =>
    name === wanted || (/^\d+$/.test(wanted) && Number.parseInt(name, 10) === Number(wanted))
  return newestFirst((await failures(store)).filter((f) => matches(f.layer)))[0]
}

export async function lastFailure(store: LocalStore): Promise<Failure | undefined> {
  return newestFirst(await failures(store))[0]
}

const newestFirst = (failures: Failure[]): Failure[] => failures.sort((a, b) => (a.at < b.at ? 1 : -1))

async function failures(store: LocalStore): Promise<(Failure & { keep?: boolean })[]> {
  const found: (Failure & { keep?: boolean })[] = []
  for (const key of await readdir(store.path('failed')).catch(() => [])) {
    try {
      const failure = JSON.parse(await readFile(store.path('failed', key, 'failure.json'), 'utf8')) as Failure & {
        keep?: boolean
      }
      found.push({ ...failure, log: store.path('failed', key, logName) })
    } catch (error) {
      // Unreadable leavings help nobody; the next failure of that key replaces them.
      if (!hasErrorCode(error, 'ENOENT', 'ENOTDIR') && !(error instanceof SyntaxError)) throw error
    }
  }
  return found
}
