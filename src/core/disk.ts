// A disk's layout: its partitions and which of them is the root. Read by the privileged runner with sfdisk and blkid,
// which print it as lines; this file understands those lines and decides.
import { printable, VlbError } from './errors.ts'
import { parseFstab } from './fstab.ts'
import { formatBytes } from './units.ts'

/** Offsets and sizes in bytes. */
export interface Partition {
  number: number
  start: number
  size: number
  /** As blkid names it: ext4, xfs, btrfs, vfat, swap…; undefined if it finds none. */
  fs?: string
  label?: string
  uuid?: string
  partuuid?: string
  partlabel?: string
  /** The text of its /etc/fstab. */
  fstab?: string
  /** btrfs: subvolumes that hold a root file system, where the default one holds none. */
  subvolumes?: Subvolume[]
  /** It holds what a root file system holds: /etc and programs. */
  looksLikeRoot: boolean
  /** Its file system is of a kind that could be mounted, and was not. */
  unmountable?: true
}

export interface Subvolume {
  /** Below the top of the file system, without a slash before it. */
  path: string
  fstab?: string
}

export interface DiskLayout {
  table: 'gpt' | 'dos' | 'none'
  /** Virtual size in bytes. */
  size: number
  partitions: Partition[]
  /** Number of the root partition; 0: the file system fills the disk, there is no table. */
  root: number
  /** btrfs: the subvolume that is the root, where it is not the default one. */
  subvolume?: string
  /** The root's /etc/fstab: what is mounted besides. Of one longer than `fstabLimit`, the beginning. */
  fstab?: string
}

/** File systems that layers can be built on. */
export const rootFileSystems: readonly string[] = ['ext2', 'ext3', 'ext4', 'xfs', 'btrfs']

/**
 * Reads the runner's `probe` lines: `table KIND`, then per partition `partition NUMBER START SIZE`, blkid's `TYPE=`,
 * `LABEL=` and `UUID=`, sfdisk's `PARTUUID=` and `PARTLABEL=`, `looks-like-root`, `unmountable`, `fstab BASE64`, and per subvolume
 * `subvolume BASE64` with its `fstab`.
 */
export function parseProbe(lines: readonly string[], size: number): Omit<DiskLayout, 'root'> {
  const layout: Omit<DiskLayout, 'root'> = { table: 'none', size, partitions: [] }
  for (const line of lines) {
    const current = layout.partitions.at(-1)
    const table = /^table (gpt|dos|none)$/.exec(line)
    const partition = /^partition (\d+) (\d+) (\d+)$/.exec(line)
    const grown = /^size (\d+)$/.exec(line)
    if (table) layout.table = table[1] as DiskLayout['table']
    else if (grown) layout.size = Number(grown[1])
    else if (partition) {
      const [number = 0, start = 0, bytes = 0] = partition.slice(1).map(Number)
      layout.partitions.push({ number, start, size: bytes, looksLikeRoot: false })
    } else if (current) describe(current, line)
  }
  return layout
}

const fields = { TYPE: 'fs', LABEL: 'label', UUID: 'uuid', PARTUUID: 'partuuid', PARTLABEL: 'partlabel' } as const

function describe(partition: Partition, line: string): void {
  const field = /^(TYPE|LABEL|UUID|PARTUUID|PARTLABEL)=(.*)$/.exec(line)
  const text = /^(subvolume|fstab) ([A-Za-z0-9+/=]*)$/.exec(line)
  if (field) partition[fields[field[1] as keyof typeof fields]] = unescaped(field[2] ?? '')
  else if (line === 'looks-like-root') partition.looksLikeRoot = true
  else if (line === 'unmountable') partition.unmountable = true
  else if (text?.[1] === 'fstab') (partition.subvolumes?.at(-1) ?? partition).fstab = fromBase64(text[2] ?? '')
  else if (text) {
    partition.looksLikeRoot = true
    partition.subvolumes = [...(partition.subvolumes ?? []), { path: fromBase64(text[2] ?? '') }]
  }
}

/** blkid and sfdisk write a backslash before what a shell would not take literally, and bytes as \x and two digits. */
function unescaped(text: string): string {
  return text.replace(/\\(?:x([0-9a-fA-F]{2})|(.))/g, (_, digits: string | undefined, char: string) =>
    digits === undefined ? char : String.fromCharCode(Number.parseInt(digits, 16)),
  )
}

function fromBase64(text: string): string {
  return Buffer.from(text, 'base64').toString('utf8')
}

/** The fstab that the runner read after a layer's script; undefined if there is none. */
export function fstabIn(lines: readonly string[]): string | undefined {
  const line = lines.find((text) => text.startsWith('fstab '))
  return line === undefined ? undefined : fromBase64(line.slice(6))
}

/** The same layout with another fstab. */
export function withFstab(layout: DiskLayout, fstab: string | undefined): DiskLayout {
  const { fstab: _, ...others } = layout
  return fstab === undefined ? others : { ...others, fstab }
}

/** Decides which partition is the root. `wanted` is `disk.root` of vlb.yaml: a number, LABEL=… or UUID=…. */
export function chooseRoot(found: Omit<DiskLayout, 'root'>, wanted: string | undefined, disk: string): DiskLayout {
  if (found.partitions.length === 0) {
    throw new VlbError('VLB_DISK', `${disk}: no partition and no file system found on it`, {
      hint: 'check that it is a disk image: qemu-img info, sfdisk --list',
    })
  }
  const candidates =
    wanted === undefined
      ? found.partitions.filter((p) => p.looksLikeRoot)
      : found.partitions.filter((p) => matches(p, wanted))
  const [root, second] = candidates
  if (!root) {
    const what =
      wanted === undefined
        ? 'no partition holds a root file system (/etc and programs)'
        : `no partition matches root: ${printable(wanted)}`
    throw new VlbError('VLB_DISK', `${disk}: ${what}; found ${describeAll(found.partitions)}`, {
      hint: wanted === undefined ? 'name it in vlb.yaml: disk: { root: NUMBER }' : 'correct disk.root in vlb.yaml',
    })
  }
  if (second) {
    throw new VlbError(
      'VLB_DISK',
      `${disk}: ${candidates.length} partitions could be the root: ${describeAll(candidates)}`,
      {
        hint: `say which in vlb.yaml: disk: { root: ${root.number} }`,
      },
    )
  }
  if (!rootFileSystems.includes(root.fs ?? '')) {
    throw new VlbError(
      'VLB_DISK',
      `${disk}: the root ${describePartition(root)} is none of ${rootFileSystems.join(', ')}`,
      {
        hint: 'git vlb can build on these file systems only',
      },
    )
  }
  return { ...withoutFstabs(found), ...rootOf(root, disk), root: root.number }
}

function matches(partition: Partition, wanted: string): boolean {
  if (wanted.startsWith('LABEL=')) return partition.label === wanted.slice(6)
  if (wanted.startsWith('UUID=')) return partition.uuid === wanted.slice(5)
  return partition.number === Number(wanted)
}

/** Of a btrfs whose default subvolume is no root: the one that calls itself the root in its fstab, or the only one. */
function rootOf(root: Partition, disk: string): Pick<DiskLayout, 'subvolume' | 'fstab'> {
  const { fstab, subvolumes = [] } = root
  const own = fstab === undefined ? {} : { fstab }
  if (subvolumes.length === 0) return own
  const itself = subvolumes.filter((s) => rootSubvolume(s.fstab) === s.path)
  const [chosen, second] = itself.length > 0 ? itself : subvolumes
  if (!chosen || second) {
    const names = (itself.length > 0 ? itself : subvolumes).map((s) => printable(s.path, 100))
    throw new VlbError('VLB_DISK', `${disk}: ${names.length} subvolumes could be the root: ${names.join(', ')}`, {
      hint: 'make it the default one in the base: btrfs subvolume set-default',
    })
  }
  return { subvolume: chosen.path, ...(chosen.fstab === undefined ? {} : { fstab: chosen.fstab }) }
}

/** What an fstab says is the root's subvolume. */
function rootSubvolume(fstab: string | undefined): string | undefined {
  const root = parseFstab(fstab ?? '').find((entry) => entry.target === '/')
  const option = root?.options.find((o) => o.startsWith('subvol='))
  return option?.slice(7).replace(/^\/+/, '')
}

/** Only the root's counts. */
function withoutFstabs(found: Omit<DiskLayout, 'root'>): Omit<DiskLayout, 'root'> {
  return { ...found, partitions: found.partitions.map(({ fstab: _, subvolumes: __, ...partition }) => partition) }
}

function describeAll(partitions: readonly Partition[]): string {
  return partitions.map(describePartition).join(', ')
}

/** In words, for messages. */
export function describePartition(p: Partition): string {
  const label = p.label ? `, LABEL=${printable(p.label)}` : ''
  const state = p.unmountable ? ', which cannot be mounted: damaged, or unknown to this kernel' : ''
  return `${p.number === 0 ? 'whole disk' : `partition ${p.number}`} (${printable(p.fs ?? 'no file system')}${label}${state})`
}

export function rootPartition(layout: DiskLayout): Partition {
  const root = layout.partitions.find((p) => p.number === layout.root)
  if (!root) throw new Error('a disk layout without its root partition')
  return root
}

/** Throws unless the root partition can be grown to fill a disk of `size` bytes. */
export function checkGrowth(layout: DiskLayout, size: number): void {
  if (size < layout.size) {
    throw new VlbError(
      'VLB_DISK_SHRINK',
      `disk.size of ${formatBytes(size)} is less than the ${formatBytes(layout.size)} of the disk: a disk can only grow`,
      {
        hint: `raise disk.size in vlb.yaml to ${Math.ceil(layout.size / 2 ** 20)}M or more, or leave it out`,
      },
    )
  }
  const root = rootPartition(layout)
  const behind = layout.partitions.find((p) => p.start > root.start)
  if (behind) {
    throw new VlbError(
      'VLB_DISK',
      `the root partition ${root.number} cannot grow: partition ${behind.number} lies behind it`,
      {
        hint: 'leave disk.size out, or use a base whose root partition is the last on the disk',
      },
    )
  }
}
