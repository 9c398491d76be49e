// Writes a git tree to a folder: exactly what git holds, byte for byte, with modes 0644 and 0755 whatever the umask.
import { closeSync, fchmodSync, openSync } from 'node:fs'
import { chmod, mkdir, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { isLfsPointer, lfsPointer, type TreeEntry } from '../core/layer.ts'
import type { Environment } from '../host/env.ts'
import { CatFile, type WrittenBlob } from './cat-file.ts'
import type { Objects } from './objects.ts'
import type { Repository } from './repo.ts'

interface Source {
  repo: Repository
  objects: Objects
  /** Where git finds objects that are not in the repository yet. */
  env: Environment
  signal: AbortSignal
}

/** Writes the tree `id` to `folder`, which must not exist. `name` is what errors call it. */
export async function materialise(source: Source, id: TreeId, folder: string, name: string): Promise<void> {
  const files: File[] = []
  await writeFolders(source.objects, id, folder, name, files)
  await writeFiles(source, files)
}

async function writeFiles(source: Source, files: readonly File[]): Promise<void> {
  const ended: Promise<void>[] = []
  const writeAll = async (next: WriteNext) => {
    for (const file of files) ended.push((await writeFile(next, file)).ended)
  }
  await withGit(source, async (git) => {
    try {
      await git.batch(
        files.map(({ oid }) => oid),
        writeAll,
      )
    } finally {
      await Promise.allSettled(ended)
    }
    await Promise.all(ended)
  })
}

/** With the git that reads the source's objects, or another one. */
async function withGit({ repo, objects, env, signal }: Source, work: (git: CatFile) => Promise<void>): Promise<void> {
  if (objects.git) return await work(objects.git())
  const git = new CatFile(repo.cwd, env, signal)
  try {
    await work(git)
  } finally {
    await git.close()
  }
}

interface File {
  oid: string
  path: string
  mode: number
  shown: string
}

/** Writes one file or folder of git, `entry`, to `path`, with the folders above it. */
export async function materialiseEntry(source: Source, entry: TreeEntry, path: string, name: string): Promise<void> {
  if (entry.mode === '40000') return await materialise(source, treeId(entry.oid), path, name)
  await mkdir(dirname(path), { recursive: true })
  if (entry.mode === '120000') return await symlink(await source.objects.blob(entry.oid), path)
  if (entry.mode === '160000') throw submodule(name)
  const mode = entry.mode === '100755' ? 0o755 : 0o644
  await writeFiles(source, [{ oid: entry.oid, path, mode, shown: name }])
}

/** Makes the folders and links of a tree; its files are added to `files`. */
async function writeFolders(objects: Objects, id: TreeId, folder: string, name: string, files: File[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  await chmod(folder, 0o755)
  for (const { name: entry, mode, oid } of await objects.tree(id)) {
    const path = join(folder, safeName(entry, name))
    const shown = `${name}/${entry}`
    if (mode === '40000') await writeFolders(objects, treeId(oid), path, shown, files)
    else if (mode === '120000') await symlink(await objects.blob(oid), path)
    else if (mode === '160000') throw submodule(shown)
    else files.push({ oid, path, mode: mode === '100755' ? 0o755 : 0o644, shown })
  }
}

/** git refuses such names in commits it makes; a crafted repository may hold them (git-fsck(1), hasDotdot). */
function safeName(name: string, parent: string): string {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.toLowerCase() === '.git') {
    throw new VlbError('VLB_GIT', `${printable(parent)} holds an entry with the forbidden name "${printable(name)}"`, {
      hint: 'check the repository: git fsck',
    })
  }
  return name
}

export function submodule(path: string): VlbError {
  return new VlbError(
    'VLB_LAYER_SUBMODULE',
    `${printable(path)} is a submodule: the layer's tree holds only its commit id, not its files`,
    {
      hint: 'move the submodule out of the layer, or add its files to the layer itself',
    },
  )
}

type WriteNext = (file: number) => Promise<WrittenBlob | undefined>

/** Resolves when the next may be written; a large one is complete when `ended` is. */
async function writeFile(next: WriteNext, { oid, path, mode, shown }: File): Promise<{ ended: Promise<void> }> {
  const file = openSync(path, 'wx', mode)
  const finish = () => {
    // open(2) applies the umask; this does not.
    fchmodSync(file, mode)
    closeSync(file)
  }
  let blob: WrittenBlob | undefined
  try {
    blob = await next(file)
    if (!blob)
      throw new VlbError('VLB_GIT', `${printable(shown)}: git object ${oid} is missing`, {
        hint: 'check the repository: git fsck',
      })
    if (blob.length <= 1024 && isLfsPointer(blob.start)) throw lfsPointer(shown)
  } catch (error) {
    closeSync(file)
    throw error
  }
  const ended = blob.ended.finally(finish)
  ended.catch(() => {})
  return { ended }
}
