// --secret: where a secret comes from, and its value.
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { environmentValue } from './context.ts'

/** `id=ID,src=FILE` or `id=ID,env=NAME`, as docker build has it. Messages never hold a value. */
export async function readSecrets(given: string[], cwd: string): Promise<Map<string, Buffer>> {
  const secrets = new Map<string, Buffer>()
  for (const text of given) {
    const match = /^id=([A-Za-z0-9._-]+),(src|source|env)=(.+)$/.exec(text)
    const [, id = '', kind, from = ''] = match ?? []
    if (!match)
      throw new VlbError('VLB_USAGE', '--secret takes id=ID,src=FILE or id=ID,env=NAME', {
        hint: 'see: git vlb build -h',
      })
    secrets.set(id, kind === 'env' ? fromEnvironment(id, from) : await fromFile(id, resolve(cwd, from)))
  }
  return secrets
}

function fromEnvironment(id: string, name: string): Buffer {
  const value = environmentValue(name)
  if (value !== undefined) return Buffer.from(value)
  const shown = printable(name, 80)
  throw new VlbError('VLB_SECRET', `the secret ${id}: the environment has no ${shown}`, {
    hint: `export ${shown}, or give src=FILE`,
  })
}

async function fromFile(id: string, file: string): Promise<Buffer> {
  try {
    const { size } = await stat(file)
    // It travels through a pipe into memory, and a list of masks is made of it.
    if (size <= 512 * 1024) return await readFile(file)
    throw new VlbError('VLB_SECRET', `the secret ${id}: ${printable(file)} has ${size} bytes; 512 KiB are the most`, {
      hint: 'is it the right file?',
    })
  } catch (error) {
    if (error instanceof VlbError) throw error
    throw new VlbError('VLB_SECRET', `the secret ${id}: cannot read ${printable(file)}`, {
      hint: 'see: ls -l',
      cause: error,
    })
  }
}
