// `git vlb build --sbom FILE`: the bill of materials of an image.
import type { BuiltSbom } from '../core/results-build.ts'
import { spdxDocument } from '../core/spdx.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { writeOutput } from './output.ts'
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
  const { text, packages } = await sbomText(context, version, name, top)
  await writeOutput(context, path, text)
  return { path, packages }
}

/** With how many packages it lists. */
export async function sbomText(
  context: BuildContext,
  version: string,
  name: string,
  top: Snapshot,
): Promise<{ text: string; packages: number }> {
  const list = await packagesOf(context, top)
  if (list.problem !== undefined)
    context.emit({ type: 'warning', text: `the bill of materials may be incomplete: ${list.problem}` })
  const { contentId, builtAt } = top.manifest
  const text = `${JSON.stringify(spdxDocument({ name, contentId, builtAt, version }, list), null, 2)}\n`
  return { text, packages: list.packages.length }
}
