// `git vlb build --sbom FILE`: the bill of materials of an image.
import { randomBytes } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { BuiltSbom } from '../core/results.ts'
import { spdxDocument } from '../core/spdx.ts'
import { explainWriteError, makeFolders } from '../host/files.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { packagesOf } from './packages.ts'

export interface SbomRequest {
  /** Absolute path. */
  path: string
  /** The version of git vlb, which made it. */
  version: string
}

/** Written anew by each build: whoever asks for it wants it of this image. */
export async function writeSbom(
  context: BuildContext,
  { path, version }: SbomRequest,
  name: string,
  top: Snapshot,
): Promise<BuiltSbom> {
  const list = await packagesOf(context, top)
  if (list.problem !== undefined)
    context.emit({ type: 'warning', text: `the bill of materials may be incomplete: ${list.problem}` })
  const { contentId, builtAt } = top.manifest
  const text = `${JSON.stringify(spdxDocument({ name, contentId, builtAt, version }, list), null, 2)}\n`
  const temporary = `${path}.${process.pid}.${randomBytes(3).toString('hex')}.tmp`
  try {
    await makeFolders(dirname(path))
    context.store.scratch.watch(temporary)
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    throw explainWriteError(error, path)
  }
  return { path, packages: list.packages.length }
}
