// The image that `git vlb build` wrote of a revision, if it is still what would be written.
import { type FileHandle, open } from 'node:fs/promises'
import { basename } from 'node:path'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import type { ImageFormat } from '../core/output.ts'
import { checkEnvironment } from '../core/plan.ts'
import { identityOf } from '../host/files.ts'
import { type ImageRecord, imageRecord } from '../store/images.ts'
import type { Snapshot } from '../store/store.ts'
import { type Chain, held, planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { type ImageTarget, imageRecipe } from './flatten.ts'
import type { LoadedSource } from './project.ts'
import { targetsFor } from './targets.ts'

export interface CurrentImage {
  target: ImageTarget
  record: ImageRecord
  chain: Chain
  top: Snapshot
  /** The very file, and a name that stays its own, whatever is put in its place meanwhile. */
  file: FileHandle
  opened: string
}

export interface ImageWish {
  env: Record<string, string>
  /** Instead of the main one. */
  format: ImageFormat | undefined
}

/** Opens it; the caller closes it. What is published was built, and maybe tested, before: nothing is built here. */
export async function openCurrentImage(
  context: BuildContext,
  source: LoadedSource,
  { env, format }: ImageWish,
): Promise<CurrentImage> {
  checkEnvironment(source.layers, env)
  const plan = () => planChain(context, source, source.layers, env)
  const chain = await held(context, await plan(), plan)
  refuseUnshared(chain)
  const top = chain.found.at(-1)
  const formats = format === undefined ? [] : [format]
  // A revision's image has its name in the file's; that of the working tree may be the same.
  const targets = [source, { ...source, label: '' }].flatMap((one) =>
    targetsFor(context.project.folder, one, { flatten: true, formats, compress: undefined, output: undefined }).slice(
      0,
      1,
    ),
  )
  for (const target of top ? targets : []) {
    const found = top && (await openIfCurrent(context, source, top, target))
    if (found) return { ...found, chain }
  }
  throw notBuilt(source, chain, targets[0], format)
}

async function openIfCurrent(
  context: BuildContext,
  source: LoadedSource,
  top: Snapshot,
  target: ImageTarget,
): Promise<Omit<CurrentImage, 'chain'> | undefined> {
  const { name, boot, seal } = source.config
  const machine = { name, cpus: boot.cpus, memory: boot.memory, arch: context.arch }
  const recipe = imageRecipe({ top, flatten: true, machine, seal }, target)
  const record = await imageRecord(context.store, target.path)
  if (record?.recipe !== recipe) return undefined
  const file = await open(target.path, 'r').catch((error: unknown) => {
    if (hasErrorCode(error, 'ENOENT')) return undefined
    throw error
  })
  if (file && identityOf(await file.stat({ bigint: true })) === record.identity)
    return { target, record, top, file, opened: `/proc/self/fd/${file.fd}` }
  await file?.close()
  return undefined
}

/** An image holds what all of its layers left. */
function refuseUnshared({ steps }: Chain): void {
  const unshared = steps.find(({ layer }) => layer?.directives.noshare)
  if (!unshared) return
  throw new VlbError('VLB_USAGE', `${unshared.name} says noshare, and the image holds what it left`, {
    hint: 'nothing of it goes to a registry; take "# vlb: noshare" out of its script if it may',
  })
}

function notBuilt(
  { label, name }: LoadedSource,
  { steps, found }: Chain,
  target: ImageTarget | undefined,
  format: ImageFormat | undefined,
): VlbError {
  const missing = steps[found.findIndex((snapshot) => !snapshot)]
  const reason = missing
    ? `${missing.name} is not in the store`
    : `${basename(target?.path ?? '')} is not there, or not what would be written now`
  const command = ['git vlb build', ...(format === undefined ? [] : [`--format ${format}`]), label].join(' ').trim()
  return new VlbError('VLB_NOT_BUILT', `there is no current image of ${name}: ${reason}`, {
    hint: `build it first: ${command}`,
  })
}
