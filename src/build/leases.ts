// Which of several machines builds a step that none has: who takes the lease of its key at the remote. The others wait until
// it is there, or its owner is gone. Each layer is sent as soon as it is built, while the next one is being built. Whatever
// is wrong with the remote, a build goes on as if there were no leases.
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '../core/config.ts'
import { VlbError } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import { type Lease, LeaseWatch, lookEvery, renewEvery, type Seen } from '../core/lease.ts'
import type { Step } from '../core/plan.ts'
import type { Registry } from '../store/oci.ts'
import { LeaseTags } from '../store/oci-lease.ts'
import type { Snapshot } from '../store/store.ts'
import type { Chain, Turns } from './chain.ts'
import type { BuildContext } from './context.ts'
import { findSnapshot } from './locked.ts'
import { isShared, oldBy } from './offers.ts'
import { hasty, isRemoteError, openRemote, remoteFailed } from './remote.ts'
import { secretsWarning } from './secret-files.ts'
import { shipChain } from './ship.ts'
import { storedBase } from './stored-bases.ts'

/** Of this run: what it builds for several revisions at once it need not wait for. */
const owner = randomBytes(16).toString('hex')

/** In which two that found a key free at once both have written; in milliseconds. */
const settling = 1000
/** Nobody waits long for an end to be told: a lease that stays runs out. */
const endWithin = 3000

interface LeaseOptions {
  /** For how long each is good without a change. */
  seconds: number
  /** Names of layers that are built whatever there is. */
  rebuild: ReadonlySet<string>
}

interface Held {
  step: Step
  chain: Chain
  lease: Lease
  digest: string
  timer: NodeJS.Timeout
}

export async function openLeases(context: BuildContext, config: Config, options: LeaseOptions): Promise<KeyLeases> {
  return new KeyLeases(context, await openRemote(context, config, hasty), options)
}

export class KeyLeases implements Turns {
  readonly #context: BuildContext
  readonly #registry: Registry | undefined
  readonly #tags: LeaseTags | undefined
  readonly #options: LeaseOptions
  readonly #held = new Map<string, Held>()
  /** Keys that were said to be there once: what cannot be pulled then is built without waiting again. */
  readonly #seen = new Set<string>()
  #off = false
  /** What is sent, one layer after the other. */
  #sending: Promise<void> = Promise.resolve()
  #broken: unknown

  constructor(context: BuildContext, registry: Registry | undefined, options: LeaseOptions) {
    this.#context = context
    this.#registry = registry
    this.#tags = registry && new LeaseTags(registry)
    this.#options = options
  }

  async turn(chain: Chain, at: number): Promise<'build' | 'pull'> {
    const step = chain.steps[at] as Step
    const below = chain.steps.slice(0, at + 1)
    const shared = below.every((one) => isShared(one) && !this.#options.rebuild.has(one.name))
    // One that is silent is not waited for a second time.
    if (!this.#tags || this.#off || !shared || remoteFailed(this.#context)) return 'build'
    try {
      return await this.#waitFor(this.#tags, chain, step)
    } catch (error) {
      this.#context.signal.throwIfAborted()
      if (!isRemoteError(error)) throw error
      // It lets us write nothing, say. If there is more to it, the push will tell.
      this.#off = true
      return 'build'
    }
  }

  async #waitFor(tags: LeaseTags, chain: Chain, step: Step): Promise<'build' | 'pull'> {
    const { key } = step
    const { signal } = this.#context
    const watch = new LeaseWatch(owner)
    let waited = false
    for (;;) {
      const seen = await this.#look(tags, key, waited)
      const verdict = watch.look(seen, performance.now(), tags.time)
      if (verdict === 'ours') return 'build'
      if (verdict === 'free' && waited) return this.#once(key) ? 'pull' : 'build'
      if (verdict === 'dead')
        this.#note(`${watch.lease?.host} began to build ${step.name}, and is gone: it is built here`)
      if (verdict !== 'held') {
        if (await this.#take(tags, chain, step)) return (await this.#isThere(step)) ? 'pull' : 'build'
        continue
      }
      // What another one's build ended without, once was enough to wait for.
      if (this.#seen.has(key)) return 'build'
      if (!waited && watch.lease) this.#tellWait(step, watch.lease)
      waited = true
      await delay(lookEvery(watch.lease?.seconds ?? this.#options.seconds), undefined, { signal })
      // Another process may have brought it to this store.
      if (await findSnapshot(this.#context, key)) return 'pull'
    }
  }

  /** A remote that is silent while we wait is as good as one that tells of no change. */
  async #look(tags: LeaseTags, key: string, waited: boolean): Promise<Seen> {
    try {
      return await tags.read(key)
    } catch (error) {
      if (!waited || !isRemoteError(error)) throw error
      return 'unreachable'
    }
  }

  #once(key: string): boolean {
    const first = !this.#seen.has(key)
    this.#seen.add(key)
    return first
  }

  /** Writes a lease, and sees whether it is still there when all who were as quick have written theirs. */
  async #take(tags: LeaseTags, chain: Chain, step: Step): Promise<boolean> {
    const { signal } = this.#context
    const { seconds } = this.#options
    const lease: Lease = { owner, host: hostname(), layer: step.name, seconds, beat: 0 }
    const digest = await tags.write(step.key, lease)
    // Whoever wants this one waits for the one below it, while that is ours.
    const below = chain.steps[chain.steps.indexOf(step) - 1]
    if (!below || !this.#held.has(below.key)) {
      await delay(settling, undefined, { signal })
      const seen = await tags.read(step.key)
      if (seen === 'none' || seen.owner !== owner) return false
    }
    const timer = setInterval(() => void this.#renew(tags, step), renewEvery(seconds))
    timer.unref()
    this.#held.set(step.key, { step, chain, lease, digest, timer })
    return true
  }

  /** It may have been pushed between our looking for it and our taking the lease. */
  async #isThere({ key }: Step): Promise<boolean> {
    if (!(await this.#registry?.hasTag(key)) || !this.#once(key)) return false
    await this.#release(key)
    return true
  }

  async #renew(tags: LeaseTags, { key }: Step): Promise<void> {
    const held = this.#held.get(key)
    if (!held) return
    try {
      const seen = await tags.read(key)
      // We were stopped for so long that another one took it. What is begun is built all the same.
      if (seen !== 'none' && seen.owner !== owner) return clearInterval(held.timer)
      held.lease = { ...held.lease, beat: held.lease.beat + 1 }
      held.digest = await tags.write(key, held.lease)
      // It ended meanwhile, and what was just written is one too many.
      if (this.#held.get(key) !== held) await this.#give(held)
    } catch (error) {
      if (!isRemoteError(error) && !this.#context.signal.aborted) this.#broken ??= error
    }
  }

  ended(step: Step, snapshots?: readonly Snapshot[]): void {
    const held = this.#held.get(step.key)
    if (!held) return
    this.#sending = this.#sending.then(async () => {
      if (snapshots && this.#broken === undefined)
        await this.#send(held, snapshots).catch((error: unknown) => {
          this.#broken = error
        })
      await this.#release(step.key)
    })
  }

  async #send({ step, chain }: Held, snapshots: readonly Snapshot[]): Promise<void> {
    const { store, signal } = this.#context
    const ids = snapshots.map(({ manifest }) => manifest.id)
    if (!this.#registry || !(await store.hold(ids, signal))) return
    const base = chain.base && (await storedBase(this.#context, chain.base.digest))
    const { shareBase } = chain.source.config
    const onMissing = secretsWarning(this.#context, chain)
    const isOld = oldBy(chain.steps)
    const parts = { snapshots, base, shareBase, isOld, onMissing }
    const { written } = await shipChain(this.#context, this.#registry, parts)
    if (written.size > 0) this.#note(`pushed to ${this.#registry.name}: ${step.name}`)
  }

  async #release(key: string): Promise<void> {
    const held = this.#held.get(key)
    if (!held) return
    this.#held.delete(key)
    clearInterval(held.timer)
    await this.#give(held)
  }

  async #give({ step, lease, digest }: Held): Promise<void> {
    try {
      await this.#tags?.end(step.key, lease, digest, AbortSignal.timeout(endWithin))
    } catch {
      // Others see that it changes no more.
    }
  }

  /** Waits for what is still being sent. What went wrong with that is told by the push of all that follows. */
  async end(): Promise<void> {
    await this.#sending
    await Promise.all([...this.#held.keys()].map((key) => this.#release(key)))
    this.#registry?.close()
    if (this.#broken !== undefined && !(this.#broken instanceof VlbError)) {
      this.#context.signal.throwIfAborted()
      throw this.#broken
    }
  }

  #tellWait({ name, key }: Step, { host, seconds }: Lease): void {
    this.#note(
      `waiting for ${host}, which builds ${name} (${short(key)}), until it is pushed or ${host} is silent for ${seconds} s`,
    )
  }

  #note(text: string): void {
    this.#context.emit({ type: 'note', text })
  }
}
