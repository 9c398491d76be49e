// How much room a store takes. Counting is a matter of reading folders; the last count is kept for `status`, which must not
// take longer the more there is.
import { existsSync, lstatSync, readdirSync, readFileSync, type Stats, statfsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { defaultBudget } from '../core/gc.ts'
import { shareWithGroup } from '../host/files.ts'

/** Bytes that files below `path` take on disk. What has several names counts for each of them in part. */
export function bytesBelow(path: string): number {
  let found: Stats | undefined
  try {
    found = lstatSync(path, { throwIfNoEntry: false })
    if (!found) return 0
    const own = (found.blocks * 512) / (found.isDirectory() ? 1 : Math.max(1, found.nlink))
    if (!found.isDirectory()) return own
    return readdirSync(path).reduce((sum, name) => sum + bytesBelow(join(path, name)), own)
  } catch {
    // Removed while we looked, or another user's.
    return found ? found.blocks * 512 : 0
  }
}

/** Bytes by folder of the store, but for what is on its way out. */
export function measure(store: string): Map<string, number> {
  if (!existsSync(store)) return new Map()
  const names = readdirSync(store).filter((name) => name !== usageName && name !== 'graves')
  return new Map(names.map((name) => [name, bytesBelow(join(store, name))]))
}

const usageName = 'usage'

/** Remembers a count. For `status` alone: not flushed, and a store that can only be read has none. */
export async function keepUsage(store: string, bytes: number): Promise<void> {
  const file = join(store, usageName)
  try {
    await writeFile(file, `${Math.round(bytes)}\n`)
    await shareWithGroup(file)
  } catch {
    // The next build that may write there counts anew.
  }
}

/** The last count; undefined if there was none. */
export function lastUsage(store: string): number | undefined {
  try {
    const text = readFileSync(join(store, usageName), 'utf8')
    return /^\d+\n$/.test(text) ? Number(text) : undefined
  } catch {
    return undefined
  }
}

/** What a store that takes so much may take, where nobody said so. */
export function budgetByDisk(store: string, held: number): number {
  // Where there is no store yet, it will be on the disk of the folder above.
  let folder = store
  while (!existsSync(folder) && folder !== dirname(folder)) folder = dirname(folder)
  const { bavail, bsize } = statfsSync(folder)
  return defaultBudget(bavail * bsize, held)
}
