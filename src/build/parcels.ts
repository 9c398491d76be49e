// What of a chain is sent to a registry: a file of the store each, with what is told besides.
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { LayerKey } from '../core/ids.ts'
import type { BaseRecord } from '../core/manifest.ts'
import { blobOf, type Details, type SharedSnapshot } from '../core/oci.ts'
import { packagesName } from '../core/packages.ts'
import { baseFolder } from '../store/places.ts'
import { baseShipment, isDamaged } from '../store/shared.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'

export interface ChainToShip {
  /** From the bottom up; at least one. */
  snapshots: readonly Snapshot[]
  /** What they stand on. */
  base: BaseRecord | undefined
  shareBase: boolean
  /** Whether what a remote has is of a build that is too old by a layer's ttl; undefined where none has one. */
  isOld: ((offer: SharedSnapshot) => boolean) | undefined
  /** Hears which keys the remote lacks, before anything is sent. */
  onMissing: (keys: ReadonlySet<LayerKey>) => Promise<void>
}

interface Disk {
  path: string
  format: 'qcow2' | 'raw'
}

/** A file that is to go to a registry. */
export interface Parcel {
  /** What its shipments are remembered by. */
  id: string
  nonce: string
  task: string
  path: string
  /** How it is packed where that pays; undefined where it has to arrive as it is. */
  packing: { format: Disk['format']; backing: Disk | undefined } | undefined
  /** Gzipped JSON. */
  details: Buffer | undefined
}

/** One of the store. */
export interface LayerParcel extends Parcel {
  /** The layer it counts for. */
  key: LayerKey
}

/** `place`: the registry's repository that they go to. */
export async function parcelsOf(
  context: BuildContext,
  place: string,
  { snapshots, base, shareBase }: ChainToShip,
): Promise<LayerParcel[]> {
  const { store } = context
  const baseDisk = base && { path: store.path('bases', baseFolder(base.digest), base.file), format: base.imageFormat }
  const parcels: LayerParcel[] = []
  const first = snapshots[0]?.manifest
  if (base && baseDisk && shareBase && first?.base !== undefined) {
    const common = { path: baseDisk.path, packing: basePacking(base), details: undefined, key: first.key }
    parcels.push({ ...baseShipment(base.digest), task: 'pushing the base', ...common })
  }
  for (const [i, { manifest, file, log }] of snapshots.entries()) {
    const below = snapshots[i - 1]
    const onBase = manifest.base === undefined ? undefined : baseDisk
    parcels.push({
      id: manifest.id,
      nonce: manifest.nonce,
      task: `pushing ${manifest.layer}`,
      path: file,
      packing: { format: 'qcow2', backing: below ? { path: below.file, format: 'qcow2' } : onBase },
      details: await packDetails(
        (digest) => isDamaged(store, place, digest),
        log,
        manifest.packages && store.path('snapshots', manifest.id, packagesName),
      ),
      key: manifest.key,
    })
  }
  return parcels
}

/**
 * Whoever gets a base compares its digest with what vlb.yaml says. A raw disk can be had back from a packed one, as long as
 * it is whole sectors; the bytes of a qcow2 cannot.
 */
function basePacking({ imageFormat, fileBytes }: BaseRecord): Parcel['packing'] {
  return imageFormat === 'raw' && fileBytes % 512 === 0 ? { format: 'raw', backing: undefined } : undefined
}

/** The same bytes each time: gzip's header holds no time here. Others, where a registry has those damaged. */
async function packDetails(
  damaged: (digest: string) => Promise<boolean>,
  log: string,
  packages: string | undefined,
): Promise<Buffer> {
  const details: Details = {
    log: await readFile(log, 'utf8').catch(() => ''),
    ...(packages === undefined ? {} : { packages: await readFile(packages, 'utf8') }),
  }
  const levels = [6, 9, 1]
  for (;;) {
    const packed = await promisify(gzip)(JSON.stringify(details), { level: levels.shift() ?? 6 })
    if (levels.length === 0 || !(await damaged(blobOf(packed).digest))) return packed
  }
}
