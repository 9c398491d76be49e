// The folders of a store, and the version of how it is laid out.
import { chmod, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode, VlbError } from '../core/errors.ts'
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

/** Where scripts, as root, write to folders of the host. A set-user-id program of theirs must not be there for all to run. */
const closed = ['caches', 'graves', 'tmp']

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
  await Promise.all(closed.map(async (folder) => await closeToOthers(root, join(root, folder))))
  const version = await readFile(join(root, 'format'), 'utf8').catch(() => undefined)
  if (version === undefined) return await write(['format'], `${layoutVersion}\n`)
  if (version.trim() === layoutVersion) return
  throw new VlbError(
    'VLB_STORE_DAMAGED',
    `the store ${root} has format ${version.trim()}; this git vlb knows ${layoutVersion}`,
    { hint: 'use the git vlb that made it, or another store: git config vlb.store PATH' },
  )
}

/** Owner and group go in, and nobody else; unless the store lets everybody write. */
async function closeToOthers(root: string, folder: string): Promise<void> {
  const [above, found] = await Promise.all([stat(root), stat(folder)])
  if ((above.mode & 0o002) !== 0 || (found.mode & 0o007) === 0) return
  await chmod(folder, found.mode & 0o7770).catch((error: unknown) => {
    // Somebody else's of the group: they do it.
    if (!hasErrorCode(error, 'EPERM')) throw error
  })
}
