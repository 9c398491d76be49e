// The folders of a store, and the version of how it is laid out.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { makeFolders, shareWithGroup } from '../host/files.ts'

const layoutVersion = '1'
const folders = [
  'bases',
  'snapshots',
  'chain',
  'caches',
  'keys',
  'used',
  'leases',
  'repositories',
  'graves',
  'failed',
  'images',
  'records',
  'tested',
  'downloads',
  'digests',
  'shared',
  'locks',
  'tmp',
]

/** Makes what there is not yet of a store; refuses one of another version. `write` writes a file of it. */
export async function layOut(
  root: string,
  write: (path: readonly string[], text: string) => Promise<void>,
): Promise<void> {
  await Promise.all(
    folders.map(async (folder) => {
      await makeFolders(join(root, folder))
      await shareWithGroup(join(root, folder), 'alone')
    }),
  )
  const version = await readFile(join(root, 'format'), 'utf8').catch(() => undefined)
  if (version === undefined) return await write(['format'], `${layoutVersion}\n`)
  if (version.trim() === layoutVersion) return
  throw new VlbError(
    'VLB_STORE_DAMAGED',
    `the store ${root} has format ${version.trim()}; this git vlb knows ${layoutVersion}`,
    { hint: 'use the git vlb that made it, or another store: git config vlb.store PATH' },
  )
}
