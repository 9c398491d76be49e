// Text files that go where the user says.
import { dirname } from 'node:path'
import { explainWriteError, makeFolders, writeAtomic } from '../host/files.ts'
import type { BuildContext } from './context.ts'

/** Writes a file with the folders above it: complete or not at all, and nothing beside it however we end. */
export async function writeOutput(context: BuildContext, path: string, text: string): Promise<void> {
  try {
    await makeFolders(dirname(path))
    await writeAtomic(path, text, context.store.scratch.beside(path))
  } catch (error) {
    throw explainWriteError(error, path)
  }
}
