// What builds are compared with: the same root file system unpacked into a plain directory, and scripts run there in a
// chroot with the usual mounts.
import { lstatSync, mkdirSync, readdirSync, type Stats, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Lab } from './lab.ts'

const unpackScript = `set -eu
mount -o "ro,noload,loop,offset=$2,sizelimit=$3" "$1" /mnt
cp -a /mnt/. "$4"`

// The same namespaces, mounts and variables that a layer gets, in as few steps as sh needs for them.
export const chrootScript = `set -eu
root=$1
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$2" "$root/mnt"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \\
  DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 chroot "$root" sh -c 'cd /mnt && exec ./build-layer'`

export const namespaces = [
  '--mount',
  '--pid',
  '--ipc',
  '--uts',
  '--fork',
  '--kill-child',
  '--propagation',
  'private',
  '--',
]

/** Where the root file system lies on the disk, in bytes. */
export interface Partition {
  start: number
  size: number
}

export class PlainRoot {
  readonly #lab: Lab
  readonly #pristine: string
  readonly root: string
  #marked = new Map<string, string>()

  /** Unpacks the root file system of an image chain. */
  constructor(lab: Lab, image: string, partition: Partition) {
    this.#lab = lab
    this.#pristine = lab.path('pristine')
    this.root = lab.path('plain')
    const raw = lab.path('plain.raw')
    mkdirSync(this.#pristine)
    lab.run('qemu-img', ['convert', '-O', 'raw', image, raw])
    const unpack = ['sh', '-c', unpackScript, 'sh', raw, String(partition.start), String(partition.size)]
    lab.run('unshare', [...namespaces, ...unpack, this.#pristine])
    lab.run('rm', [raw])
    writeFileSync(join(this.#pristine, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 })
    this.reset()
  }

  /** As it was unpacked. */
  reset(): void {
    this.#lab.run('rm', ['-rf', '--one-file-system', this.root])
    this.#lab.run('cp', ['-a', this.#pristine, this.root])
    this.mark()
  }

  /** Seconds that a layer's script takes here; `source` is the layer's folder. */
  runScript(source: string): number {
    return this.#lab.run('unshare', [...namespaces, 'sh', '-c', chrootScript, 'sh', this.root, source]).seconds
  }

  /** Counts changes from here on. */
  mark(): void {
    this.#marked = new Map()
    for (const [path, stat] of this.#files()) this.#marked.set(path, identity(stat))
  }

  /** Bytes that all files take which scripts have made or changed since the last mark, in blocks of 4 KiB. */
  changedBytes(): number {
    const changed = new Map<number, number>()
    for (const [path, stat] of this.#files())
      if (this.#marked.get(path) !== identity(stat)) changed.set(stat.ino, 4096 * Math.ceil(stat.size / 4096))
    return [...changed.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  *#files(folder = ''): Generator<[path: string, stat: Stats]> {
    for (const entry of readdirSync(join(this.root, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) yield* this.#files(path)
      else if (entry.isFile()) yield [path, lstatSync(join(this.root, path))]
    }
  }
}

const identity = (stat: Stats): string => `${stat.ino} ${stat.size} ${stat.mtimeMs}`
