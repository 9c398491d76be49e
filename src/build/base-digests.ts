// Digests of the files that bases are: found out once, and remembered until a file changes.
import { createHash } from 'node:crypto'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { hasErrorCode } from '../core/errors.ts'
import { fileIdentity, hashFile } from '../host/files.ts'
import type { LocalStore } from '../store/local.ts'
import type { BuildContext } from './context.ts'

export interface LocalFile {
  /** Changes whenever the bytes may have changed. */
  identity: string
  /** Where the bytes lie as a file; undefined for a blob in git. */
  path: string | undefined
  copyTo: (target: string) => Promise<void>
}

function digestNote(identity: string, algorithm: string): [folder: string, name: string] {
  return ['digests', createHash('sha256').update(`${algorithm}:${identity}`).digest('hex')]
}

/** The digest of what has that identity, if it was ever found out. */
export async function knownDigest(
  store: LocalStore,
  identity: string,
  algorithm: 'sha256' | 'sha512' = 'sha256',
): Promise<string | undefined> {
  const [hex = ''] = (await readFile(store.path(...digestNote(identity, algorithm)), 'utf8').catch(() => '')).split(
    '\n',
  )
  return /^[0-9a-f]{64,128}$/.test(hex) ? hex : undefined
}

/**
 * What a base is to that memory: a blob of git that is no Git LFS pointer, or a file as it is now. Throws where the file is
 * not there.
 */
export const blobIdentity = (oid: string): string => `git:${oid}`
export async function baseFileIdentity(file: string): Promise<string> {
  return `file:${file}:${await fileIdentity(file)}`
}

export async function rememberedDigest(
  context: BuildContext,
  file: LocalFile,
  algorithm: 'sha256' | 'sha512',
): Promise<string> {
  const known = await knownDigest(context.store, file.identity, algorithm)
  if (known !== undefined) return known
  const note = digestNote(file.identity, algorithm)
  const path = file.path ?? join(await context.store.scratch.folder(), 'base')
  if (file.path === undefined) await file.copyTo(path)
  const hex = await hashWithProgress(context, 'reading the base', path, algorithm)
  try {
    await mkdir(context.store.path('digests'), { recursive: true })
    await context.store.write(note, `${hex}\n${file.identity}\n`)
  } catch (error) {
    // A store that can only be read still has a status to show.
    if (!hasErrorCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'VLB_HOST_SPACE')) throw error
  }
  return hex
}

export async function hashWithProgress(
  context: BuildContext,
  task: string,
  file: string,
  algorithm: 'sha256' | 'sha512',
): Promise<string> {
  const total = (await stat(file)).size
  const started = Date.now()
  const onProgress = (done: number) => context.emit({ type: 'progress', task, done, total })
  const hex = await hashFile(file, algorithm, { signal: context.signal, onProgress })
  context.emit({ type: 'progress-ended', task, bytes: total, seconds: (Date.now() - started) / 1000 })
  return hex
}
