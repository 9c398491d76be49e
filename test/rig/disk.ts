// Disks of several partitions: each with its own file system and files, on a GPT or an MBR.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeFileSystem, makeRoot } from './tiny-disk.ts'

export interface Part {
  /** fat: a FAT16 as an ESP has one; blank: no file system. */
  fs: 'ext4' | 'xfs' | 'btrfs' | 'fat' | 'swap' | 'blank' | 'extended'
  mebibytes: number
  /** Default: its place in the list. */
  number?: number
  /** Of the file system. */
  label?: string
  /** Of the GPT. */
  name?: string
  /** Starts as the tiny root. */
  root?: boolean
  /** Puts files into it. */
  fill?: (folder: string) => void
  /** btrfs: folders at its top that become subvolumes. */
  subvolumes?: string[]
  /** btrfs: which of them is the default one. */
  defaultSubvolume?: string
}

const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` }

/** Writes a raw disk to `path` and returns `path`. */
export function disk(path: string, table: 'gpt' | 'dos', parts: Part[]): string {
  const work = mkdtempSync(join(tmpdir(), 'vlb-disk-'))
  try {
    const lines: string[] = []
    let at = 1
    for (const [i, part] of parts.entries()) {
      const { number = i + 1, fs, name, mebibytes } = part
      const type = fs === 'extended' ? ', type=5' : ''
      lines.push(`${number}: start=${at}MiB, size=${mebibytes}MiB${type}${name ? `, name="${name}"` : ''}`)
      // What is inside an extended partition starts behind its first MiB.
      at += fs === 'extended' ? 1 : mebibytes + (number > 4 && table === 'dos' ? 1 : 0)
    }
    execFileSync('truncate', ['-s', `${at + 1}M`, path])
    execFileSync('sfdisk', ['--quiet', path], { input: `label: ${table}\n${lines.join('\n')}\n`, env })
    for (const [i, part] of parts.entries()) {
      if (part.fs === 'blank' || part.fs === 'extended') continue
      const image = join(work, `part${i}`)
      makePart(part, join(work, `files${i}`), image)
      const start = /start=(\d+)/.exec(lines[i] ?? '')?.[1] ?? ''
      execFileSync('dd', [`if=${image}`, `of=${path}`, 'bs=1M', `seek=${start}`, 'conv=notrunc,sparse', 'status=none'])
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return path
}

function makePart(part: Part, folder: string, image: string): void {
  mkdirSync(folder)
  if (part.root) makeRoot(folder)
  part.fill?.(folder)
  if (part.fs === 'fat') writeFileSync(image, fat16(part.mebibytes))
  else if (part.fs === 'swap') {
    execFileSync('truncate', ['-s', `${part.mebibytes}M`, image])
    execFileSync('mkswap', ['--quiet', image], { env })
  } else if (part.subvolumes) makeSubvolumes(part, folder, image)
  else makeFileSystem(part.fs as 'ext4', folder, image, part.mebibytes)
  if (part.label === undefined) return
  if (part.fs === 'ext4') execFileSync('e2label', [image, part.label], { env })
  if (part.fs === 'xfs') execFileSync('xfs_admin', ['-L', part.label, image], { env, stdio: 'ignore' })
  if (part.fs === 'btrfs') execFileSync('btrfs', ['filesystem', 'label', image, part.label], { env })
}

function makeSubvolumes({ subvolumes = [], defaultSubvolume, mebibytes }: Part, folder: string, image: string): void {
  execFileSync('truncate', ['-s', `${mebibytes}M`, image])
  execFileSync('mkfs.btrfs', ['-q', image], { env })
  const make = `mkdir "$2.m"; mount -o loop "$2" "$2.m"
for name in ${subvolumes.join(' ')}; do btrfs -q subvolume create "$2.m/$name"; done
cp -a "$1/." "$2.m/"
${defaultSubvolume ? `btrfs subvolume set-default "$2.m/${defaultSubvolume}"` : ''}
umount "$2.m"; rmdir "$2.m"`
  execFileSync('unshare', ['--mount', 'sh', '-ec', make, 'sh', folder, image], { env })
}

/** An empty FAT16: a boot sector, two tables and no files. Enough for blkid, and for a kernel that knows FAT. */
function fat16(mebibytes: number): Buffer {
  const image = Buffer.alloc(mebibytes * 2 ** 20)
  const sectors = mebibytes * 2048
  const perTable = Math.ceil(((sectors / 4) * 2) / 512)
  image.write('\xeb\x3c\x90mkfs.fat', 0, 'latin1')
  image.writeUInt16LE(512, 11)
  image.writeUInt8(4, 13)
  image.writeUInt16LE(1, 14)
  image.writeUInt8(2, 16)
  image.writeUInt16LE(512, 17)
  image.writeUInt16LE(sectors < 65_536 ? sectors : 0, 19)
  image.writeUInt8(0xf8, 21)
  image.writeUInt16LE(perTable, 22)
  image.writeUInt32LE(sectors < 65_536 ? 0 : sectors, 32)
  image.write('\x80\x00\x29\x2d\x1b\x5c\x7aNO NAME    FAT16   ', 36, 'latin1')
  image.writeUInt16LE(0xaa55, 510)
  for (const table of [512, 512 + perTable * 512]) image.writeUInt32LE(0xfffffff8, table)
  return image
}
