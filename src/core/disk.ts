// A disk's layout: its partitions and which of them is the root. Read by the privileged runner with sfdisk and blkid,
// which print it as lines; this file understands those lines and decides.
import { printable, VlbError } from './errors.ts'
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
  /** It holds what a root file system holds: /etc and programs. */
  looksLikeRoot: boolean
}

export interface DiskLayout {
  table: 'gpt' | 'dos' | 'none'
  /** Virtual size in bytes. */
  size: number
  partitions: Partition[]
  /** Number of the root partition; 0: the file system fills the disk, there is no table. */
  root: number
}

/** File systems that layers can be built on. */
export const rootFileSystems: readonly string[] = ['ext2', 'ext3', 'ext4', 'xfs', 'btrfs']

/**
 * Reads the runner's `probe` lines: `table KIND`, then per partition `partition NUMBER START SIZE`, blkid's
 * `TYPE=`, `LABEL=`, `UUID=` and `looks-like-root`.
 */
export function parseProbe(lines: readonly string[], size: number): Omit<DiskLayout, 'root'> {
  const layout: Omit<DiskLayout, 'root'> = { table: 'none', size, partitions: [] }
  for (const line of lines) {
    const current = layout.partitions.at(-1)
    const table = /^table (gpt|dos|none)$/.exec(line)
    const partition = /^partition (\d+) (\d+) (\d+)$/.exec(line)
    const field = /^(TYPE|LABEL|UUID)=(.*)$/.exec(line)
    if (table) layout.table = table[1] as DiskLayout['table']
    else if (partition) {
      const [number = 0, start = 0, bytes = 0] = partition.slice(1).map(Number)
      layout.partitions.push({ number, start, size: bytes, looksLikeRoot: false })
    } else if (current && line === 'looks-like-root') current.looksLikeRoot = true
    else if (current && field)
      current[({ TYPE: 'fs', LABEL: 'label', UUID: 'uuid' } as const)[field[1] as 'TYPE']] = field[2] ?? ''
  }
  return layout
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
    throw new VlbError('VLB_DISK', `${disk}: ${what}; found ${describe(found.partitions)}`, {
      hint: wanted === undefined ? 'name it in vlb.yaml: disk: { root: NUMBER }' : 'correct disk.root in vlb.yaml',
    })
  }
  if (second) {
    throw new VlbError(
      'VLB_DISK',
      `${disk}: ${candidates.length} partitions could be the root: ${describe(candidates)}`,
      {
        hint: `say which in vlb.yaml: disk: { root: ${root.number} }`,
      },
    )
  }
  if (!rootFileSystems.includes(root.fs ?? '')) {
    throw new VlbError('VLB_DISK', `${disk}: the root ${describe([root])} is none of ${rootFileSystems.join(', ')}`, {
      hint: 'git vlb can build on these file systems only',
    })
  }
  return { ...found, root: root.number }
}

function matches(partition: Partition, wanted: string): boolean {
  if (wanted.startsWith('LABEL=')) return partition.label === wanted.slice(6)
  if (wanted.startsWith('UUID=')) return partition.uuid === wanted.slice(5)
  return partition.number === Number(wanted)
}

function describe(partitions: readonly Partition[]): string {
  return partitions
    .map(
      (p) =>
        `${p.number === 0 ? 'whole disk' : `partition ${p.number}`} (${printable(p.fs ?? 'no file system')}${p.label ? `, LABEL=${printable(p.label)}` : ''})`,
    )
    .join(', ')
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
