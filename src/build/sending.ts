// One file on its way to a registry, such as an overlay, a base or an image: packed where that pays, cut into pieces, and sent
// as far as the registry lacks them.
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { type Blob, blobOf, type SharedFile } from '../core/oci.ts'
import { explainWriteError } from '../host/files.ts'
import { requireSpace } from '../host/space.ts'
import { pack, packingPays } from '../image/transport.ts'
import type { Registry, Source } from '../store/oci.ts'
import { cutFile } from '../store/oci-file.ts'
import { forgetDamage, isDamaged, noteDamage, readShipment, type Shipment, writeShipment } from '../store/shared.ts'
import type { BuildContext } from './context.ts'
import type { Parcel } from './parcels.ts'

/** Sees to it that the remote has all pieces of a file, and tells how many bytes were sent for that. */
export async function send(
  context: BuildContext,
  registry: Registry,
  parcel: Parcel,
): Promise<{ shipment: Shipment; sent: number }> {
  const { id, nonce, details } = parcel
  const known = await readShipment(context.store, id, nonce)
  const from = known?.places.find((place) => place !== registry.name && place.startsWith(`${registry.remote.host}/`))
  const sending = new Sending(context, registry, parcel.task, from?.slice(registry.remote.host.length + 1))
  if (details) await sending.small(details)
  let file = known?.file
  if (!file || (await sending.lacking(file.parts)).length > 0)
    file = await sendWrapped(context, registry, parcel, sending)
  const places = [...new Set([...(known?.places ?? []), registry.name])]
  const shipment = { nonce, file, ...(details ? { details: blobOf(details) } : {}), places }
  await writeShipment(context.store, id, shipment)
  return { shipment, sent: sending.sent }
}

/** Once more where the registry turns out to keep a piece that it has damaged: then it is cut elsewhere. */
async function sendWrapped(
  context: BuildContext,
  registry: Registry,
  parcel: Parcel,
  sending: Sending,
): Promise<SharedFile> {
  const made = await wrap(context, parcel)
  try {
    return await sendCut(context, registry, made, sending)
  } finally {
    // The next one of a long chain has the room.
    if (made !== parcel.path) await rm(made, { force: true })
  }
}

async function sendCut(context: BuildContext, registry: Registry, made: string, sending: Sending): Promise<SharedFile> {
  for (let again = true; ; again = false) {
    // What the registry holds damaged it keeps.
    const avoid = (digest: string) => isDamaged(context.store, registry.name, digest)
    const file = await cutFile(made, { avoid, signal: context.signal })
    try {
      await sending.pieces(made, file)
      return file
    } catch (error) {
      const digest = error instanceof VlbError ? error.data?.['digest'] : undefined
      if (!again || typeof digest !== 'string') throw error
      await noteDamage(context.store, registry.name, digest)
    }
  }
}

/** The file as it travels: packed, where that makes it smaller. */
async function wrap(context: BuildContext, { path: disk, packing, task }: Parcel): Promise<string> {
  const { store, signal } = context
  if (!packing || !(await packingPays(disk))) return disk
  context.emit({ type: 'progress', task, done: 0, total: undefined })
  const { blocks } = await stat(disk)
  const path = join(await store.scratch.folder(), 'packed.qcow2')
  // At the most.
  requireSpace(path, blocks * 512)
  const { format, backing } = packing
  await pack({ from: { path: disk, format }, backing, to: path }, signal).catch((error: unknown) => {
    throw explainWriteError(error, store.root)
  })
  return path
}

/** The uploads of one parcel. */
export class Sending {
  sent = 0
  readonly #context: BuildContext
  readonly #registry: Registry
  readonly #task: string
  readonly #from: string | undefined

  /** `from`: another repository of this registry that has it, or had. */
  constructor(context: BuildContext, registry: Registry, task: string, from?: string) {
    this.#context = context
    this.#registry = registry
    this.#task = task
    this.#from = from
  }

  /** Those that the registry does not have, or not whole: one whose length is another was cut short there. */
  async lacking(blobs: readonly Blob[]): Promise<Blob[]> {
    const lacking: Blob[] = []
    for (const blob of blobs) {
      const bad = await isDamaged(this.#context.store, this.#registry.name, blob.digest)
      if (bad || (await this.#registry.blobSize(blob.digest)) !== blob.size) lacking.push(blob)
    }
    return lacking
  }

  async small(bytes: Buffer): Promise<void> {
    const blob = blobOf(bytes)
    for (const one of await this.lacking([blob])) await this.#upload(one, bytes, () => {})
  }

  async pieces(path: string, file: SharedFile): Promise<void> {
    const lacking = new Set(await this.lacking(file.parts))
    const total = [...lacking].reduce((sum, { size }) => sum + size, 0)
    const task = this.#task
    const started = Date.now()
    let done = 0
    let offset = 0
    for (const blob of file.parts) {
      const source = { path, offset }
      offset += blob.size
      if (!lacking.has(blob)) continue
      await this.#upload(blob, source, (bytes) => {
        done += bytes
        this.#context.emit({ type: 'progress', task, done, total })
      })
    }
    const seconds = (Date.now() - started) / 1000
    this.#context.emit({ type: 'progress-ended', task, bytes: total, seconds })
  }

  async #upload(blob: Blob, source: Source, onBytes: (bytes: number) => void): Promise<void> {
    const how = await this.#registry.upload(blob, source, { from: this.#from, onBytes })
    if (how === 'uploaded') this.sent += blob.size
    const size = await this.#registry.blobSize(blob.digest)
    if (size !== blob.size) throw keepsDamage(this.#registry, blob, size)
    await forgetDamage(this.#context.store, this.#registry.name, blob.digest)
  }
}

function keepsDamage(registry: Registry, { digest, size }: Blob, found: number | undefined): VlbError {
  const has = found === undefined ? 'does not have it' : `has ${found} bytes of it instead of ${size}`
  return new VlbError('VLB_REMOTE_DAMAGED', `${registry.name} was sent the blob ${digest}, but ${has}`, {
    hint: 'push once more: it is cut into other pieces then; and have the registry looked at',
    data: { digest },
  })
}
