// Text files that go where the user says.
import { randomBytes } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { explainWriteError, makeFolders } from '../host/files.ts'
import type { BuildContext } from './context.ts'

/** Writes a file with the folders above it: complete or not at all, and nothing beside it however we end. */
export async function writeOutput(context: BuildContext, path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.${randomBytes(3).toString('hex')}.tmp`
  try {
    await makeFolders(dirname(path))
    context.store.scratch.watch(temporary)
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    throw explainWriteError(error, path)
  }
}
