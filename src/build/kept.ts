// What a guest wrote, kept for a look: an overlay on its image, in build/.
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
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

const name = 'kept.qcow2'

/** A new overlay beside where it will be, thrown away if we are stopped before the guest has ended. */
export async function overlayToKeep(
  context: BuildContext,
  image: { path: string; format: DiskFormat },
): Promise<Overlay> {
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
  const path = context.store.scratch.beside(target)
  const backing = { reference: image.path, format: image.format }
  await createOverlay(folder, basename(path), backing, undefined, context.signal)
  return { path, target }
}

/** Puts it where it is found; the store remembers that it is ours, so that it may name its image. */
export async function keepOverlay(context: BuildContext, { path, target }: Overlay): Promise<string> {
  await moveInto(path, target)
  const { size } = await stat(target)
  await saveImageRecord(context.store, target, {
    recipe: 'kept',
    identity: await fileIdentity(target),
    bytes: size,
  })
  return target
}
