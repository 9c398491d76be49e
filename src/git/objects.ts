// Reads git objects: in-process with isomorphic-git where it can, else through one `git cat-file --batch`.

import fs from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { LRUCache } from 'lru-cache'
import { VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import type { TreeEntry } from '../core/layer.ts'
import type { Environment } from '../host/env.ts'
import { CatFile } from './cat-file.ts'
import type { Repository } from './repo.ts'

export interface Objects {
  tree(id: TreeId): Promise<TreeEntry[]>
  blob(oid: string): Promise<Buffer>
  /** The root tree of a commit. */
  treeOf(commit: string): Promise<TreeId>
  /** The git that reads them, if one does; closed with them. */
  git?: (() => CatFile) | undefined
  close(): Promise<void>
}

/**
 * isomorphic-git loads a pack whole, and makes a map of its whole index. Beyond these many bytes git itself reads: it
 * takes some milliseconds to start, however much there is. An index of this length names some 9000 objects.
 */
const packLimit = 64 * 2 ** 20
const indexLimit = 2 ** 18

/** Opens the repository's objects: in-process, where isomorphic-git can follow. */
export async function openObjects(repo: Repository): Promise<Objects> {
  return cached((await isomorphicCan(repo)) ? new IsomorphicObjects(repo) : new GitObjects(repo, {}))
}

/**
 * The same by way of git alone, which starts in less time than isomorphic-git takes to load: for who runs git anyway. `env`
 * may point it at further object folders; when `signal` fires, reading fails with its reason.
 */
export function openObjectsOfGit(repo: Repository, env: Environment, signal?: AbortSignal): Objects {
  return cached(new GitObjects(repo, env, signal))
}

async function isomorphicCan(repo: Repository): Promise<boolean> {
  if (repo.objectFormat !== 'sha1') return false
  const objects = join(repo.commonDir, 'objects')
  if (await exists(join(objects, 'info/alternates'))) return false
  const config = await readFile(join(repo.commonDir, 'config'), 'utf8').catch(() => '')
  // Partial clones fetch what they lack on demand, which only git does.
  if (/^\s*(partialclone|promisor)\s*=/im.test(config)) return false
  const left = { '.pack': packLimit, '.idx': indexLimit }
  for (const name of await readdir(join(objects, 'pack')).catch(() => [])) {
    const kind = extname(name)
    if (kind !== '.pack' && kind !== '.idx') continue
    left[kind] -= (await stat(join(objects, 'pack', name)).catch(() => ({ size: 0 }))).size
  }
  return left['.pack'] >= 0 && left['.idx'] >= 0
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  )
}

/** Trees are read again and again where many revisions share layers. */
function cached(objects: Objects): Objects {
  const trees = new LRUCache<TreeId, TreeEntry[]>({ max: 2000 })
  return {
    tree: async (id) => {
      const known = trees.get(id) ?? (await objects.tree(id))
      trees.set(id, known)
      return known
    },
    blob: (oid) => objects.blob(oid),
    treeOf: (commit) => objects.treeOf(commit),
    git: objects.git,
    close: () => objects.close(),
  }
}

type Isomorphic = typeof import('./isomorphic.ts')

class IsomorphicObjects implements Objects {
  readonly #repo: Repository
  readonly #fallback: GitObjects
  readonly #cache = {}

  constructor(repo: Repository) {
    this.#repo = repo
    this.#fallback = new GitObjects(repo, {})
  }

  async tree(id: TreeId): Promise<TreeEntry[]> {
    return await this.#read(
      async (git, where) =>
        (await git.readTree({ ...where, oid: id })).tree.map(({ path, mode, oid }) => ({
          name: path,
          mode: mode.replace(/^0/, ''),
          oid,
        })),
      () => this.#fallback.tree(id),
    )
  }

  async blob(oid: string): Promise<Buffer> {
    return await this.#read(
      async (git, where) => Buffer.from((await git.readBlob({ ...where, oid })).blob),
      () => this.#fallback.blob(oid),
    )
  }

  async treeOf(commit: string): Promise<TreeId> {
    return await this.#read(
      async (git, where) => treeId((await git.readCommit({ ...where, oid: commit })).commit.tree),
      () => this.#fallback.treeOf(commit),
    )
  }

  async #read<T>(
    read: (git: Isomorphic, where: { fs: typeof fs; gitdir: string; cache: object }) => Promise<T>,
    otherwise: () => Promise<T>,
  ): Promise<T> {
    const git = await import('./isomorphic.ts')
    try {
      return await read(git, { fs, gitdir: this.#repo.commonDir, cache: this.#cache })
    } catch (error) {
      // A form it does not know (say, a multi-pack index after a repack under our feet): git has the last word.
      if (error instanceof git.Errors.NotFoundError || error instanceof git.Errors.InternalError)
        return await otherwise()
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#fallback.close()
  }
}

class GitObjects implements Objects {
  readonly #repo: Repository
  readonly #env: Environment
  readonly #signal: AbortSignal | undefined
  #git: CatFile | undefined

  constructor(repo: Repository, env: Environment, signal?: AbortSignal) {
    this.#repo = repo
    this.#env = env
    this.#signal = signal
  }

  async tree(id: TreeId): Promise<TreeEntry[]> {
    return parseTree(await this.#read(id, 'tree'), this.#repo.objectFormat === 'sha256' ? 32 : 20)
  }

  async blob(oid: string): Promise<Buffer> {
    return await this.#read(oid, 'blob')
  }

  async treeOf(commit: string): Promise<TreeId> {
    // A commit starts with the line "tree ID".
    return treeId((await this.#read(commit, 'commit')).toString('latin1').split('\n')[0]?.slice(5) ?? '')
  }

  git = (): CatFile => (this.#git ??= new CatFile(this.#repo.cwd, this.#env, this.#signal))

  async #read(oid: string, type: string): Promise<Buffer> {
    const pieces: Buffer[] = []
    const found = await this.git().read(oid, (piece) => void pieces.push(Buffer.from(piece)))
    if (found !== type) {
      throw new VlbError(
        'VLB_GIT',
        `git object ${oid} is ${found === undefined ? 'missing' : `a ${found}, not a ${type}`}`,
        {
          hint: 'check the repository: git fsck; a shallow or partial clone may have to fetch first',
        },
      )
    }
    return Buffer.concat(pieces)
  }

  async close(): Promise<void> {
    await this.#git?.close()
  }
}

/** The first bytes of a blob. Where git reads, a large one does not come to lie in memory. */
export async function beginningOf(objects: Objects, oid: string, length: number): Promise<Buffer> {
  if (!objects.git) return (await objects.blob(oid)).subarray(0, length)
  const pieces: Buffer[] = []
  let left = length
  await objects.git().read(oid, (piece) => {
    if (left > 0) pieces.push(Buffer.from(piece.subarray(0, left)))
    left -= piece.length
  })
  return Buffer.concat(pieces)
}

/** A raw tree object: `MODE NAME\0ID` repeated, ids binary (gitformat-pack and git's tree.c). */
export function parseTree(raw: Buffer, idBytes: number): TreeEntry[] {
  const entries: TreeEntry[] = []
  for (let at = 0; at < raw.length; ) {
    const space = raw.indexOf(0x20, at)
    const zero = raw.indexOf(0, space)
    if (space < 0 || zero < 0 || zero + 1 + idBytes > raw.length)
      throw new VlbError('VLB_GIT', 'a git tree object is damaged', { hint: 'check the repository: git fsck' })
    const oid = raw.subarray(zero + 1, zero + 1 + idBytes).toString('hex')
    entries.push({ mode: raw.toString('latin1', at, space), name: raw.toString('utf8', space + 1, zero), oid })
    at = zero + 1 + idBytes
  }
  return entries
}

/** The entry at `path` below `root`, or undefined. '' and '.' are the root itself. */
export async function lookup(objects: Objects, root: TreeId, path: string): Promise<TreeEntry | undefined> {
  let entry: TreeEntry = { name: '', mode: '40000', oid: root }
  for (const part of path.split('/').filter((p) => p !== '' && p !== '.')) {
    if (entry.mode !== '40000') return undefined
    const next = (await objects.tree(treeId(entry.oid))).find((e) => e.name === part)
    if (!next) return undefined
    entry = next
  }
  return entry
}
