// A lease of a key at a registry: which of several machines builds it. A tag beside those of snapshots names a manifest that
// says who builds; its owner changes it as long as it is at work, and takes it away in the end.
//
// A registry cannot compare and swap, and the clocks of two machines are never compared. So whoever takes a lease writes it,
// waits a moment and reads it back: the last who wrote has it. And whoever waits watches for changes: an owner who changed
// nothing for as long as it promised to is gone. At worst a layer is built twice.
import { printable } from './errors.ts'
import type { Blob } from './oci.ts'

export interface Lease {
  /** Of one run of the program; random. */
  owner: string
  /** For people. */
  host: string
  layer: string
  /** Within which its owner changes it. */
  seconds: number
  /** Counts the changes. */
  beat: number
  /** When it was written by the registry's own clock, in milliseconds, if that was known. */
  at?: number
  /** The work is done, one way or the other, and the registry does not let us delete. */
  ended?: boolean
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const artifactType = 'application/vnd.git-vlb.lease.v1'
const annotation = 'vnd.git-vlb.lease'
/** What stands for no content at all in a manifest (OCI image specification, "Guidance for an Empty Descriptor"). */
const emptyType = 'application/vnd.oci.empty.v1+json'
export const emptyContent = '{}'

/** Neither a key, which has 64 digits only, nor longer than a tag may be (128). */
export const leaseTag = (key: string): string => `lease-${key}`

/** The key that a tag is a lease of. */
export function leasedKey(tag: string): string | undefined {
  return /^lease-([0-9a-f]{64})$/.exec(tag)?.[1]
}

/** `empty`: the blob of `emptyContent`. */
export function composeLease(lease: Lease, empty: Blob): string {
  const content = { mediaType: emptyType, ...empty }
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: manifestType,
    artifactType,
    config: content,
    layers: [content],
    annotations: { 'org.opencontainers.image.title': `lease of ${lease.layer}`, [annotation]: JSON.stringify(lease) },
  })
}

/** Anybody may have written it: undefined for what is none, or promises what nobody should wait for. */
export function parseLease(text: string): Lease | undefined {
  const manifest = parse(text) as { artifactType?: unknown; annotations?: Record<string, unknown> | null } | null
  if (manifest?.artifactType !== artifactType) return undefined
  const told = manifest.annotations?.[annotation]
  const data = typeof told === 'string' ? (parse(told) as Partial<Record<keyof Lease, unknown>> | null) : null
  const { owner, host, layer, seconds, beat, at, ended } = data ?? {}
  if (typeof owner !== 'string' || !/^[0-9a-f]{16,64}$/.test(owner)) return undefined
  if (typeof seconds !== 'number' || !(seconds >= leaseLimits.least && seconds <= leaseLimits.most)) return undefined
  if (!Number.isSafeInteger(beat)) return undefined
  return {
    owner,
    host: printable(String(host), 80),
    layer: printable(String(layer), 80),
    seconds,
    beat: beat as number,
    ...(typeof at === 'number' && Number.isFinite(at) ? { at } : {}),
    ...(ended === true ? { ended } : {}),
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** In seconds. */
export const leaseLimits = { least: 1, most: 3600 } as const

/** How often an owner changes its lease, and others look at it, in milliseconds. */
export const renewEvery = (seconds: number): number => (seconds * 1000) / 3
export const lookEvery = (seconds: number): number => Math.min(3000, (seconds * 1000) / 4)

/** What a look at a registry brought. */
export type Seen = Lease | 'none' | 'unreachable'

/** Nobody builds; we do; somebody does; somebody began to, and is gone. */
export type Verdict = 'free' | 'ours' | 'held' | 'dead'

/** Watches the lease of one key; one look after the other. */
export class LeaseWatch {
  readonly #owner: string
  #lease: Lease | undefined
  #at = 0
  /** For how long it was seen not to change. */
  #still = 0

  constructor(owner: string) {
    this.#owner = owner
  }

  /** What it last saw of another one's. */
  get lease(): Lease | undefined {
    return this.#lease
  }

  /**
   * `now`: milliseconds of a clock of this process that only goes forward. `there`: the registry's own clock, where it tells.
   * Silence counts as no change: a registry that is down for a moment has not lost its leases.
   */
  look(seen: Seen, now: number, there?: number): Verdict {
    const known = this.#lease
    if (seen === 'none' || (seen === 'unreachable' && !known) || (seen !== 'unreachable' && seen.ended)) return 'free'
    if (seen !== 'unreachable' && seen.owner === this.#owner) return 'ours'
    const lease = seen === 'unreachable' ? (known as Lease) : seen
    const changed = lease.owner !== known?.owner || lease.beat !== known.beat
    // Two looks that lie further apart than they should tell that we were stopped, and maybe the other one with us.
    this.#still = changed ? 0 : this.#still + Math.min(now - this.#at, 2 * lookEvery(lease.seconds))
    this.#lease = lease
    this.#at = now
    return this.#still > lease.seconds * 1000 || isLeft(lease, there) ? 'dead' : 'held'
  }
}

/**
 * By the registry's clock alone, which it may tell a little wrong: long over. Saves waiting for what was left yesterday.
 */
export function isLeft({ at, seconds }: Lease, there: number | undefined): boolean {
  return at !== undefined && there !== undefined && there - at > 3 * seconds * 1000
}
