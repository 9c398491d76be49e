// Snapshots that come from a remote: fetched, looked at, and put into the store as if they were from here.
import { rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { VlbError } from '../core/errors.ts'
import type { Manifest } from '../core/manifest.ts'
import { blobOf, type Details, type SharedFile, type SharedLayer } from '../core/oci.ts'
import { packagesName, readPackageList } from '../core/packages.ts'
import type { Step } from '../core/plan.ts'
import { allocatedBytes, explainWriteError } from '../host/files.ts'
import { stampOverlay } from '../host/tables.ts'
import { settleOverlay } from '../image/transport.ts'
import { hashBody, overlayDigest } from '../store/digest.ts'
import type { Registry } from '../store/oci.ts'
import { downloadFile, partName } from '../store/oci-file.ts'
import { logName, overlayName } from '../store/places.ts'
import { writeShipment } from '../store/shared.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { backingOf, type Ground } from './job.ts'
import { findSnapshot } from './locked.ts'
import { freeId, standsOn } from './step.ts'

/** That very snapshot, if it is in the store: another build of the key is another disk. */
export async function sameSnapshot(
  context: BuildContext,
  { key, nonce }: Pick<Manifest, 'key' | 'nonce'>,
): Promise<Snapshot | undefined> {
  const current = await findSnapshot(context, key)
  if (!current || current.manifest.nonce === nonce) return current
  const other = (await context.store.list()).find((manifest) => manifest.key === key && manifest.nonce === nonce)
  return other && (await context.store.get(other.id))
}

export function downloadPath(context: BuildContext, file: SharedFile): string {
  return context.store.path('downloads', partName(file))
}

/** Where a file that came can be had again, and in which pieces. */
export async function noteShipment(
  context: BuildContext,
  registry: Registry,
  id: string,
  shipment: Omit<Parameters<typeof writeShipment>[2], 'places'>,
): Promise<void> {
  await writeShipment(context.store, id, { ...shipment, places: [registry.name] })
}

/** Fetches a file into `target`, where an earlier run may have left a part of it. */
export async function fetchFile(
  context: BuildContext,
  registry: Registry,
  file: SharedFile,
  { task, target }: { task: string; target: string },
): Promise<void> {
  const started = Date.now()
  let done = 0
  await downloadFile(registry, file, target, (bytes) => {
    done += bytes
    context.emit({ type: 'progress', task, done, total: file.size })
  })
  context.emit({ type: 'progress-ended', task, bytes: file.size, seconds: (Date.now() - started) / 1000 })
}

export interface Bringing {
  layer: SharedLayer
  /** Our own step of that key. */
  step: Step | undefined
  on: Promise<Ground>
}

/** One snapshot, under the lock of its key: whoever builds it at this time is waited for. */
export async function bringLayer(context: BuildContext, registry: Registry, bringing: Bringing): Promise<Snapshot> {
  const { layer, on, step } = bringing
  const { key, nonce, layer: name } = layer.manifest
  const started = Date.now()
  const lock = await context.store.lock(key, context.signal, (pid) =>
    context.emit({ type: 'step-waiting', label: '', name, pid }),
  )
  try {
    const there = await sameSnapshot(context, { key, nonce })
    if (there) return there
    const work = await context.store.scratch.folder()
    const overlay = join(work, overlayName)
    const fetched = downloadPath(context, layer.file)
    await fetchFile(context, registry, layer.file, { task: `pulling ${name}`, target: fetched })
    const details = await readDetails(registry, layer)
    const ground = await on
    await rename(fetched, overlay)
    const manifest = await accept(context, registry, { layer, step, ground, work, details })
    const snapshot = await context.store.put(work, manifest)
    await noteShipment(context, registry, snapshot.manifest.id, { nonce, file: layer.file, details: layer.details })
    const seconds = (Date.now() - started) / 1000
    context.emit({ type: 'step-ended', label: '', name, result: 'pulled', seconds, bytes: manifest.bytes })
    return snapshot
  } catch (error) {
    throw explainWriteError(error, context.store.root)
  } finally {
    await lock.release()
  }
}

async function readDetails(registry: Registry, { manifest, details }: SharedLayer): Promise<Details> {
  const packed = await registry.blob(details, 2 ** 26)
  try {
    const text = (await promisify(gunzip)(packed, { maxOutputLength: 2 ** 28 })).toString('utf8')
    const { log, packages } = JSON.parse(text) as Partial<Details>
    const listed = packages === undefined ? undefined : blobOf(packages).digest.slice('sha256:'.length)
    const sound = typeof log === 'string' && listed === manifest.packages?.digest
    if (sound && (packages === undefined || readPackageList(packages)))
      return { log, ...(packages === undefined ? {} : { packages }) }
  } catch {
    // As good as none.
  }
  const what = `the log and package list of ${manifest.layer} at ${registry.name} are not valid`
  throw new VlbError('VLB_REMOTE_DAMAGED', what, {
    hint: 'nothing of it was kept; the layer is built here instead',
    data: { digest: details.digest },
  })
}

interface Arrived {
  layer: SharedLayer
  step: Step | undefined
  ground: Ground
  /** Folder with its overlay. */
  work: string
  details: Details
}

/** Makes a snapshot of this store of what has come. */
async function accept(context: BuildContext, registry: Registry, arrived: Arrived): Promise<Manifest> {
  const { layer, step, ground, work, details } = arrived
  const { manifest, file } = layer
  const overlay = join(work, overlayName)
  const stored = backingOf({ ground })
  const backing = stored && { reference: stored.stored, format: stored.format }
  const body = hashBody(overlay, context.signal)
  body.catch(() => {})
  await settleOverlay(overlay, manifest.disk.size, backing, context.signal).catch((error: unknown) => {
    if (!(error instanceof VlbError) || error.code !== 'VLB_REMOTE_DAMAGED') throw error
    throw new VlbError(error.code, `${manifest.layer} at ${registry.name}: ${error.message}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      data: { digest: file.parts[0]?.digest },
    })
  })
  await writeFile(join(work, logName), details.log)
  if (details.packages !== undefined) await writeFile(join(work, packagesName), details.packages)
  const { key, contentId, nonce, layer: name, disk, seconds, builtAt, packages, steps } = manifest
  stampOverlay(overlay, nonce)
  return {
    format: 1,
    id: await freeId(context, key),
    key,
    contentId,
    nonce,
    // The same, for the key is; but for the values, which are not told to others.
    inputs: step?.inputs ?? manifest.inputs,
    layer: name,
    project: context.project.folder,
    disk,
    fileBytes: (await stat(overlay)).size,
    digest: await overlayDigest(overlay, body),
    bytes: await allocatedBytes(overlay),
    seconds,
    builtAt,
    ...standsOn(ground),
    ...(packages ? { packages } : {}),
    ...(steps ? { steps } : {}),
  }
}
