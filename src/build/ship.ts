// Sends the snapshots of a chain to a registry: the pieces that it lacks, and last of all the manifests, from the bottom up. What
// is cut off in between leaves blobs that nobody sees.
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import {
  type Blob,
  blobOf,
  blobsOf,
  composeManifest,
  parseSnapshot,
  pushedNow,
  type SharedSnapshot,
  shareManifest,
  statementOf,
  summaryOf,
} from '../core/oci.ts'
import { settingFlag } from '../git/repo.ts'
import { signText } from '../git/signatures.ts'
import type { Registry } from '../store/oci.ts'
import { baseShipment, hasDamage, isDamaged, noteDamage, type Shipment } from '../store/shared.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { inParallel } from './parallel.ts'
import { type ChainToShip, parcelsOf } from './parcels.ts'
import { offerOf, requiresSignature } from './remote.ts'
import { send } from './sending.ts'

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
  const missing = await missingKeys(context, registry, chain)
  if (missing.size === 0) return shared
  await chain.onMissing(missing)
  const signs = await signsAlways(context)
  const parcels = await parcelsOf(context, registry.name, chain)
  const shipped = new Map<string, Shipment>()
  await inParallel(context, parcels, atOnce, async (inner, parcel) => {
    const { shipment, sent } = await send(inner, registry.within(inner.signal), parcel)
    shipped.set(parcel.id, shipment)
    shared.sent.set(parcel.key, (shared.sent.get(parcel.key) ?? 0) + sent)
  })
  for (const [i, key] of keys.entries()) {
    if (!missing.has(key)) continue
    await writeManifest(context, registry, compose(context, chain, i, shipped), signs)
    shared.written.add(key)
  }
  return shared
}

/**
 * Keys that the remote lacks, has damaged, or has of a build that is too old. Another build of a key is else as good, and
 * stays. Of all: what has the topmost may have it on other layers, as after a rollup.
 */
async function missingKeys(
  context: BuildContext,
  registry: Registry,
  { snapshots, isOld }: ChainToShip,
): Promise<Set<LayerKey>> {
  const keys = snapshots.map(({ manifest }) => manifest.key)
  // Only after bad news is it worth more than one request each to look closer.
  const doubtful =
    isOld !== undefined || (await hasDamage(context.store, registry.name)) || (await requiresSignature(context))
  const missing = new Set<LayerKey>()
  await inParallel(context, keys, atOnce, async (_, key) => {
    const text = await registry.foundManifest(key)
    if (text === undefined || (doubtful && !(await hasSound(context, registry, key, isOld)))) missing.add(key)
    else await renew(registry, key, text)
  })
  return missing
}

/** Who prunes the remote spares what was pushed of late, for the branch it is of may not be known there. */
async function renew(registry: Registry, key: LayerKey, text: string): Promise<void> {
  const pushed = Date.parse(summaryOf(text)?.pushedAt ?? '')
  if (!(Date.now() - pushed > renewAfter)) return
  const renewed = pushedNow(text, new Date().toISOString())
  if (renewed !== undefined) await registry.putManifest(key, renewed)
}

/** Milliseconds. */
const renewAfter = 86_400_000

async function hasSound(
  context: BuildContext,
  registry: Registry,
  key: LayerKey,
  isOld: ChainToShip['isOld'],
): Promise<boolean> {
  try {
    const offer = await offerOf(context, registry, key)
    return offer !== undefined && !isOld?.(offer)
  } catch (error) {
    await noteIfDamaged(context, registry, error)
    return false
  }
}

/** What is damaged there is replaced by what is pushed; every other error is thrown. */
export async function noteIfDamaged(context: BuildContext, registry: Registry, error: unknown): Promise<void> {
  const digest = error instanceof VlbError ? error.data?.['digest'] : undefined
  if (!(error instanceof VlbError) || error.code !== 'VLB_REMOTE_DAMAGED' || typeof digest !== 'string') throw error
  await noteDamage(context.store, registry.name, digest)
}

/** Whether what is pushed is signed. */
export async function signsAlways({ project }: BuildContext): Promise<boolean> {
  const own = project.settings.has('sign') ? await settingFlag(project.repo, 'vlb.sign') : undefined
  return own ?? (await settingFlag(project.repo, 'commit.gpgSign')) ?? false
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
  const { digest, disk, source, sha256 } = base
  const shared = { digest, ...(sha256 === undefined ? {} : { sha256 }), disk, source, file }
  return { format: 1, key, contentId, arch, base: shared, layers }
}

async function writeManifest(
  context: BuildContext,
  registry: Registry,
  snapshot: SharedSnapshot,
  signs: boolean,
): Promise<void> {
  const { key } = snapshot
  const wrong = parseSnapshot(composeManifest(snapshot).config, key, blobsOf(snapshot))
  if (typeof wrong === 'string') {
    const name = snapshot.layers.at(-1)?.manifest.layer
    throw new VlbError('VLB_REMOTE', `${name} cannot be shared: ${wrong}`, {
      hint: 'nobody could pull it; please report it',
    })
  }
  const pushed = new Date().toISOString()
  const compose = (padding: string, signature?: string) => composeManifest(snapshot, padding, signature, pushed)
  await putTag(context, registry, key, { compose, statement: (config) => statementOf(key, config), signs })
}

export interface Tagged {
  compose: (padding: string, signature?: string) => { config: string; manifest: string }
  /** What is signed, with the digest of the config. */
  statement: (config: string) => string
  signs: boolean
}

/** The last step: config and manifest under a tag, signed where that is wanted. Returns the manifest. */
export async function putTag(
  context: BuildContext,
  registry: Registry,
  tag: string,
  { compose, statement, signs }: Tagged,
): Promise<string> {
  let padding = ''
  // One that the registry has damaged it would keep: a blank makes another of it.
  while (await isDamaged(context.store, registry.name, blobOf(compose(padding).config).digest)) padding += ' '
  const config = Buffer.from(compose(padding).config)
  const blob = blobOf(config)
  const signature = signs ? await signText(context.project.repo, statement(blob.digest)) : undefined
  const { manifest } = compose(padding, signature)
  await registry.upload(blob, config, { onBytes: () => {} })
  await registry.putManifest(tag, manifest)
  return manifest
}
