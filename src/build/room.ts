// Whether there is room for what is to be written, found out before it is begun: a disk that fills up in the middle costs
// the time, and takes the space from everybody else.
import { dirname, join } from 'node:path'
import { dataExtents, parseMap } from '../core/disk-map.ts'
import type { Manifest } from '../core/manifest.ts'
import { allocatedBytes } from '../host/files.ts'
import { freeSpace, requireSpace } from '../host/space.ts'
import { mapImage, measureImage } from '../image/qcow2.ts'
import { baseFolder } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import type { ImageTarget } from './flatten.ts'
import { storedBase } from './stored-bases.ts'

/** Compressed, even text hardly takes less than this part of it. */
const leastCompressed = 0.1

/**
 * Throws if the images of the disk `top` cannot fit where they are to lie. `begun`: bytes of them that are there already.
 * What the chain takes is a bound that costs nothing; only where that is too much is qemu-img asked.
 */
export async function requireRoom(
  context: BuildContext,
  top: Snapshot,
  targets: readonly ImageTarget[],
  begun = 0,
): Promise<void> {
  for (const folder of new Set(targets.map(({ path }) => dirname(path)))) {
    const share = targets.filter(({ path }) => dirname(path) === folder).reduce((sum, one) => sum + shareOf(one), 0)
    const free = freeSpace(folder) ?? Number.POSITIVE_INFINITY
    if (share * (await chainBytes(context, top)) - begun <= free) continue
    const need = share * (await measureImage(top.file, context.signal)) - begun
    requireSpace(targets.find(({ path }) => dirname(path) === folder)?.path ?? folder, Math.ceil(need))
  }
}

/** Of the disk's data, how much an image takes. */
function shareOf({ format, compress }: ImageTarget): number {
  // An ova is a vmdk in an archive, and both are there for a moment.
  if (format === 'ova') return 2 * leastCompressed
  return format === 'vmdk' || compress !== 'none' ? leastCompressed : 1
}

/** Bytes that a snapshot and all below it take on the host's disk; what several of them wrote counts several times. */
async function chainBytes(context: BuildContext, top: Snapshot): Promise<number> {
  let bytes = 0
  for (let next: Snapshot | undefined = top; next; ) {
    const { parent, base, bytes: own }: Manifest = next.manifest
    bytes += own
    const record = base === undefined ? undefined : await storedBase(context, base as Parameters<typeof storedBase>[1])
    if (record)
      bytes += await allocatedBytes(context.store.path('bases', baseFolder(record.digest), record.file)).catch(() => 0)
    next = parent === undefined ? undefined : await context.store.get(parent)
  }
  return bytes
}

/** Throws if the disk `top`, without what is below `ground`, does not fit into the store once more. */
export async function requireRoomToMerge(
  context: BuildContext,
  top: Snapshot,
  ground: string | undefined,
): Promise<void> {
  const place = context.store.path('tmp')
  const free = freeSpace(place) ?? Number.POSITIVE_INFINITY
  let [bytes, count] = [0, 0]
  for (let next: Snapshot | undefined = top; next && next.manifest.id !== ground; count++) {
    const { parent, bytes: own }: Manifest = next.manifest
    bytes += own
    next = parent === undefined ? undefined : await context.store.get(parent)
  }
  if (bytes <= free) return
  const map = parseMap(await mapImage(top.file, context.signal)).filter(({ depth }) => depth < count)
  const need = dataExtents(map).reduce((sum, { length }) => sum + length, 0)
  requireSpace(join(context.store.root, 'snapshots'), need)
}
