// The seed disk of a project: the files of cloud-init/, from the working tree or a revision, checked and made a disk.
import { lstat, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { composeSeed, pickSeedFiles, type Seed, type SeedFile, seedFolder } from '../core/cloud-init.ts'
import { hasErrorCode, printable, VlbError } from '../core/errors.ts'
import { treeId } from '../core/ids.ts'
import type { SeedResult } from '../core/results-boot.ts'
import { formatBytes } from '../core/units.ts'
import { lookup } from '../git/objects.ts'
import { makeFolders, moveInto } from '../host/files.ts'
import { run } from '../host/run.ts'
import { programPath } from '../host/tools.ts'
import { makeSeed, seedFormat } from '../image/seed.ts'
import type { BuildContext } from './context.ts'
import type { LoadedSource } from './project.ts'

/** All that a seed needs many times over; what is larger was put there by mistake. */
const sizeLimit = 8 * 2 ** 20

export interface SeedRequest {
  /** Absolute; undefined: in build/. */
  output: string | undefined
  /** Whether cloud-init's own schema decides, where this host has it. */
  schema: boolean
}

/** `git vlb cloud-init`. */
export async function writeSeed(context: BuildContext, request: SeedRequest): Promise<SeedResult> {
  const seed = await workingSeed(context)
  if (!seed) {
    throw new VlbError('VLB_CLOUD_INIT', `there is no folder ${seedFolder}/ in ${context.project.folder}`, {
      hint: `make ${seedFolder}/user-data, whose first line is: #cloud-config`,
    })
  }
  const format = await seedFormat()
  const path = request.output ?? resolve(context.project.folder, 'build', format === 'iso' ? 'seed.iso' : 'seed.img')
  await checkOutput(path, join(context.project.folder, seedFolder))
  await context.store.prepare()
  const work = await layOut(context, seed)
  const complaint = request.schema ? await schemaComplaint(work, seed, context.signal) : undefined
  if (complaint !== undefined)
    throw new VlbError('VLB_CLOUD_INIT', complaint, { hint: 'to leave this check out: git vlb cloud-init --no-schema' })
  await makeFolders(dirname(path))
  // Beside its place, where the janitor knows it: complete or not there.
  const temporary = context.store.scratch.beside(path)
  const bytes = await makeSeed(work, [...seed.files.keys()], temporary, context.signal)
  await moveInto(temporary, path)
  return { path, format, bytes, instanceId: seed.instanceId, files: [...seed.files.keys()] }
}

async function checkOutput(path: string, folder: string): Promise<void> {
  const isFolder = (await lstat(path).catch(() => undefined))?.isDirectory() ?? false
  if (!isFolder && dirname(path) !== folder) return
  const what = isFolder ? 'is a folder' : 'lies among the files that the seed is made of'
  throw new VlbError('VLB_USAGE', `the seed cannot be written to ${printable(path)}, which ${what}`, {
    hint: 'name another file: git vlb cloud-init -o seed.iso',
  })
}

/** A seed for one boot, in a scratch folder; returns its path. What cloud-init's schema says of it is a warning here. */
export async function seedForBoot(context: BuildContext, seed: Seed): Promise<string> {
  const work = await layOut(context, seed)
  const complaint = await schemaComplaint(work, seed, context.signal)
  if (complaint !== undefined) context.emit({ type: 'warning', text: complaint })
  const path = join(work, 'seed.img')
  await makeSeed(work, [...seed.files.keys()], path, context.signal)
  return path
}

async function layOut(context: BuildContext, seed: Seed): Promise<string> {
  const work = await context.store.scratch.folder()
  // It may hold passwords.
  for (const [name, content] of seed.files) await writeFile(join(work, name), content, { mode: 0o600 })
  return work
}

/** What `cloud-init schema` says against user-data, where this host has that program. */
async function schemaComplaint(folder: string, seed: Seed, signal: AbortSignal): Promise<string | undefined> {
  const userData = seed.files.get('user-data')?.toString('utf8') ?? ''
  if (!/^\s*#cloud-config\s/.test(userData) || !(await programPath('cloud-init'))) return undefined
  const checked = await run('cloud-init', ['schema', '--config-file', join(folder, 'user-data')], {
    signal,
    ok: Array.from({ length: 256 }, (_, i) => i),
  })
  if (checked.exitCode === 0) return undefined
  const said = `${checked.stdout}\n${checked.stderr}`.split('\n').filter((line) => line.trim() !== '')
  const shown = said.slice(0, 12).map((line) => `\n  ${printable(line.replaceAll(`${folder}/`, `${seedFolder}/`))}`)
  return `cloud-init finds fault with ${seedFolder}/user-data:${shown.join('')}`
}

/** The seed of the working tree's folder, committed or not; undefined if there is none. Throws VLB_CLOUD_INIT. */
export async function workingSeed(context: BuildContext): Promise<Seed | undefined> {
  const folder = join(context.project.folder, seedFolder)
  const names = await readdir(folder).catch((error: unknown) => {
    if (hasErrorCode(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  })
  if (!names) return undefined
  return await seedOf(context, names, async (file) => {
    const path = join(folder, file)
    const found = await lstat(path)
    if (!found.isFile()) return undefined
    return found.size > sizeLimit ? 'too large' : await readFile(path)
  })
}

/** The same of a revision, as git has it. */
export async function committedSeed(context: BuildContext, source: LoadedSource): Promise<Seed | undefined> {
  const folder = source.tree && (await lookup(source.objects, source.tree, seedFolder))
  if (folder?.mode !== '40000') return undefined
  const entries = await source.objects.tree(treeId(folder.oid))
  const names = entries.map(({ name }) => name)
  return await seedOf(context, names, async (file) => {
    const entry = entries.find(({ name }) => name === file)
    if (!entry?.mode.startsWith('100')) return undefined
    const content = await source.objects.blob(entry.oid)
    return content.length > sizeLimit ? 'too large' : content
  })
}

/** `read` gives undefined for what is no regular file. */
async function seedOf(
  context: BuildContext,
  names: readonly string[],
  read: (file: string) => Promise<Buffer | 'too large' | undefined>,
): Promise<Seed> {
  const { chosen, misspelled } = pickSeedFiles(names)
  for (const text of misspelled) context.emit({ type: 'warning', text })
  const files: SeedFile[] = []
  for (const [name, file] of chosen)
    files.push({ name, path: `${seedFolder}/${file}`, content: await content(file, read) })
  return composeSeed(files)
}

async function content(
  file: string,
  read: (file: string) => Promise<Buffer | 'too large' | undefined>,
): Promise<Buffer> {
  const bytes = await read(file)
  if (Buffer.isBuffer(bytes)) return bytes
  const what = bytes === undefined ? 'is no regular file' : `is larger than ${formatBytes(sizeLimit)}`
  throw new VlbError('VLB_CLOUD_INIT', `${seedFolder}/${file} ${what}`, {
    hint: 'a seed is made of small files of its own; what is large comes by "#include URL", or in a layer',
  })
}
