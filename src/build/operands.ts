// What `git vlb diff` compares: its operands as disks. Image files, layers, revisions, snapshots; what is missing is built.
import { mkdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { chooseRoot, type DiskLayout, parseProbe } from '../core/disk.ts'
import { printable, VlbError } from '../core/errors.ts'
import { short, snapshotId } from '../core/ids.ts'
import { findLayer, upTo } from '../core/plan.ts'
import { createOverlay, inspectDisk, namesOtherFiles, virtualSize } from '../image/qcow2.ts'
import { probe } from '../image/sandbox.ts'
import { imageRecord } from '../store/images.ts'
import { baseFolder, overlayName } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import { holdBehind } from './behind.ts'
import { planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { areSound, partsOf } from './damage.ts'
import { type LoadedSource, loadRevision, loadWorkingTree } from './project.ts'
import { storedBase } from './stored-bases.ts'
import { buildChain } from './walk.ts'

/** A disk to be looked at. */
export interface Side {
  /** For people. */
  label: string
  /** Absolute path. */
  file: string
  format: 'qcow2' | 'raw'
  layout: DiskLayout
  /** What it stands on, itself first, if all that is known: a text for each disk, equal for one and the same. */
  disks: string[]
}

export interface SideOptions {
  cwd: string
  /** Values of --env. */
  env: Record<string, string>
  secrets: ReadonlyMap<string, Buffer>
}

/** What two operands name; undefined is the working tree's last layer. */
export async function openSides(
  context: BuildContext,
  names: readonly [string, string | undefined],
  options: SideOptions,
): Promise<[Side, Side]> {
  const sources = new Sources(context)
  try {
    return [await openSide(sources, names[0], options), await openSide(sources, names[1], options)]
  } finally {
    await sources.close()
  }
}

/** The working tree and revisions, each read once. */
class Sources {
  readonly context: BuildContext
  readonly #loaded = new Map<string | undefined, LoadedSource>()

  constructor(context: BuildContext) {
    this.context = context
  }

  /** A revision, or undefined for the working tree. */
  async load(name: string | undefined): Promise<LoadedSource> {
    const { project } = this.context
    const source =
      this.#loaded.get(name) ?? (await (name === undefined ? loadWorkingTree(project) : loadRevision(project, name)))
    this.#loaded.set(name, source)
    return source
  }

  async close(): Promise<void> {
    for (const { objects } of this.#loaded.values()) await objects.close()
  }
}

async function openSide(sources: Sources, name: string | undefined, options: SideOptions): Promise<Side> {
  const { context } = sources
  if (name === undefined)
    return await layerIn(context, await sources.load(undefined), undefined, 'the working tree', options)
  const file = resolve(options.cwd, name)
  if ((await stat(file).catch(() => undefined))?.isFile()) return await imageFile(sources, file, name)
  const colon = name.lastIndexOf(':')
  if (colon > 0) {
    return await layerIn(context, await sources.load(name.slice(0, colon)), name.slice(colon + 1), name, options)
  }
  if (await isLayer(sources, name.replace(/\^$/, '')))
    return await layerIn(context, await sources.load(undefined), name, name, options)
  try {
    return await layerIn(context, await sources.load(name), undefined, name, options)
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_REV') throw error
    return await byId(context, name)
  }
}

/** In a bare repository there are none but those of revisions. */
async function isLayer(sources: Sources, name: string): Promise<boolean> {
  if (sources.context.project.repo.worktree === undefined) return false
  try {
    findLayer((await sources.load(undefined)).layers, name)
    return true
  } catch (error) {
    if (error instanceof VlbError && error.code === 'VLB_LAYER_UNKNOWN') return false
    throw error
  }
}

/** A layer of a revision, or its last; with a caret, what that stands on. */
async function layerIn(
  context: BuildContext,
  source: LoadedSource,
  layer: string | undefined,
  label: string,
  options: SideOptions,
): Promise<Side> {
  const below = layer?.endsWith('^') ?? false
  const last = layer === undefined ? undefined : findLayer(source.layers, layer.replace(/\^$/, '')).name
  const snapshot = await built(context, source, last, options)
  return below
    ? await parent(context, snapshot, source.config.disk.root, label)
    : await snapshotSide(context, snapshot, label)
}

/** A snapshot of the store as a disk to be looked at. */
export async function snapshotSide(context: BuildContext, snapshot: Snapshot, label: string): Promise<Side> {
  const { file, manifest } = snapshot
  return { label, file, format: 'qcow2', layout: manifest.disk, disks: await ancestry(context, snapshot) }
}

async function ancestry(context: BuildContext, snapshot: Snapshot): Promise<string[]> {
  const disks: string[] = []
  for (let next: Snapshot | undefined = snapshot; next; ) {
    const { id, nonce, parent, parentNonce, base }: Snapshot['manifest'] = next.manifest
    disks.push(`${id} ${nonce}`)
    if (base !== undefined) disks.push(base)
    next = parent === undefined ? undefined : await context.store.get(parent)
    // Another build of that key is another disk.
    if (next && next.manifest.nonce !== parentNonce) break
  }
  return disks
}

/** What is there is taken as it is, even where a build would make it anew. */
async function built(
  context: BuildContext,
  source: LoadedSource,
  last: string | undefined,
  { env, secrets }: SideOptions,
): Promise<Snapshot> {
  const { found, base } = await planChain(context, source, upTo(source.layers, last), env)
  const top = found.at(-1)
  const ids = found.flatMap((there) => there?.manifest.id ?? [])
  const complete = top && ids.length === found.length && (await context.store.hold(ids, context.signal))
  if (complete && (await areSound(context, ids, base?.digest))) {
    context.store.touch(ids)
    return top
  }
  const fixed = { rebuild: new Set<string>(), frozen: false, dryRun: false, keepFailed: false, since: Date.now() }
  const chain = await buildChain(context, source, { ...fixed, last, env, secrets })
  if (chain.failed) throw chain.failed.error
  if (!chain.top) throw new Error('a chain without a top')
  return chain.top
}

async function parent(
  context: BuildContext,
  { manifest }: Snapshot,
  root: string | undefined,
  label: string,
): Promise<Side> {
  const below = manifest.parent && (await context.store.get(manifest.parent))
  if (below) return await snapshotSide(context, below, label)
  const base = manifest.base && (await storedBase(context, manifest.base as Parameters<typeof storedBase>[1]))
  if (!base) {
    throw new VlbError('VLB_LAYER_UNKNOWN', `${printable(label)}: nothing is below ${manifest.layer}`, {
      hint: 'see what the layers stand on: git vlb status',
    })
  }
  const file = context.store.path('bases', baseFolder(base.digest), base.file)
  const layout = chooseRoot(base.disk, root, `the base ${base.source}`)
  return { label, file, format: base.imageFormat, layout, disks: [base.digest] }
}

/** A snapshot by the beginning of its key or content id. */
async function byId(context: BuildContext, name: string): Promise<Side> {
  const wanted = name.toLowerCase()
  const all = /^[0-9a-f]{4,64}$/.test(wanted) ? await context.store.list() : []
  const found = all.filter(({ id, key, contentId }) => [id, key, contentId].some((one) => one.startsWith(wanted)))
  const [manifest, second] = found
  if (second) {
    throw new VlbError('VLB_LAYER_UNKNOWN', `${name} is the beginning of ${found.length} snapshots' keys`, {
      hint: `give more of it: ${found.map((one) => short(one.id)).join(', ')}`,
    })
  }
  if (manifest) await context.store.hold([manifest.id], context.signal)
  const snapshot = manifest && (await context.store.get(snapshotId(manifest.id)))
  if (snapshot) {
    const parts = await partsOf(context, snapshot)
    if (await areSound(context, parts.ids, parts.base)) return await snapshotSide(context, snapshot, name)
    throw new VlbError('VLB_STORE_DAMAGED', `${name}, or what it stands on, is damaged`, {
      hint: 'build it again: git vlb build',
    })
  }
  throw new VlbError(
    'VLB_LAYER_UNKNOWN',
    `"${printable(name)}" is no image file, no layer, no revision and no snapshot's key`,
    { hint: 'git vlb status lists the layers; a PATH comes last: git vlb diff A B PATH' },
  )
}

/** What its own bytes say it is; one that names other files only if we wrote it. */
async function imageFile(sources: Sources, file: string, label: string): Promise<Side> {
  const { context } = sources
  const ours = (await namesOtherFiles(file)) && (await imageRecord(context.store, file))
  if (ours) await holdBehind(context, file)
  const format = ours ? 'qcow2' : (await inspectDisk(file, printable(label))).format
  const work = await context.store.scratch.folder()
  await mkdir(join(work, 'ns'))
  const overlay = join(work, overlayName)
  // Whoever looks at a file system may write to it: not to this one.
  await createOverlay(work, overlayName, { reference: file, format }, undefined, context.signal)
  const found = parseProbe(await probeImage(context, work, overlay, label), await virtualSize(overlay))
  return { label, file, format, layout: await layoutOf(sources, found, label), disks: [] }
}

/** With what tools said last, if it cannot be looked at: it may be the disk of a machine that runs. */
async function probeImage(context: BuildContext, work: string, overlay: string, label: string): Promise<string[]> {
  let said = ''
  const onOutput = (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4000)
  }
  try {
    return await probe(work, overlay, 'qcow2', { attach: context.attach, signal: context.signal, onOutput })
  } catch (error) {
    if (!(error instanceof VlbError)) throw error
    if (/Failed to get .* lock/.test(said)) {
      throw new VlbError('VLB_BASE_FORMAT', `${printable(label)} is in use: another program writes to it`, {
        hint: 'end the machine that runs from it, or compare a copy',
      })
    }
    const last = printable(said.trimEnd().split('\n').at(-1) ?? '')
    throw new VlbError(error.code, `${printable(label)}: ${error.message}${last ? ` (${last})` : ''}`, {
      hint: error.hint ?? '',
    })
  }
}

/** Where several partitions could be the root, disk.root of the working tree decides. */
async function layoutOf(sources: Sources, found: ReturnType<typeof parseProbe>, label: string): Promise<DiskLayout> {
  try {
    return chooseRoot(found, undefined, printable(label))
  } catch (error) {
    if (!(error instanceof VlbError) || sources.context.project.repo.worktree === undefined) throw error
    const { root } = (await sources.load(undefined)).config.disk
    if (root === undefined) throw error
    return chooseRoot(found, root, printable(label))
  }
}
