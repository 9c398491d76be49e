// What others have built already: looked up in the remote for the steps that are missing, and brought into the store as if
// it had been built here, with the same checks.
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import type { SharedFile, SharedLayer, SharedSnapshot } from '../core/oci.ts'
import type { Step } from '../core/plan.ts'
import type { PulledLayer, PullResult } from '../core/results-remote.ts'
import { requireSpace } from '../host/space.ts'
import { baseUse } from '../store/lease.ts'
import type { Registry } from '../store/oci.ts'
import { haveOf } from '../store/oci-file.ts'
import { baseFolder } from '../store/places.ts'
import { noteDamage } from '../store/shared.ts'
import type { Snapshot } from '../store/store.ts'
import { bringLayer, downloadPath, sameSnapshot } from './arrival.ts'
import { bringBase, needsBase } from './base-arrival.ts'
import { type Chain, planAgain, planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import type { Ground } from './job.ts'
import { bestOffer, gapOf, type PullWish } from './offers.ts'
import { inParallel } from './parallel.ts'
import { hasty, isRemoteError, openRemote, tellRemoteError } from './remote.ts'
import { withRemote } from './with-remote.ts'

export interface PullRequest {
  revision: string | undefined
  env: Record<string, string>
}

/** `git vlb pull`. */
export async function pull(context: BuildContext, { revision, env }: PullRequest): Promise<PullResult> {
  const started = Date.now()
  return await withRemote(context, revision, async (source, registry) => {
    try {
      const chain = await planChain(context, source, source.layers, env)
      const pulled = new Set<LayerKey>()
      const offer = gapOf(chain, { rebuild: new Set() })
        ? await bestOffer(context, registry, chain, { env, rebuild: new Set() })
        : undefined
      const bytes = offer ? await take(context, registry, { chain, offer, pulled }) : 0
      const now = await planAgain(context, chain, { env, known: undefined })
      const layers = now.steps.map(({ name, key }, i): PulledLayer => {
        const there = now.found[i]
        const result = pulled.has(key) ? 'pulled' : there ? 'cached' : 'absent'
        return { name, key, result, bytes: there?.manifest.bytes ?? 0 }
      })
      return { ok: true, remote: registry.name, layers, bytes, seconds: (Date.now() - started) / 1000 }
    } catch (error) {
      await remember(context, registry, error)
      throw error
    }
  })
}

/** What a build does: it takes what it can get, and goes on without the rest. */
export async function pullForBuild(
  context: BuildContext,
  chain: Chain,
  wish: PullWish,
): Promise<ReadonlySet<LayerKey>> {
  const pulled = new Set<LayerKey>()
  if (!gapOf(chain, wish)) return pulled
  const registry = await openRemote(context, chain.source.config, hasty)
  if (!registry) return pulled
  try {
    const offer = await bestOffer(context, registry, chain, wish)
    if (offer) await take(context, registry, { chain, offer, pulled })
  } catch (error) {
    context.signal.throwIfAborted()
    await remember(context, registry, error)
    const space = error instanceof VlbError && error.code === 'VLB_HOST_SPACE'
    if (!isRemoteError(error) && !space) throw error
    tellRemoteError(context, error)
  } finally {
    registry.close()
  }
  return pulled
}

interface Taking {
  chain: Chain
  offer: SharedSnapshot
  /** Grows with each snapshot that is in the store. */
  pulled: Set<LayerKey>
}

/** Brings the whole chain of an offer to the store, but for what is there: several at once, put in their order. */
export async function take(context: BuildContext, registry: Registry, taking: Taking): Promise<number> {
  const { chain, offer } = taking
  if (chain.base) await context.store.lease.add([baseUse(baseFolder(chain.base.digest))], context.signal)
  const there: Snapshot[] = []
  for (const { manifest } of offer.layers) {
    const same = await sameSnapshot(context, manifest)
    if (!same || !(await context.store.hold([same.manifest.id], context.signal))) break
    there.push(same)
  }
  const wanted = offer.layers.slice(there.length)
  const share = there.length === 0 && (await needsBase(context, chain)) ? offer.base?.file : undefined
  await checkSpace(context, [...(share ? [share] : []), ...wanted.map(({ file }) => file)])
  const below = there.at(-1)
  let ground: Promise<Ground> = below
    ? Promise.resolve({ snapshot: below })
    : bringBase(context, registry, chain, offer)
  ground.catch(() => {})
  // What is below a layer that fails is as good as before; what stands on it is of no use.
  const stops = wanted.map(() => new AbortController())
  let failed: { at: number; error: unknown } | undefined
  await inParallel(context, [...wanted.entries()], 3, async (inner, [at, layer]) => {
    const signal = AbortSignal.any([inner.signal, ...stops.slice(at, at + 1).map((stop) => stop.signal)])
    const bringing = { layer, step: stepOf(chain, layer), on: ground }
    const own = bringLayer({ ...inner, signal }, registry.within(signal), bringing)
    ground = own.then((snapshot) => ({ snapshot }))
    ground.catch(() => {})
    try {
      await own
      taking.pulled.add(layer.manifest.key)
    } catch (error) {
      if (!failed || at < failed.at) failed = { at, error }
      for (const stop of stops.slice(at + 1)) stop.abort(error)
    }
  })
  await ground.catch(() => {})
  if (failed) throw failed.error
  return wanted.reduce((sum, { file }) => sum + file.size, share?.size ?? 0)
}

/** A build will want it again; it must not find the damaged one a second time. */
async function remember(context: BuildContext, registry: Registry, error: unknown): Promise<void> {
  const digest = error instanceof VlbError ? error.data?.['digest'] : undefined
  if (typeof digest === 'string') await noteDamage(context.store, registry.name, digest)
}

function stepOf({ steps }: Chain, { manifest }: SharedLayer): Step | undefined {
  return steps.find(({ key }) => key === manifest.key)
}

async function checkSpace(context: BuildContext, files: readonly SharedFile[]): Promise<void> {
  let bytes = 0
  for (const file of files) bytes += Math.max(0, file.size - (await haveOf(downloadPath(context, file))))
  requireSpace(context.store.path('downloads'), bytes)
}
