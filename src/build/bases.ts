// The disk under the first layer: found by digest, or fetched, checked, unpacked and put into the store.
import { chmod, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { BaseSource } from '../core/config.ts'
import { parseProbe } from '../core/disk.ts'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { type Digest, digest } from '../core/ids.ts'
import { isLfsPointer, lfsPointer } from '../core/layer.ts'
import type { BaseRecord } from '../core/manifest.ts'
import { CatFile } from '../git/cat-file.ts'
import { lookup, type Objects } from '../git/objects.ts'
import { download, withoutSecrets } from '../host/download.ts'
import { explainWriteError, hashFile, shareWithGroup, sync, syncFolder, writeDown } from '../host/files.ts'
import { run, ToolError } from '../host/run.ts'
import { tablesDigest } from '../host/tables.ts'
import { copySparse, digHoles, inspectDisk } from '../image/qcow2.ts'
import { probe } from '../image/sandbox.ts'
import { baseFolder } from '../store/places.ts'
import {
  baseFileIdentity,
  blobIdentity,
  hashWithProgress,
  knownDigest,
  type LocalFile,
  rememberedDigest,
} from './base-digests.ts'
import type { BuildContext } from './context.ts'
import type { LoadedSource } from './project.ts'
import { storedBase } from './stored-bases.ts'
import { unpack } from './unpack.ts'

/** A base with all that is known without having it. */
export interface Base {
  digest: Digest
  /** For people: its path or URL. */
  source: string
  /** It lies on this host. */
  local: boolean
  /** disk.size of vlb.yaml: a disk that is larger is of no use. */
  most: number | undefined
  /** Brings its bytes, as they are served, to `target`. */
  fetch: (target: string) => Promise<'whole' | 'resumed'>
}

/** Finds out the digest of a base: from vlb.yaml for a URL, from the file's bytes for a path (remembered until it changes). */
export async function resolveBase(context: BuildContext, source: LoadedSource, base: BaseSource): Promise<Base> {
  if (base.from === 'url') {
    const named = digest(`${base.digest.algorithm}:${base.digest.hex}`)
    return {
      digest: named,
      source: withoutSecrets(base.url),
      local: false,
      most: source.config.disk.size,
      fetch: (target) => fetchUrl(context, base.url, named, target),
    }
  }
  const algorithm = base.digest?.algorithm ?? 'sha256'
  const file = await locate(context, source, base.path).catch((error: unknown) => {
    // With its digest known, the file itself is only missed where its bytes are needed: a remote may have them.
    if (base.digest && error instanceof VlbError && error.code === 'VLB_BASE_MISSING') return error
    throw error
  })
  if (file instanceof VlbError) {
    const missing = async () => Promise.reject(file)
    return {
      digest: digest(`${algorithm}:${base.digest?.hex}`),
      source: base.path,
      local: false,
      most: undefined,
      fetch: missing,
    }
  }
  const found = digest(`${algorithm}:${await rememberedDigest(context, file, algorithm)}`)
  if (base.digest && found !== `${algorithm}:${base.digest.hex}`)
    throw digestMismatch(base.path, algorithm, base.digest.hex, found.split(':')[1] ?? '')
  const fetch: Base['fetch'] = (target) => file.copyTo(target).then(() => 'whole')
  return { digest: found, source: base.path, local: true, most: source.config.disk.size, fetch }
}

function digestMismatch(what: string, algorithm: string, expected: string, found: string): VlbError {
  return new VlbError(
    'VLB_BASE_DIGEST',
    `${what} is not what vlb.yaml says:\n  expected ${algorithm} ${expected}\n  found    ${algorithm} ${found}`,
    {
      hint: 'if the new file is what you want, put its digest into vlb.yaml; nothing was kept',
    },
  )
}

/** The file in the revision's own tree where it is tracked there; else the one in the project's folder. */
async function locate(context: BuildContext, source: LoadedSource, path: string): Promise<LocalFile> {
  const { project } = context
  const tracked =
    source.label !== '' && source.tree && !path.startsWith('/')
      ? await lookup(source.objects, source.tree, path)
      : undefined
  if (!tracked?.mode.startsWith('100')) return await localFile(context, path)
  const identity = blobIdentity(tracked.oid)
  const known = await knownDigest(context.store, identity)
  const pointed = known === undefined ? await lfsDigest(project.repo.cwd, source.objects, tracked.oid) : undefined
  if (pointed === undefined)
    return { identity, path: undefined, copyTo: (target) => writeBlob(context, tracked.oid, target) }
  // The file that it stands for, if that is the one that is here.
  const file = await localFile(context, path)
  if ((await rememberedDigest(context, file, 'sha256')) === pointed) return file
  throw new VlbError(
    'VLB_BASE_MISSING',
    `the base ${path} of ${source.label} lies in Git LFS, and another one is here`,
    {
      hint: `check that revision out, and: git lfs pull --include ${path}`,
    },
  )
}

/** What a Git LFS pointer says of the file it stands for; undefined for a blob that is none. */
async function lfsDigest(cwd: string, objects: Objects, oid: string): Promise<string | undefined> {
  const { stdout } = await run('git', ['cat-file', '-s', oid], { cwd })
  if (Number(stdout) > 1024) return undefined
  const text = await objects.blob(oid)
  return isLfsPointer(text) ? (/^oid sha256:([0-9a-f]{64})$/m.exec(text.toString('latin1'))?.[1] ?? '') : undefined
}

async function localFile(context: BuildContext, path: string): Promise<LocalFile> {
  const file = resolve(context.project.folder, path)
  try {
    if (!(await stat(file)).isFile())
      throw new VlbError('VLB_BASE_MISSING', `the base ${path} is not a regular file`, {
        hint: 'correct base.path in vlb.yaml',
      })
    const identity = await baseFileIdentity(file)
    return { identity, path: file, copyTo: (target) => copySparse(file, target, context.signal) }
  } catch (error) {
    if (!hasErrorCode(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new VlbError('VLB_BASE_MISSING', `the base ${path} is not there (looked for ${file})`, {
      hint: 'put the disk image there, or correct base.path in vlb.yaml',
    })
  }
}

async function writeBlob(context: BuildContext, oid: string, target: string): Promise<void> {
  const git = new CatFile(context.project.repo.cwd, {}, context.signal)
  const file = await open(target, 'wx')
  try {
    if (await git.write(oid, file.fd)) return
    throw new VlbError('VLB_GIT', `git object ${oid}, the base, is missing`, {
      hint: 'check the repository: git fsck; a shallow or partial clone may have to fetch first',
    })
  } finally {
    await file.close()
    await git.close()
  }
}

/**
 * The base in the store, brought there if need be, by `bring` where that is given: it leaves the disk as `disk` in a folder.
 * Two that want it at once fetch it once.
 */
export async function ensureBase(
  context: BuildContext,
  base: Base,
  bring: (work: string) => Promise<void> = (work) => fetchBase(context, base, work),
): Promise<BaseRecord> {
  const known = await storedBase(context, base.digest)
  if (known) return known
  const lock = await context.store.lock(`base-${baseFolder(base.digest)}`, context.signal, (pid) =>
    context.emit({ type: 'note', text: `waiting for pid ${pid}, which fetches the base` }),
  )
  try {
    return (await storedBase(context, base.digest)) ?? (await importBase(context, base, bring))
  } catch (error) {
    throw explainWriteError(error, context.store.root)
  } finally {
    await lock.release()
  }
}

async function fetchBase(context: BuildContext, base: Base, work: string): Promise<void> {
  const fetched = join(work, 'fetched')
  // What an earlier run had of it may not have got to the disk, or be of a file that was there before.
  if ((await base.fetch(fetched)) === 'resumed' && !(await isRight(context, base, fetched))) {
    context.emit({ type: 'note', text: 'download: what was resumed does not fit; starting from the beginning' })
    await rm(fetched)
    await base.fetch(fetched)
  }
  await verify(context, base, fetched)
  await unpack(context, base, fetched, join(work, 'disk'))
}

async function importBase(
  context: BuildContext,
  base: Base,
  bring: (work: string) => Promise<void>,
): Promise<BaseRecord> {
  const work = await context.store.scratch.folder()
  await bring(work)
  const { format, size } = await inspectDisk(join(work, 'disk'), base.source)
  if (format === 'qcow2') await refuseDamaged(join(work, 'disk'), base.source, context.signal)
  else await digHoles(join(work, 'disk'), context.signal)
  const file = `disk.${format}`
  await rename(join(work, 'disk'), join(work, file))
  await mkdir(join(work, 'ns'))
  const lines = await probe(work, join(work, file), format, {
    attach: context.attach,
    signal: context.signal,
    onOutput: () => {},
  })
  await rm(join(work, 'ns'), { recursive: true })
  await chmod(join(work, file), 0o444)
  const sha256 = await hashFile(join(work, file), 'sha256', { signal: context.signal })
  const record: BaseRecord = {
    format: 1,
    digest: base.digest,
    file,
    imageFormat: format,
    fileBytes: (await stat(join(work, file))).size,
    tables: await tablesDigest(join(work, file), format),
    sha256,
    disk: parseProbe(lines, size),
    source: base.source,
    addedAt: new Date().toISOString(),
  }
  await writeDown(join(work, 'base.json'), `${JSON.stringify(record, null, 2)}\n`)
  await shareWithGroup(work)
  await syncFolder(work)
  await putBase(context, work, record)
  context.store.grown = true
  return record
}

/** In place of a damaged one file by file: overlays that stand on it are never without it. */
async function putBase(context: BuildContext, work: string, record: BaseRecord): Promise<void> {
  const folder = context.store.path('bases', baseFolder(record.digest))
  await rename(work, folder).catch(async (error: unknown) => {
    if (!hasErrorCode(error, 'ENOTEMPTY', 'EEXIST')) throw error
    for (const name of [record.file, 'base.json']) await rename(join(work, name), join(folder, name))
    await sync(folder)
  })
  await sync(context.store.path('bases'))
  context.store.damagedBases.delete(record.digest as Digest)
}

/** What a cut or broken qcow2 lacks would else be read as zeros. Leaked clusters, status 3, harm nobody. */
async function refuseDamaged(file: string, shown: string, signal: AbortSignal): Promise<void> {
  try {
    await run('qemu-img', ['check', '-q', '-f', 'qcow2', file], { ok: [0, 3], signal })
  } catch (error) {
    if (!(error instanceof ToolError)) throw error
    throw new VlbError('VLB_BASE_FORMAT', `${shown} is a damaged qcow2 image`, {
      hint: `see what is wrong: qemu-img check ${shown}; an unfinished download?`,
      cause: error,
    })
  }
}

async function isRight(context: BuildContext, base: Base, file: string): Promise<boolean> {
  const [algorithm, expected] = base.digest.split(':') as ['sha256' | 'sha512', string]
  return (await hashWithProgress(context, 'checking the base', file, algorithm)) === expected
}

async function verify(context: BuildContext, base: Base, file: string): Promise<void> {
  const [algorithm, expected = ''] = base.digest.split(':') as ['sha256' | 'sha512', string]
  const total = (await stat(file)).size
  const head = Buffer.alloc(1025)
  const handle = await open(file, 'r')
  const { bytesRead } = await handle.read(head, 0, head.length, 0).finally(() => handle.close())
  if (total <= 1024 && isLfsPointer(head.subarray(0, bytesRead))) throw lfsPointer(base.source)
  const found = await hashWithProgress(context, 'checking the base', file, algorithm)
  if (found !== expected) throw digestMismatch(base.source, algorithm, expected, found)
}

async function fetchUrl(context: BuildContext, url: string, id: Digest, target: string): Promise<'whole' | 'resumed'> {
  // Outside the scratch folder: what has arrived is to be there for the next run, too.
  const waiting = context.store.path('downloads', baseFolder(id))
  const task = 'downloading the base'
  const started = Date.now()
  let bytes = 0
  const how = await download(url, waiting, {
    signal: context.signal,
    onProgress: (done, total) => {
      bytes = done
      context.emit({ type: 'progress', task, done, total })
    },
    onRetry: (reason) => context.emit({ type: 'note', text: `download: ${reason}; trying again` }),
  })
  context.emit({ type: 'progress-ended', task, bytes, seconds: (Date.now() - started) / 1000 })
  await rename(waiting, target)
  return how
}
