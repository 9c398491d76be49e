// Which images passed their checks: one small file for each recipe of an image, so that a look at it is one read.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LocalStore } from './local.ts'

export interface Pass {
  /** Of all that was tested and how. */
  key: string
  /** Digest of the seed disk that it was booted with; '' for none. */
  seed: string
  /** ISO 8601. */
  at: string
  checks: number
  /** Names of the machines. */
  machines: string[]
}

/** Passes kept of one image: whoever goes to and fro between some settings finds them. */
const kept = 20

function place(recipe: string): [folder: string, file: string] {
  return ['tested', `${createHash('sha256').update(recipe).digest('hex').slice(0, 40)}.json`]
}

/** The passes of the image of that recipe, newest first; none where nothing is known, or what is there makes no sense. */
export function readPasses(store: string, recipe: string): Pass[] {
  try {
    const found = JSON.parse(readFileSync(join(store, ...place(recipe)), 'utf8')) as {
      recipe?: string
      passes?: Pass[]
    } | null
    if (found?.recipe !== recipe || !Array.isArray(found.passes)) return []
    return found.passes.filter((pass) => typeof pass?.key === 'string' && typeof pass.at === 'string')
  } catch {
    return []
  }
}

export async function savePass(store: LocalStore, recipe: string, pass: Pass): Promise<void> {
  const others = readPasses(store.root, recipe).filter(({ key, seed }) => key !== pass.key || seed !== pass.seed)
  const record = { format: 1, recipe, passes: [pass, ...others].slice(0, kept) }
  await store.write(place(recipe), `${JSON.stringify(record)}\n`)
}
