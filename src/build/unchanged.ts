// Which files of two disks of one chain are the same because their inodes are: for a file system that lays them out in the
// open (core/ext.ts), so that few files have to be asked for their attributes and extents.
import { type ExtLayout, extHead, inodePlace, inodeReader, parseExt } from '../core/ext.ts'
import type { Range } from '../core/extents.ts'
import { inodeOf } from '../core/file-tree.ts'
import type { Comparer, Listing, Place, Two } from '../image/compare.ts'

/** Paths of files of which something is known to be the same on both sides. */
export interface Unchanged {
  /** Of files that are the same in all else, too. */
  attributes: Set<string>
  content: Set<string>
}

/** Bytes of inodes that are read of a side at most, for both are held in memory. */
const most = 64 * 2 ** 20
/** Each place is read by a process of its own. */
const mostPlaces = 64

/** A file system that is on both sides. */
interface Shared {
  layout: ExtLayout
  start: number
  /** By where an inode begins in the file system: the path that names it on both sides. */
  inodes: Map<number, string>
}

/** `starts`: by st_dev, where on each side file systems of this kind start on the disk. */
export async function unchangedInodes(
  comparer: Pick<Comparer, 'bytes'>,
  listings: Two<Listing>,
  starts: Two<ReadonlyMap<number, number>>,
  written: readonly Range[],
): Promise<Unchanged> {
  const same: Unchanged = { attributes: new Set(), content: new Set() }
  const systems = await sharedSystems(comparer, listings, starts)
  const read = systems.map((system) => ({ system, places: placesOf(system) }))
  const places = read.flatMap((one) => one.places)
  if (places.length === 0 || places.reduce((sum, { length }) => sum + length, 0) > most) return same
  const { a, b } = await comparer.bytes({ a: places, b: places })
  if (!a || !b) return same
  let at = 0
  for (const { system, places } of read)
    for (const place of places) {
      const end = at + place.length
      compareInodes(system, place, { a: a.subarray(at, end), b: b.subarray(at, end) }, written, listings, same)
      at = end
    }
  return same
}

async function sharedSystems(
  comparer: Pick<Comparer, 'bytes'>,
  listings: Two<Listing>,
  starts: Two<ReadonlyMap<number, number>>,
): Promise<Shared[]> {
  const onA = new Set(starts.a.values())
  const common = [...new Set(starts.b.values())].filter((start) => onA.has(start))
  const heads = common.map((start) => ({ start, offset: 0, length: extHead }))
  const { a, b } = await comparer.bytes({ a: heads, b: heads })
  if (!a || !b) return []
  const systems = new Map<number, Shared>()
  for (const [i, start] of common.entries()) {
    const head = (of: Buffer) => parseExt(of.subarray(i * extHead, (i + 1) * extHead))
    const [layout, other] = [head(a), head(b)]
    if (layout && JSON.stringify(layout) === JSON.stringify(other))
      systems.set(start, { layout, start, inodes: new Map() })
  }
  for (const [path, before] of listings.a.tree) {
    const after = listings.b.tree.get(path)
    const start = starts.a.get(before.dev)
    const system = start === undefined ? undefined : systems.get(start)
    if (!after || !system || starts.b.get(after.dev) !== start) continue
    const inode = inodeOf(before)
    // Of a file with more names, another name may have changed, and then all is told of it.
    if (inode !== inodeOf(after) || before.links > 1 || after.links > 1) continue
    const place = inodePlace(system.layout, inode)
    if (place !== undefined) system.inodes.set(place, path)
  }
  return [...systems.values()]
}

/** What has to be read for all these inodes, with what lies between near ones. */
function placesOf({ layout, start, inodes }: Shared): Place[] {
  const offsets = [...inodes.keys()].sort((a, b) => a - b)
  for (let gap = 2 ** 16; ; gap *= 2) {
    const places: Place[] = []
    for (const offset of offsets) {
      const last = places.at(-1)
      const end = offset + layout.inodeSize
      if (last && offset - (last.offset + last.length) <= gap) last.length = end - last.offset
      else places.push({ start, offset, length: layout.inodeSize })
    }
    if (places.length <= mostPlaces) return places
  }
}

function compareInodes(
  { layout, start, inodes }: Shared,
  place: Place,
  found: Two<Buffer>,
  written: readonly Range[],
  listings: Two<Listing>,
  same: Unchanged,
): void {
  const { blockSize, inodeSize } = layout
  const { sameAttributes, sameContent } = inodeReader(blockSize, start, written)
  for (let at = 0; at < place.length; at += inodeSize) {
    const path = inodes.get(place.offset + at)
    if (path === undefined || found.a.compare(found.b, at, at + inodeSize, at, at + inodeSize) !== 0) continue
    const content = sameContent(found.a, at)
    if (content) same.content.add(path)
    // Of what changed all is told, its attributes, too.
    const [before, after] = [listings.a.tree.get(path), listings.b.tree.get(path)]
    const changed = before?.type === 'file' ? !content : before?.target !== after?.target
    if (!changed && sameAttributes(found.a, at)) same.attributes.add(path)
  }
}
