// What is mounted besides the root while a layer's script runs: the partitions that the image's own fstab names, and what
// the script asks for by directives.
import type { Directives } from './directives.ts'
import { type DiskLayout, describePartition, type Partition, rootFileSystems } from './disk.ts'
import { printable, VlbError } from './errors.ts'
import { type FstabEntry, type FstabSource, fstabLimit, parseFstab, parseSource } from './fstab.ts'

export interface Mount {
  /**
   * fstab; optional: passed over, with a word in the log, if this kernel cannot mount it; directive: what the
   * script asked for, whose mount point goes again; bind: `source` of the layer's folder.
   */
  kind: 'fstab' | 'optional' | 'directive' | 'bind'
  /** Bytes. */
  start: number
  size: number
  fs: string
  /** For mount(8), none of which can do harm. */
  options: string[]
  target: string
  /** For messages: what is mounted, and who says so. */
  what: string
  /** Of a bind mount. */
  source: string
}

export interface MountPlan {
  /** Parents before children. */
  mounts: Mount[]
  /** Lines for the log: what is not mounted, and why. */
  notes: string[]
}

/** File systems that may be mounted besides the root, where the kernel knows them. */
const knownFileSystems: readonly string[] = [...rootFileSystems, 'vfat', 'exfat', 'f2fs', 'squashfs', 'erofs']

/** Places that the sandbox fills itself. */
const ownPlaces: readonly string[] = ['/dev', '/proc', '/sys', '/run', '/tmp', '/mnt']
/** Those of them where nothing may be put. */
const forbiddenPlaces: readonly string[] = ['/dev', '/proc', '/sys']

const mostMounts = 100

/** `script` is what messages about directives name. */
export function planMounts(layout: DiskLayout, asked: Pick<Directives, 'mounts' | 'binds'>, script: string): MountPlan {
  const notes: string[] = []
  const byTarget = new Map<string, Mount>()
  for (const { source, target, line } of asked.mounts) {
    const where = `${script}:${line}`
    byTarget.set(
      allowed(target, where),
      partitionMount(requested(layout, source, where), 'directive', [], target, where),
    )
  }
  for (const { source, target, line } of asked.binds) {
    const where = `${script}:${line}`
    const what = `${where}: ${source}`
    byTarget.set(allowed(target, where), {
      ...{ kind: 'bind', start: 0, size: 0, fs: 'none', options: [], target, what, source },
    })
  }
  for (const entry of fstabOf(layout)) {
    if (entry.target === '/' || byTarget.has(entry.target)) continue
    const mount = fstabMount(layout, entry)
    if (typeof mount === 'string') notes.push(`not mounted at ${printable(entry.target)}: ${mount}`)
    else byTarget.set(entry.target, mount)
    if (byTarget.size <= mostMounts) continue
    throw new VlbError('VLB_DISK', `the image's /etc/fstab mounts more than ${mostMounts} partitions`, {
      hint: 'correct it in the base, or in the layer that wrote it',
    })
  }
  return { mounts: [...byTarget.values()].sort(byPath), notes }
}

/** A path is the beginning of all paths below it. */
function byPath(a: Mount, b: Mount): number {
  return a.target < b.target ? -1 : Number(a.target > b.target)
}

function fstabOf(layout: DiskLayout): FstabEntry[] {
  const text = layout.fstab ?? ''
  if (text.length > fstabLimit) {
    throw new VlbError('VLB_DISK', `the image's /etc/fstab is longer than ${fstabLimit} bytes`, {
      hint: 'correct it in the base, or in the layer that wrote it',
    })
  }
  return parseFstab(text)
}

/** The mount that a line of the fstab asks for, or why there is none. */
function fstabMount(layout: DiskLayout, entry: FstabEntry): Mount | string {
  const where = `/etc/fstab:${entry.line}`
  const optional = entry.options.includes('nofail') || entry.options.includes('noauto')
  const [partition, second] = findPartitions(layout, entry.source)
  if (isBelow(entry.target, ownPlaces)) return `${where}, git vlb has something of its own there`
  if (!partition) return `${where}, ${printable(entry.text)} is not on this disk`
  if (second) {
    if (optional) return `${where}, ${printable(entry.text)} is both partition ${partition.number} and ${second.number}`
    throw new VlbError(
      'VLB_DISK',
      `the image's ${where} names ${printable(entry.text)}, which is both partition ${partition.number} and ${second.number}`,
      { hint: 'give them different labels and UUIDs in the base' },
    )
  }
  if (!knownFileSystems.includes(partition.fs ?? '')) {
    const what = `${describePartition(partition)} cannot be mounted`
    if (optional) return `${where}, ${what}`
    throw new VlbError(
      'VLB_DISK',
      `the image's ${where} mounts at ${printable(entry.target)} what git vlb cannot: ${what}`,
      {
        hint: `known file systems: ${knownFileSystems.join(', ')}; or add nofail to that line`,
      },
    )
  }
  return partitionMount(
    partition,
    optional ? 'optional' : 'fstab',
    safeOptions(partition, entry.options),
    entry.target,
    where,
  )
}

/** The partition a directive names. */
function requested(layout: DiskLayout, name: string, where: string): Partition {
  const number = /^p?(\d{1,3})$/.exec(name)?.[1]
  const source: FstabSource | undefined =
    number === undefined ? parseSource(name) : { by: 'number', value: Number(number) }
  const found = source ? findPartitions(layout, source) : []
  const [partition, second] = found
  const all = layout.partitions.map(describePartition).join(', ')
  if (!partition || second) {
    const how = partition ? `${found.length} partitions are` : 'no partition is'
    throw new VlbError('VLB_DIRECTIVE', `${where}: ${how} ${printable(name)}`, { hint: `the disk has ${all}` })
  }
  if (!knownFileSystems.includes(partition.fs ?? '')) {
    throw new VlbError('VLB_DIRECTIVE', `${where}: ${describePartition(partition)} cannot be mounted`, {
      hint: `known file systems: ${knownFileSystems.join(', ')}`,
    })
  }
  return partition
}

function allowed(target: string, where: string): string {
  if (target !== '/' && !isBelow(target, forbiddenPlaces)) return target
  throw new VlbError('VLB_DIRECTIVE', `${where}: nothing can be mounted at ${printable(target)}`, {
    hint: 'choose another folder of the image',
  })
}

function isBelow(path: string, places: readonly string[]): boolean {
  return places.some((place) => path === place || path.startsWith(`${place}/`))
}

function partitionMount(
  partition: Partition,
  kind: Mount['kind'],
  options: string[],
  target: string,
  where: string,
): Mount {
  const { start, size, fs = '' } = partition
  return { kind, start, size, fs, options, target, what: `${where}: ${describePartition(partition)}`, source: '' }
}

/** All that a source can mean: labels and UUIDs need not be unique. */
export function findPartitions(layout: Pick<DiskLayout, 'partitions'>, source: FstabSource): Partition[] {
  const { by, value } = source
  const same = (own: string | undefined) => own?.toLowerCase() === String(value).toLowerCase()
  return layout.partitions.filter((p) => {
    if (by === 'number') return p.number === value
    if (by === 'uuid' || by === 'partuuid') return same(p[by])
    return p[by] === value
  })
}

// What decides which files are seen, or how they are written. The rest is for the machine that boots, or would let the
// image's author choose what our kernel does.
const kept: Record<string, RegExp> = {
  all: /^ro$/,
  btrfs: /^(subvol=[^,\p{Cc}]{1,255}|subvolid=\d{1,19}|compress(-force)?(=(zlib|lzo|zstd)(:\d{1,2})?)?|nodatacow)$/u,
  vfat: /^((umask|fmask|dmask)=[0-7]{1,4}|(uid|gid)=\d{1,10}|shortname=(lower|win95|winnt|mixed))$/,
}

function safeOptions({ fs = '' }: Partition, options: readonly string[]): string[] {
  return options.filter((option) => kept['all']?.test(option) || (Object.hasOwn(kept, fs) && kept[fs]?.test(option)))
}

/** What the runner reads: a line per mount, eight fields with tabs between, `-` for an empty one. */
export function mountLines(mounts: readonly Mount[]): string {
  return mounts
    .map((m) =>
      [
        m.kind,
        m.start,
        m.size,
        m.fs,
        m.options.join(',') || '-',
        printable(m.what, 200),
        m.source || '-',
        m.target,
      ].join('\t'),
    )
    .map((line) => `${line}\n`)
    .join('')
}
