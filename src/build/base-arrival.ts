// A base that comes from a remote: held against the digest in vlb.yaml before anything stands on it.
import { rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { isPackedName, type SharedBase, type SharedSnapshot } from '../core/oci.ts'
import { hashFile } from '../host/files.ts'
import { ToolError } from '../host/run.ts'
import { requireSpace } from '../host/space.ts'
import { copyRaw, inspectDisk } from '../image/qcow2.ts'
import type { Registry } from '../store/oci.ts'
import { baseShipment } from '../store/shared.ts'
import { downloadPath, fetchFile, noteShipment } from './arrival.ts'
import { type Base, ensureBase } from './bases.ts'
import type { Chain } from './chain.ts'
import type { BuildContext } from './context.ts'
import type { Ground } from './job.ts'
import { storedBase } from './stored-bases.ts'

/** Whether a base that the remote has would be fetched. */
export async function needsBase(context: BuildContext, { base }: Chain): Promise<boolean> {
  return base !== undefined && !base.local && !(await storedBase(context, base.digest))
}

/** From where it is at hand: here, in the remote, where vlb.yaml says. */
export async function bringBase(
  context: BuildContext,
  registry: Registry,
  chain: Chain,
  offer: SharedSnapshot,
): Promise<Ground> {
  const { base } = chain
  if (!base) return undefined
  const shared = offer.base
  if (!shared || !(await needsBase(context, chain))) return { base: await ensureBase(context, base) }
  const record = await ensureBase(context, base, async (work) => {
    const fetched = downloadPath(context, shared.file)
    await fetchFile(context, registry, shared.file, { task: 'pulling the base', target: fetched })
    const { format, size } = await inspectDisk(fetched, `the base at ${registry.name}`)
    if (size !== shared.disk.size) throw refused(registry, shared, 'is not the disk that it should be')
    const disk = join(work, 'disk')
    await rename(fetched, disk)
    await checkBase(context, registry, { base, shared, disk, packed: format === 'qcow2' })
  }).catch((error: unknown) => {
    // What came is no base. That is the registry's fault, and the base may be had elsewhere.
    if (!(error instanceof VlbError) || !error.code.startsWith('VLB_BASE_')) throw error
    throw refused(registry, shared, `is none: ${error.message}`)
  })
  const { id, nonce } = baseShipment(base.digest)
  await noteShipment(context, registry, id, { nonce, file: shared.file })
  return { base: record }
}

interface Arrived {
  base: Base
  shared: SharedBase
  /** The file as it came. */
  disk: string
  /** It may be what was made of a raw disk for the way. */
  packed: boolean
}

/** Leaves the disk as it was before its way, which vlb.yaml's digest is of, unless that is of a packed file. */
async function checkBase(context: BuildContext, registry: Registry, arrived: Arrived): Promise<void> {
  const { base, shared, disk, packed } = arrived
  const [algorithm, named] = base.digest.split(':') as ['sha256' | 'sha512', string]
  const isNamed = async () => (await hashFile(disk, algorithm, { signal: context.signal })) === named
  const isWhole = async () => (await hashFile(disk, 'sha256', { signal: context.signal })) === shared.sha256
  if (await isNamed()) return
  if (packed && !(await isWhole())) {
    await unpackRaw(context, registry, arrived)
    if (await isNamed()) return
  }
  if (!isPackedName(base.source)) throw refused(registry, shared, `is not what vlb.yaml says, ${base.digest}`)
  if (!(await isWhole())) throw refused(registry, shared, 'is not the disk that it was pushed as')
  const text = `the digest of ${base.source} is of a packed file: whether the base at ${registry.name} was made from that cannot be checked`
  context.emit({ type: 'note', text })
}

async function unpackRaw(context: BuildContext, registry: Registry, { shared, disk }: Arrived): Promise<void> {
  const packed = `${disk}.packed`
  await rename(disk, packed)
  requireSpace(disk, (await stat(packed)).size)
  context.emit({ type: 'progress', task: 'unpacking the base', done: 0, total: undefined })
  try {
    await copyRaw(packed, disk, context.signal)
  } catch (error) {
    context.signal.throwIfAborted()
    if (error instanceof ToolError) throw refused(registry, shared, 'is no sound qcow2')
    throw error
  }
  await rm(packed)
}

function refused(registry: Registry, { file }: SharedBase, what: string): VlbError {
  return new VlbError('VLB_REMOTE_DAMAGED', `the base at ${registry.name} ${what}`, {
    hint: 'it was not kept; git vlb build takes the base from where vlb.yaml says, and git vlb push replaces this one',
    data: { digest: file.parts[0]?.digest },
  })
}
