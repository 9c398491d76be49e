// All that a guest would find in the ext4 root of an image, without mounting it.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Rig } from './rig.ts'

/** Types, modes, owners, link targets and digests of all files, one a line: two images with one text hold the same. */
export function contents(rig: Rig, image: string): string {
  const [raw, folder] = [join(rig.folder, 'contents.raw'), join(rig.folder, 'contents')]
  rig.tool('qemu-img', 'convert', '-O', 'raw', image, raw)
  mkdirSync(folder)
  try {
    rig.tool('e2fsck', '-f', '-n', `${raw}?offset=${2 ** 20}`)
    rig.tool('debugfs', '-R', `rdump / ${folder}`, `${raw}?offset=${2 ** 20}`)
    const list = "find . -printf '%y %m %U:%G %p %l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum"
    return rig.tool('sh', '-c', `cd "$1" && ${list}`, 'sh', folder)
  } finally {
    rmSync(raw)
    rmSync(folder, { recursive: true })
  }
}
