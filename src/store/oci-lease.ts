// Leases of keys as a registry holds them: a tag each, and one small blob that all of their manifests name.
import { VlbError } from '../core/errors.ts'
import { composeLease, emptyContent, type Lease, leaseTag, parseLease } from '../core/lease.ts'
import { blobOf } from '../core/oci.ts'
import type { Registry } from './oci.ts'

const empty = blobOf(emptyContent)

export class LeaseTags {
  readonly #registry: Registry
  #ready = false
  /** The registry lets nobody delete, as it has said. */
  #kept = false
  /** Its time, when we last heard of it, and what time that was here. */
  #clock: { there: number; here: number } | undefined

  constructor(registry: Registry) {
    this.#registry = registry
  }

  /** What time it is by the registry's clock, if that is known. */
  get time(): number | undefined {
    return this.#clock && this.#clock.there + performance.now() - this.#clock.here
  }

  async read(key: string): Promise<Lease | 'none'> {
    const { text, time } = await this.#registry.manifestAt(leaseTag(key))
    if (time !== undefined) this.#clock = { there: time, here: performance.now() }
    return (text === undefined ? undefined : parseLease(text)) ?? 'none'
  }

  /** Writes it over whatever is there; returns its digest. */
  async write(key: string, lease: Lease, signal?: AbortSignal): Promise<string> {
    const registry = signal ? this.#registry.within(signal) : this.#registry
    if (!this.#ready && (await registry.blobSize(empty.digest)) !== empty.size)
      await registry.upload(empty, Buffer.from(emptyContent), { onBytes: () => {} })
    this.#ready = true
    const { time } = this
    const text = composeLease({ ...lease, ...(time === undefined ? {} : { at: Math.round(time) }) }, empty)
    await registry.putManifest(leaseTag(key), text)
    return blobOf(text).digest
  }

  /** Takes one away. By its digest: should the tag name another one's by now, that stays. */
  async end(key: string, lease: Lease, digest: string, signal: AbortSignal): Promise<void> {
    const registry = this.#registry.within(signal)
    if (!this.#kept && (await deleted(registry, digest))) return
    this.#kept = true
    const there = parseLease((await registry.manifest(leaseTag(key))) ?? '')
    if (there?.owner === lease.owner) await this.write(key, { ...lease, ended: true }, signal)
  }
}

/** False where nobody may delete, or not who may push. */
async function deleted(registry: Registry, digest: string): Promise<boolean> {
  return await registry.deleteManifest(digest).catch((error: unknown) => {
    if (error instanceof VlbError && error.code === 'VLB_REMOTE_LOGIN') return false
    throw error
  })
}
