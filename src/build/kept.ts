// What guests wrote, kept for a look: an overlay on the image for each, in build/.
import { randomBytes } from 'node:crypto'
import { copyFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { DiskFormat } from '../core/output.ts'
import { fileIdentity, makeFolders, moveInto } from '../host/files.ts'
import { createOverlay } from '../image/qcow2.ts'
import { saveImageRecord } from '../store/images.ts'
import type { BuildContext } from './context.ts'

interface Overlay {
  /** Where the guest writes to it. */
  path: string
  /** Where it will be found. */
  target: string
}

interface Image {
  path: string
  format: DiskFormat
}

/** A new overlay beside where it will be, thrown away if we are stopped before the guest has ended. */
export async function overlayToKeep(context: BuildContext, image: Image): Promise<Overlay> {
  const place = await placeToKeep(context, image, 'kept.qcow2')
  const backing = { reference: image.path, format: image.format }
  await createOverlay(dirname(place.path), basename(place.path), backing, undefined, context.signal)
  return place
}

/** The same of an overlay on `image` that is there already. `number`: one of several. */
export async function copyToKeep(
  context: BuildContext,
  { image, overlay, number }: { image: Image; overlay: string; number: number | undefined },
): Promise<Overlay> {
  const place = await placeToKeep(context, image, number === undefined ? 'kept.qcow2' : `kept-${number}.qcow2`)
  await copyFile(overlay, place.path)
  return place
}

async function placeToKeep(context: BuildContext, image: Image, name: string): Promise<Overlay> {
  if (image.format !== 'qcow2' && image.format !== 'raw') {
    throw new VlbError('VLB_USAGE', `--keep needs a qcow2 or raw image, not ${image.format}`, {
      hint: 'git vlb test-boot --keep --no-flatten boots the chain itself',
    })
  }
  const folder = join(context.project.folder, 'build')
  const target = join(folder, name)
  if (image.path === target) {
    throw new VlbError('VLB_USAGE', `${name} is what the last --keep left: it cannot stand on itself`, {
      hint: `give it another name first: mv build/${name} build/mine.qcow2`,
    })
  }
  await makeFolders(folder)
  return { path: await context.store.scratch.linkedBeside(target), target }
}

/** Puts it where it is found; the store remembers that it is ours, so that it may name its image. */
export async function keepOverlay(context: BuildContext, { path, target }: Overlay): Promise<string> {
  await moveInto(path, target)
  const { size } = await stat(target)
  await saveImageRecord(context.store, target, {
    // Like no other: what a guest wrote to one says nothing of the next.
    recipe: `kept ${randomBytes(16).toString('hex')}`,
    identity: await fileIdentity(target),
    bytes: size,
  })
  return target
}
