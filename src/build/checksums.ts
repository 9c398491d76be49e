// SHA256SUMS beside the images, as sha256sum -c reads it.
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { sumsText } from '../core/output.ts'
import type { BuiltImage } from '../core/results-build.ts'
import type { BuildContext } from './context.ts'
import { writeOutput } from './output.ts'

/** Names these images alone; complete or as it was, and left alone if nothing in it changed. */
export async function writeSums(context: BuildContext, path: string, images: readonly BuiltImage[]): Promise<void> {
  const text = sumsText(new Map(images.map((image) => [basename(image.path), image.sha256 ?? ''])))
  if (text === (await readFile(path, 'utf8').catch(() => ''))) return
  await writeOutput(context, path, text)
}
