// Sends the snapshots of a chain to a registry: packs those that it lacks, uploads their pieces, and last of all writes the
// manifests, from the bottom up. What is cut off in between leaves blobs that nobody sees.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import {
  type Blob,
  blobOf,
  blobsOf,
  composeManifest,
  parseSnapshot,
  type SharedFile,
  type SharedSnapshot,
  shareManifest,
  statementOf,
} from '../core/oci.ts'
import { settingFlag } from '../git/repo.ts'
import { signText } from '../git/signatures.ts'
import { explainWriteError } from '../host/files.ts'
import { requireSpace } from '../host/space.ts'
import { pack, packingPays } from '../image/transport.ts'
import type { Registry, Source } from '../store/oci.ts'
import { cutFile } from '../store/oci-file.ts'
import {
  baseShipment,
  forgetDamage,
  hasDamage,
  isDamaged,
  noteDamage,
  readShipment,
  type Shipment,
  writeShipment,
} from '../store/shared.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { inParallel } from './parallel.ts'
import { type ChainToShip, type Parcel, parcelsOf } from './parcels.ts'
import { offerOf, requiresSignature } from './remote.ts'

/** Requests that wait for one another's answers at a registry. */
const atOnce = 4

export interface Shared {
  /** Bytes sent, by the key of the layer they are of. */
  sent: Map<string, number>
  /** Keys whose manifests were written. */
  written: Set<string>
}

export async function shipChain(context: BuildContext, registry: Registry, chain: ChainToShip): Promise<Shared> {
  const shared: Shared = { sent: new Map(), written: new Set() }
  const keys = chain.snapshots.map(({ manifest }) => manifest.key)
  const missing = await missingKeys(context, registry, keys)
  if (missing.size === 0) return shared
  const signs = await signsAlways(context)
  const parcels = await parcelsOf(context, registry.name, chain)
  const shipped = new Map<string, Shipment>()
  await inParallel(context, parcels, atOnce, async (inner, parcel) => {
    shipped.set(parcel.id, await ship(inner, registry.within(inner.signal), parcel, shared))
  })
  for (const [i, key] of keys.entries()) {
    if (!missing.has(key)) continue
    await writeManifest(context, registry, compose(context, chain, i, shipped), signs)
    shared.written.add(key)
  }
  return shared
}

/**
 * Keys that the remote lacks, or has damaged. Where it has the topmost it has all below, for they were written first. What
 * it has of a key may be another build of it; that is as good, and stays.
 */
async function missingKeys(
  context: BuildContext,
  registry: Registry,
  keys: readonly LayerKey[],
): Promise<Set<LayerKey>> {
  // Only after bad news is it worth more than one request each to look closer.
  const doubtful = (await hasDamage(context.store, registry.name)) || (await requiresSignature(context))
  const has = async (key: LayerKey) =>
    doubtful ? (await offerOf(context, registry, key)) !== undefined : await registry.hasTag(key)
  const [top, ...below] = [...keys].reverse()
  const missing = new Set<LayerKey>()
  if (top === undefined || (await has(top))) return missing
  missing.add(top)
  await inParallel(context, below, atOnce, async (_, key) => {
    if (!(await has(key))) missing.add(key)
  })
  return missing
}

async function signsAlways({ project }: BuildContext): Promise<boolean> {
  const own = project.settings.has('sign') ? await settingFlag(project.repo, 'vlb.sign') : undefined
  return own ?? (await settingFlag(project.repo, 'commit.gpgSign')) ?? false
}

/** Sees to it that the remote has all pieces of a file. */
async function ship(context: BuildContext, registry: Registry, parcel: Parcel, shared: Shared): Promise<Shipment> {
  const { id, nonce, details } = parcel
  const known = await readShipment(context.store, id, nonce)
  const from = known?.places.find((place) => place !== registry.name && place.startsWith(`${registry.remote.host}/`))
  const send = new Sending(context, registry, parcel, from?.slice(registry.remote.host.length + 1))
  if (details) await send.small(details)
  let file = known?.file
  if (!file || (await send.lacking(file.parts)).length > 0) file = await sendWrapped(context, registry, parcel, send)
  shared.sent.set(parcel.key, (shared.sent.get(parcel.key) ?? 0) + send.sent)
  const places = [...new Set([...(known?.places ?? []), registry.name])]
  const shipment = { nonce, file, ...(details ? { details: blobOf(details) } : {}), places }
  await writeShipment(context.store, id, shipment)
  return shipment
}

/** Once more where the registry turns out to keep a piece that it has damaged: then it is cut elsewhere. */
async function sendWrapped(
  context: BuildContext,
  registry: Registry,
  parcel: Parcel,
  send: Sending,
): Promise<SharedFile> {
  const made = await wrap(context, parcel)
  for (let again = true; ; again = false) {
    // What the registry holds damaged it keeps.
    const avoid = (digest: string) => isDamaged(context.store, registry.name, digest)
    const file = await cutFile(made, { avoid, signal: context.signal })
    try {
      await send.pieces(made, file)
      return file
    } catch (error) {
      const digest = error instanceof VlbError ? error.data?.['digest'] : undefined
      if (!again || typeof digest !== 'string') throw error
      await noteDamage(context.store, registry.name, digest)
    }
  }
}

/** The file as it travels: packed, where that makes it smaller. */
async function wrap(context: BuildContext, { disk, backing, task }: Parcel): Promise<string> {
  const { store, signal } = context
  let { path } = disk
  if (await packingPays(path)) {
    context.emit({ type: 'progress', task, done: 0, total: undefined })
    const { blocks } = await stat(path)
    path = join(await store.scratch.folder(), 'packed.qcow2')
    // At the most.
    requireSpace(path, blocks * 512)
    await pack({ from: disk, backing, to: path }, signal).catch((error: unknown) => {
      throw explainWriteError(error, store.root)
    })
  }
  return path
}

/** The uploads of one parcel. */
class Sending {
  sent = 0
  readonly #context: BuildContext
  readonly #registry: Registry
  readonly #parcel: Parcel
  readonly #from: string | undefined

  /** `from`: another repository of this registry that has it, or had. */
  constructor(context: BuildContext, registry: Registry, parcel: Parcel, from: string | undefined) {
    this.#context = context
    this.#registry = registry
    this.#parcel = parcel
    this.#from = from
  }

  /** Those that the registry does not have, or not whole: one whose length is another was cut short there. */
  async lacking(blobs: readonly Blob[]): Promise<Blob[]> {
    const lacking: Blob[] = []
    for (const blob of blobs) {
      const bad = await isDamaged(this.#context.store, this.#registry.name, blob.digest)
      if (bad || (await this.#registry.blobSize(blob.digest)) !== blob.size) lacking.push(blob)
    }
    return lacking
  }

  async small(bytes: Buffer): Promise<void> {
    const blob = blobOf(bytes)
    for (const one of await this.lacking([blob])) await this.#upload(one, bytes, () => {})
  }

  async pieces(path: string, file: SharedFile): Promise<void> {
    const lacking = new Set(await this.lacking(file.parts))
    const total = [...lacking].reduce((sum, { size }) => sum + size, 0)
    const { task } = this.#parcel
    const started = Date.now()
    let done = 0
    let offset = 0
    for (const blob of file.parts) {
      const source = { path, offset }
      offset += blob.size
      if (!lacking.has(blob)) continue
      await this.#upload(blob, source, (bytes) => {
        done += bytes
        this.#context.emit({ type: 'progress', task, done, total })
      })
    }
    const seconds = (Date.now() - started) / 1000
    this.#context.emit({ type: 'progress-ended', task, bytes: total, seconds })
  }

  async #upload(blob: Blob, source: Source, onBytes: (bytes: number) => void): Promise<void> {
    const how = await this.#registry.upload(blob, source, { from: this.#from, onBytes })
    if (how === 'uploaded') this.sent += blob.size
    const size = await this.#registry.blobSize(blob.digest)
    if (size !== blob.size) throw keepsDamage(this.#registry, blob, size)
    await forgetDamage(this.#context.store, this.#registry.name, blob.digest)
  }
}

function keepsDamage(registry: Registry, { digest, size }: Blob, found: number | undefined): VlbError {
  const has = found === undefined ? 'does not have it' : `has ${found} bytes of it instead of ${size}`
  return new VlbError('VLB_REMOTE_DAMAGED', `${registry.name} was sent the blob ${digest}, but ${has}`, {
    hint: 'push once more: it is cut into other pieces then; and have the registry looked at',
    data: { digest },
  })
}

function compose(
  { arch }: BuildContext,
  { snapshots, base, shareBase }: ChainToShip,
  top: number,
  shipped: ReadonlyMap<string, Shipment>,
): SharedSnapshot {
  const { key, contentId } = (snapshots[top] as Snapshot).manifest
  const layers = snapshots.slice(0, top + 1).map(({ manifest }) => {
    const { file, details } = shipped.get(manifest.id) as Shipment & { details: Blob }
    return { manifest: shareManifest(manifest), file, details }
  })
  const file = base && shareBase ? shipped.get(baseShipment(base.digest).id)?.file : undefined
  if (!base || !file) return { format: 1, key, contentId, arch, layers }
  const { digest, disk, source } = base
  return { format: 1, key, contentId, arch, base: { digest, disk, source, file }, layers }
}

async function writeManifest(
  context: BuildContext,
  registry: Registry,
  snapshot: SharedSnapshot,
  signs: boolean,
): Promise<void> {
  let padding = ''
  // One that the registry has damaged it would keep: a blank makes another of it.
  while (await isDamaged(context.store, registry.name, blobOf(composeManifest(snapshot, padding).config).digest))
    padding += ' '
  const { config } = composeManifest(snapshot, padding)
  const signature = signs
    ? await signText(context.project.repo, statementOf(snapshot.key, blobOf(config).digest))
    : undefined
  const { manifest } = composeManifest(snapshot, padding, signature)
  const wrong = parseSnapshot(config, snapshot.key, blobsOf(snapshot))
  if (typeof wrong === 'string') {
    const name = snapshot.layers.at(-1)?.manifest.layer
    throw new VlbError('VLB_REMOTE', `${name} cannot be shared: ${wrong}`, {
      hint: 'nobody could pull it; please report it',
    })
  }
  const bytes = Buffer.from(config)
  await registry.upload(blobOf(bytes), bytes, { onBytes: () => {} })
  await registry.putManifest(snapshot.key, manifest)
}
