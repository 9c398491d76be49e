// `git vlb push`: what of a chain is shared, and when.
import { VlbError } from '../core/errors.ts'
import type { Step } from '../core/plan.ts'
import type { PushedLayer, PushResult } from '../core/results-remote.ts'
import { ToolError } from '../host/run.ts'
import type { Registry } from '../store/oci.ts'
import type { Snapshot } from '../store/store.ts'
import { type Chain, held, planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { isShared, oldBy } from './offers.ts'
import type { LoadedSource } from './project.ts'
import { hasty, isRemoteError, openRemote, tellRemoteError } from './remote.ts'
import { secretsWarning } from './secret-files.ts'
import { type Shared, shipChain } from './ship.ts'
import { storedBase } from './stored-bases.ts'
import { withRemote } from './with-remote.ts'

export interface PushRequest {
  revision: string | undefined
  env: Record<string, string>
}

export async function push(context: BuildContext, { revision, env }: PushRequest): Promise<PushResult> {
  return await withRemote(context, revision, async (source, registry) => {
    return await pushChain(context, registry, await heldChain(context, source, env))
  })
}

/** After a build, where `vlb.push` says so: what goes wrong with it is told, and no failure of the build. */
export async function pushAfterBuild(
  context: BuildContext,
  source: LoadedSource,
  env: Record<string, string>,
): Promise<void> {
  const registry = await openRemote(context, source.config, hasty)
  if (!registry) return
  try {
    const { layers } = await pushChain(context, registry, await heldChain(context, source, env))
    const names = layers.filter(({ result }) => result === 'pushed').map(({ name }) => name)
    if (names.length > 0) context.emit({ type: 'note', text: `pushed to ${registry.name}: ${names.join(', ')}` })
  } catch (error) {
    context.signal.throwIfAborted()
    if (isRemoteError(error)) return tellRemoteError(context, error)
    if (!(error instanceof VlbError || error instanceof ToolError)) throw error
    if (error instanceof VlbError && error.code === 'VLB_NOT_BUILT') return
    const hint = error instanceof VlbError && error.hint ? ` (${error.hint})` : ''
    context.emit({ type: 'warning', text: `not pushed to ${registry.name}: ${error.message}${hint}` })
  } finally {
    registry.close()
  }
}

/** Nothing of it is removed while it is being sent. */
async function heldChain(context: BuildContext, source: LoadedSource, env: Record<string, string>): Promise<Chain> {
  const plan = () => planChain(context, source, source.layers, env)
  return await held(context, await plan(), plan)
}

/** What is built of a chain, from the bottom up to where nothing is shared. */
async function pushChain(context: BuildContext, registry: Registry, chain: Chain): Promise<PushResult> {
  const started = Date.now()
  const end = (items: readonly unknown[], at: number) => (at < 0 ? items.length : at)
  const kept = end(
    chain.steps,
    chain.steps.findIndex((step) => !isShared(step)),
  )
  const there = Math.min(
    kept,
    end(
      chain.found,
      chain.found.findIndex((snapshot) => !snapshot),
    ),
  )
  if (there === 0 && kept > 0) {
    throw new VlbError('VLB_NOT_BUILT', `nothing of this is built: ${chain.steps[0]?.name} is not in the store`, {
      hint: 'build it first: git vlb build',
    })
  }
  const snapshots = chain.found.slice(0, there) as Snapshot[]
  const base = chain.base && (await storedBase(context, chain.base.digest))
  const onMissing = secretsWarning(context, chain)
  const isOld = oldBy(chain.steps)
  const ship = { snapshots, base, shareBase: chain.source.config.shareBase, isOld, onMissing }
  const shared: Shared = there > 0 ? await shipChain(context, registry, ship) : { sent: new Map(), written: new Set() }
  const layers = chain.steps.map((step, i): PushedLayer => {
    const done = shared.written.has(step.key) ? 'pushed' : 'there'
    return {
      ...named(step),
      result: i < there ? done : i < kept ? 'missing' : 'kept',
      bytes: shared.sent.get(step.key) ?? 0,
    }
  })
  const bytes = layers.reduce((sum, layer) => sum + layer.bytes, 0)
  return { ok: true, remote: registry.name, layers, bytes, seconds: (Date.now() - started) / 1000 }
}

const named = ({ name, key }: Step) => ({ name, key })
