// The NoCloud seed: a small disk that cloud-init knows by its label, made without mounting anything.
import { stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { run } from '../host/run.ts'
import { programPath, seedMakers, toolHint } from '../host/tools.ts'

/** What cloud-init looks for (its NoCloud data source), as blkid(8) shows it; VFAT keeps it in capitals, which is as good. */
const label = 'cidata'

export type SeedFormat = 'iso' | 'vfat'

/** The file system, as the host has the tools. Throws VLB_HOST_TOOL. */
export async function seedFormat(): Promise<SeedFormat> {
  return (await maker()) === 'mformat' ? 'vfat' : 'iso'
}

async function maker(): Promise<string> {
  for (const name of seedMakers) if (await programPath(name)) return name
  throw new VlbError('VLB_HOST_TOOL', `none of ${seedMakers.join(', ')} is installed, to make a cloud-init disk`, {
    hint: toolHint('xorriso'),
  })
}

/**
 * Writes the files, which lie in `folder`, into a disk image at `target`, which must not be there yet; returns its
 * bytes. Throws VLB_HOST_TOOL without a program for it.
 */
export async function makeSeed(
  folder: string,
  names: readonly string[],
  target: string,
  signal: AbortSignal,
): Promise<number> {
  const tool = await maker()
  const options = { cwd: folder, signal, env: { MTOOLSRC: '/dev/null' } }
  if (tool === 'mformat') {
    // Whole tracks, as mformat wants them; FAT12 holds up to 16 MB.
    const content = (await Promise.all(names.map((name) => stat(join(folder, name))))).reduce(
      (sum, s) => sum + s.size,
      0,
    )
    const mebibytes = 1 + Math.ceil((content * 1.1) / 2 ** 20)
    await writeFile(target, '', { flag: 'wx' })
    await truncate(target, mebibytes * 2 ** 20)
    await run(tool, ['-i', target, '-v', label, '-t', String(mebibytes * 2), '-h', '16', '-s', '64', '::'], options)
    await run('mcopy', ['-i', target, '--', ...names, '::'], options)
  } else {
    const emulate = tool === 'xorriso' ? ['-as', 'mkisofs'] : []
    await run(tool, [...emulate, '-quiet', '-o', target, '-V', label, '-J', '-r', ...names], options)
  }
  return (await stat(target)).size
}
