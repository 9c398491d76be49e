// SHA256SUMS beside the images, as sha256sum -c reads it.
import { randomBytes } from 'node:crypto'
import { readFile, rename, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { sumsText } from '../core/output.ts'
import type { BuiltImage } from '../core/results.ts'
import { explainWriteError } from '../host/files.ts'
import type { BuildContext } from './context.ts'

/** Names these images alone; complete or as it was, and left alone if nothing in it changed. */
export async function writeSums(context: BuildContext, path: string, images: readonly BuiltImage[]): Promise<void> {
  const text = sumsText(new Map(images.map((image) => [basename(image.path), image.sha256 ?? ''])))
  if (text === (await readFile(path, 'utf8').catch(() => ''))) return
  const temporary = `${path}.${process.pid}.${randomBytes(3).toString('hex')}.tmp`
  try {
    context.store.scratch.watch(temporary)
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    throw explainWriteError(error, path)
  }
}
