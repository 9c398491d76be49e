// What the runner has to know of a disk to mount it: where its root lies, and what goes where besides.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Directives } from '../core/directives.ts'
import { type DiskLayout, rootPartition } from '../core/disk.ts'
import { mountLines, planMounts } from '../core/mounts.ts'
import type { RootPlace } from '../image/sandbox.ts'

/** What a script asks to have mounted. */
export type Asked = Pick<Directives, 'mounts' | 'binds'>

export function rootPlace(layout: DiskLayout): RootPlace {
  const { start, size, fs = '' } = rootPartition(layout)
  return { start, size, fs: layout.subvolume === undefined ? fs : `${fs},subvol=${layout.subvolume}` }
}

/**
 * Plans the mounts of a disk and writes them to `work`/mounts for the runner. Returns where the root lies, and lines for
 * the log. `script` is what messages about directives name.
 */
export async function prepareMounts(
  work: string,
  layout: DiskLayout,
  asked: Asked = { mounts: [], binds: [] },
  script = '',
): Promise<{ root: RootPlace; notes: string[] }> {
  const { mounts, notes } = planMounts(layout, asked, script)
  if (mounts.length > 0) await writeFile(join(work, 'mounts'), mountLines(mounts))
  return { root: rootPlace(layout), notes: notes.map((note) => `git vlb: ${note}\n`) }
}
