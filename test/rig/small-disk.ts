// A small file system for a test to fill: memory, mounted over a folder of its rig.
import { mkdirSync, statfsSync } from 'node:fs'
import type { Rig } from './rig.ts'

export class SmallDisk {
  readonly #rig: Rig
  readonly path: string

  /** `options` as of tmpfs(5), such as `size=4M`. */
  constructor(rig: Rig, path: string, options: string) {
    this.#rig = rig
    this.path = path
    mkdirSync(path, { recursive: true })
    rig.tool('mount', '-t', 'tmpfs', '-o', `mode=0755,${options}`, 'vlb-test', path)
  }

  /** Makes it larger, or smaller. */
  resize(options: string): void {
    this.#rig.tool('mount', '-o', `remount,${options}`, this.path)
  }

  /** Bytes. */
  free(): number {
    const { bavail, bsize } = statfsSync(this.path)
    return bavail * bsize
  }

  remove(): void {
    this.#rig.tool('umount', this.path)
  }
}

/** Runs `body` with a small disk, which is gone afterwards however that ends. */
export async function withSmallDisk(
  rig: Rig,
  path: string,
  options: string,
  body: (disk: SmallDisk) => Promise<void>,
): Promise<void> {
  const disk = new SmallDisk(rig, path, options)
  try {
    await body(disk)
  } finally {
    await rig.idle()
    disk.remove()
  }
}
