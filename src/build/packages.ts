// The package list of a snapshot: written with it, and taken over from the parent where nothing was installed.
import { createHash, randomBytes } from 'node:crypto'
import { link, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskLayout } from '../core/disk.ts'
import { VlbError } from '../core/errors.ts'
import type { Manifest } from '../core/manifest.ts'
import { type PackageList, packageList, packageListText, packagesName, readPackageList } from '../core/packages.ts'
import { askForPackages, type FoundPackages, foundPackages } from '../image/packages.ts'
import { createOverlay } from '../image/qcow2.ts'
import { probePackages } from '../image/sandbox.ts'
import { overlayName } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { prepareMounts } from './mounts.ts'

/** What a manifest says of the list beside it. */
export type ListRecord = NonNullable<Manifest['packages']>

/** Has the runner look for packages when the script in `work` has ended. */
export async function expectPackages(work: string, parent: Snapshot | undefined): Promise<void> {
  await askForPackages(work, parent?.manifest.packages?.state)
}

/**
 * Puts the list into `work`, the folder of a snapshot to be. Where the runner did not look, since no script ran inside,
 * it looks now; unless `same` says that the parent's disk holds the same files.
 */
export async function writePackages(
  context: BuildContext,
  work: string,
  layout: DiskLayout,
  parent: Snapshot | undefined,
  same: boolean,
): Promise<ListRecord> {
  const known = parent?.manifest.packages
  const asked = await foundPackages(work, known?.state)
  const found =
    asked ??
    (same && known ? { state: known.state, list: undefined } : await lookFor(context, join(work, overlayName), layout))
  const file = join(work, packagesName)
  if (found.list === undefined && parent && known) {
    // The same bytes under another name: no snapshot ever changes them.
    const linked = await link(packagesFile(context, parent.manifest), file).then(
      () => true,
      () => false,
    )
    if (linked) return { digest: known.digest, state: found.state }
    return await write(file, await lookFor(context, join(work, overlayName), layout))
  }
  return await write(file, found)
}

async function write(file: string, { state, list }: FoundPackages): Promise<ListRecord> {
  const text = packageListText(list ?? packageList({}))
  await writeFile(file, text)
  return { digest: createHash('sha256').update(text).digest('hex'), state }
}

/** Attaches a throw-away overlay on the disk, so that looking leaves no trace. */
async function lookFor(context: BuildContext, disk: string, layout: DiskLayout): Promise<FoundPackages> {
  const work = await context.store.scratch.folder()
  await mkdir(join(work, 'ns'))
  await createOverlay(work, overlayName, { reference: disk, format: 'qcow2' }, undefined, context.signal)
  const { root } = await prepareMounts(work, layout)
  await askForPackages(work, undefined)
  try {
    await probePackages(work, root, {
      attach: context.attach,
      memory: context.memory,
      signal: context.signal,
      onOutput: () => {},
    })
  } catch (error) {
    if (context.signal.aborted || !(error instanceof VlbError)) throw error
    return { state: `not read ${randomBytes(8).toString('hex')}`, list: packageList({ problem: error.message }) }
  }
  return (await foundPackages(work, undefined)) ?? { state: '', list: undefined }
}

function packagesFile(context: BuildContext, manifest: Manifest): string {
  return context.store.path('snapshots', manifest.id, packagesName)
}

/** The packages of a snapshot; looked for where an older git vlb left no list. */
export async function packagesOf(context: BuildContext, { manifest, file }: Snapshot): Promise<PackageList> {
  const text = await readFile(packagesFile(context, manifest), 'utf8').catch(() => '')
  const known = readPackageList(text)
  if (known) return known
  await context.store.hold([manifest.id], context.signal)
  return (await lookFor(context, file, manifest.disk)).list ?? packageList({})
}
