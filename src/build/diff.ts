// `git vlb diff`: what differs between the files of two disks. Both are shown by one run of the sandbox, on throw-away
// overlays; which files have to be read is decided here.
import { isUtf8 } from 'node:buffer'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { mergeRanges, parseExtents, type Range, rangesAbove, touches } from '../core/extents.ts'
import {
  compareTrees,
  differences,
  type FileChange,
  type FilePatch,
  renameCandidates,
  sameSizePaths,
} from '../core/file-diff.ts'
import type { Entry } from '../core/file-tree.ts'
import { hunkLines, isBinary } from '../core/patch.ts'
import { ToolError } from '../host/run.ts'
import { Comparer, type Listing, readLimit, sides, type Two } from '../image/compare.ts'
import { createOverlay, mapImage } from '../image/qcow2.ts'
import { overlayName } from '../store/places.ts'
import type { BuildContext } from './context.ts'
import { prepareMounts } from './mounts.ts'
import type { Side } from './operands.ts'
import { type Unchanged, unchangedInodes } from './unchanged.ts'

export interface TreeDiffOptions {
  /** Only what is at and below this path of the image. Bytes as latin1. */
  path?: string
  /** Digests of all files that differ, not only of those that have to be compared. */
  digests?: boolean
  /** What to compare line by line: nothing, all that changed, or that if `path` is a single file. */
  patches?: 'none' | 'all' | 'single'
}

export interface TreeDiff {
  changes: FileChange[]
  /** Whether the path that was asked for is no folder. */
  single: boolean
  /** By path of the change. */
  patches: Map<string, FilePatch>
}

/** All differences between the files of two disks. Throws VLB_PATH_UNKNOWN if neither has the path that is asked for. */
export async function diffTrees(
  context: BuildContext,
  a: Side,
  b: Side,
  options: TreeDiffOptions = {},
): Promise<TreeDiff> {
  const both = { a, b }
  if (a.disks[0] !== undefined && a.disks[0] === b.disks[0]) return { changes: [], single: false, patches: new Map() }
  const work = await context.store.scratch.folder()
  const [comparer, written] = await together(open(context, work, both), writtenSince(context, a, b))
  try {
    const path = plainPath(options.path ?? '')
    const later = written !== undefined && !apart(both) && sides.every((side) => has(both[side], inodesTell))
    const listings = await comparer.list(path, later ? 'later' : 'all')
    if (path !== '' && listings.a.tree.size + listings.b.tree.size === 0) {
      throw new VlbError('VLB_PATH_UNKNOWN', `there is no /${shownBytes(path)} on either side`, {
        hint: 'a path of the image, from its root; without one, all files are compared',
      })
    }
    const diff = new Diff(comparer, listings, both)
    const same = await diff.unwritten(written, later)
    await diff.digest(same, options.digests ?? false)
    const single = sides.every((side) => listings[side].tree.get('')?.type !== 'directory')
    const { patches = 'none' } = options
    const readMore = patches === 'all' || (patches === 'single' && single)
    // Clearing up takes the kernel a moment, which is not to be waited for.
    if (!readMore) void comparer.close()
    const changes = compareTrees({ a: listings.a.tree, b: listings.b.tree, same, prefix: path && `/${path}` })
    return { changes, single, patches: await diff.patches(readMore ? changes : [], path && `/${path}`) }
  } finally {
    await comparer.close()
  }
}

async function open(context: BuildContext, work: string, both: Two<Side>): Promise<Comparer> {
  await mkdir(join(work, 'ns'))
  const prepare = async (side: 'a' | 'b') => {
    const folder = join(work, side)
    await mkdir(folder)
    const { file, format, layout } = both[side]
    await createOverlay(folder, overlayName, { reference: file, format }, undefined, context.signal)
    return (await prepareMounts(folder, layout)).root
  }
  const [a, b] = await Promise.all([prepare('a'), prepare('b')])
  return await Comparer.open(work, { a, b }, apart(both), context)
}

/** Two btrfs of one UUID cannot be mounted side by side but by the newest kernels. */
function apart(both: Two<Side>): boolean {
  return sides.some((side) => has(both[side], /^btrfs$/))
}

function has({ layout }: Side, kinds: RegExp): boolean {
  return layout.partitions.some(({ fs }) => kinds.test(fs ?? ''))
}

/** Waits for both, even if one fails: nothing may run on behind an error. */
async function together(opening: Promise<Comparer>, written: Promise<Range[] | undefined>) {
  const [one, other] = await Promise.allSettled([opening, written])
  if (other.status === 'rejected' && one.status === 'fulfilled') await one.value.close()
  return await Promise.all([opening, written])
}

/** Where the two differ at most, if they are of one chain: what was written above the last disk that both stand on. */
async function writtenSince(context: BuildContext, a: Side, b: Side): Promise<Range[] | undefined> {
  const depthA = a.disks.findIndex((disk) => b.disks.includes(disk))
  const shared = a.disks[depthA]
  if (shared === undefined) return undefined
  const above = async (file: string, depth: number) =>
    depth === 0 ? [] : rangesAbove(await mapImage(file, context.signal), depth)
  try {
    const [inA, inB] = await Promise.all([above(a.file, depthA), above(b.file, b.disks.indexOf(shared))])
    return mergeRanges([...inA, ...inB])
  } catch (error) {
    // Without a map all is read: a disk in too many pieces has one that is too long.
    if (error instanceof ToolError) return undefined
    throw error
  }
}

/** Without dots and doubled slashes, and without one at either end. */
function plainPath(path: string): string {
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  if (!parts.includes('..') && !path.includes('\0')) return parts.join('/')
  throw new VlbError('VLB_USAGE', `${shownBytes(path)} is no path from the root of an image`, {
    hint: 'write it without ".."',
  })
}

function shownBytes(path: string): string {
  return Buffer.from(path, 'latin1')
    .toString('utf8')
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
}

/** File systems whose extents say where on the disk the bytes lie. */
const extentsTell = /^(ext[234]|xfs)$/
/** Those whose inodes can be read (core/ext.ts). */
const inodesTell = /^ext[234]$/

// What would pass for the end of a line.
const control = /[\x00-\x1f\x7f]/

/** Two listings on the way to be compared. */
class Diff {
  readonly #comparer: Comparer
  readonly #listings: Two<Listing>
  readonly #sides: Two<Side>

  constructor(comparer: Comparer, listings: Two<Listing>, both: Two<Side>) {
    this.#comparer = comparer
    this.#listings = listings
    this.#sides = both
  }

  /** What the runner calls a file. */
  #name(side: 'a' | 'b', path: string): string {
    const { at } = this.#listings[side]
    return path === '' ? at : `${at}/${path}`
  }

  #entry(side: 'a' | 'b', path: string): Entry {
    const entry = this.#listings[side].tree.get(path)
    if (!entry) throw new Error(`${path} was not listed`)
    return entry
  }

  /** By st_dev: where the file systems of these kinds start on the disk. */
  #starts(kinds: RegExp): Two<Map<number, number>> {
    const on = (side: 'a' | 'b') => {
      const { partitions } = this.#sides[side].layout
      const ofKind = (start: number) => kinds.test(partitions.find((one) => one.start === start)?.fs ?? '')
      return new Map([...this.#listings[side].starts].filter(([, start]) => ofKind(start)))
    }
    return { a: on('a'), b: on('b') }
  }

  /**
   * Files of equal size whose content lies at the same places on both disks, none of which was written to since the two
   * parted. This reads no file. `attributes`: they are not known yet, and are asked for.
   */
  async unwritten(written: Range[] | undefined, attributes: boolean): Promise<Set<string>> {
    const { a, b } = this.#listings
    const kept = written !== undefined && a.kept && b.kept ? written : undefined
    const known: Unchanged =
      attributes && kept
        ? await unchangedInodes(this.#comparer, this.#listings, this.#starts(inodesTell), kept)
        : { attributes: new Set(), content: new Set() }
    if (attributes) {
      const asked = (side: 'a' | 'b') =>
        [...this.#listings[side].tree.keys()].filter((path) => !known.attributes.has(path))
      await this.#comparer.attributes(this.#listings, this.#names({ a: asked('a'), b: asked('b') }))
    }
    if (!kept) return known.content
    const open = sameSizePaths(a.tree, b.tree).filter((path) => !known.content.has(path))
    for (const path of await this.#byExtents(open, kept)) known.content.add(path)
    return known.content
  }

  async #byExtents(paths: readonly string[], written: Range[]): Promise<string[]> {
    const starts = this.#starts(extentsTell)
    const start = (path: string) => {
      const on = starts.a.get(this.#entry('a', path).dev)
      return on === starts.b.get(this.#entry('b', path).dev) ? on : undefined
    }
    const plain = (path: string) => sides.every((side) => !control.test(this.#name(side, path)))
    const asked = paths.filter((path) => start(path) !== undefined && plain(path))
    if (asked.length === 0) return []
    const names = this.#names({ a: asked, b: asked })
    const extents = await this.#comparer.extents(names)
    return asked.filter((path, i) => {
      const line = extents.a.get(names.a[i] ?? '')
      const [from, ranges] = [start(path), line === undefined ? undefined : parseExtents(line)]
      if (from === undefined || !ranges || line !== extents.b.get(names.b[i] ?? '')) return false
      return !ranges.some((range) => touches(written, { start: from + range.start, end: from + range.end }))
    })
  }

  #names(paths: Two<string[]>): Two<string[]> {
    return {
      a: paths.a.map((path) => this.#name('a', path)),
      b: paths.b.map((path) => this.#name('b', path)),
    }
  }

  /** Asks for the digests without which the two cannot be compared, or of `all` that differ. Each file is read once. */
  async digest(same: ReadonlySet<string>, all: boolean): Promise<void> {
    const { a, b } = this.#listings
    const common = sameSizePaths(a.tree, b.tree).filter((path) => !same.has(path))
    const moved = all ? this.#differing(same) : renameCandidates(a.tree, b.tree)
    const names: Two<string[]> = { a: [], b: [] }
    const waiting: Two<Map<string, Entry[]>> = { a: new Map(), b: new Map() }
    for (const side of sides) {
      const byFile = new Map<string, Entry[]>()
      for (const path of new Set([...common, ...moved[side]])) {
        const entry = this.#entry(side, path)
        if (entry.sha256 !== undefined) continue
        const others = byFile.get(entry.id)
        if (others) others.push(entry)
        else {
          const list = [entry]
          byFile.set(entry.id, list)
          waiting[side].set(this.#name(side, path), list)
          names[side].push(this.#name(side, path))
        }
      }
    }
    if (names.a.length + names.b.length === 0) return
    const digests = await this.#comparer.digests(names)
    for (const side of sides)
      for (const [name, entries] of waiting[side])
        for (const entry of entries) entry.sha256 = digests[side].get(name) ?? ''
  }

  /** Regular files of which something differs but, perhaps, their content. */
  #differing(same: ReadonlySet<string>): Two<string[]> {
    const one = (tree: Listing['tree'], other: Listing['tree']) =>
      [...tree]
        .filter(([path, entry]) => {
          const there = other.get(path)
          return entry.type === 'file' && (!there || differences(entry, there, same.has(path)).length > 0)
        })
        .map(([path]) => path)
    return {
      a: one(this.#listings.a.tree, this.#listings.b.tree),
      b: one(this.#listings.b.tree, this.#listings.a.tree),
    }
  }

  /** Line by line, those of the changes whose content differs. */
  async patches(changes: readonly FileChange[], prefix: string): Promise<Map<string, FilePatch>> {
    const patches = new Map<string, FilePatch>()
    const below = (path: string) => (path === prefix ? '' : path.slice(prefix.length + 1))
    const read = async (side: 'a' | 'b', path: string, there: boolean) =>
      there ? await this.#comparer.read(side, this.#name(side, below(path))) : Buffer.alloc(0)
    for (const change of changes) {
      const { path, from, before, after } = change
      const [old, now] = [before?.type === 'file', after?.type === 'file']
      const changed = change.change === 'changed' ? change.what.includes('content') || old !== now : !from
      if (!changed || (!old && !now)) continue
      const [one, other] = [await read('a', from ?? path, old), await read('b', path, now)]
      patches.set(path, await patchOf(one, other))
    }
    return patches
  }
}

async function patchOf(a: Buffer, b: Buffer): Promise<FilePatch> {
  if (isBinary(a) || isBinary(b)) return { kind: 'binary' }
  if (a.length > readLimit || b.length > readLimit) return { kind: 'large' }
  // Of what is no UTF-8 every byte is a character: else different bytes would look the same.
  const encoding = isUtf8(a) && isUtf8(b) ? 'utf8' : 'latin1'
  const lines = await hunkLines(a.toString(encoding), b.toString(encoding), 5000)
  return lines ? { kind: 'text', lines } : { kind: 'large' }
}
