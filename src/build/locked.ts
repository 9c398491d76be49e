// One step of a chain under the lock of its key, so that builds at the same time make it once.
import { type LayerKey, short } from '../core/ids.ts'
import type { Damage, Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import type { StepJob, StepOutcome } from './job.ts'

/** The snapshot of a key; one that is damaged is dropped, with a warning. */
export async function findSnapshot(context: BuildContext, key: LayerKey): Promise<Snapshot | undefined> {
  return await context.store.find(key, (damage) => tellDamage(context, damage))
}

export function tellDamage(context: BuildContext, { key, layer, reason, above }: Damage): void {
  const what = `the snapshot ${short(key)}${layer ? ` of ${layer}` : ''}`
  const others = above === 0 ? '' : ` with ${above} that stood on it`
  const text = `${what} is damaged: ${reason}; dropped${others}, it will be built again`
  context.emit({ type: 'warning', text })
}

export interface LockedJob extends StepJob {
  /** It is there, but to be built again. */
  forced: boolean
  /** In milliseconds: what was built since then is new enough. */
  since: number
}

/** Has `make` build under the lock of the key; whoever waited takes what the other built. */
export async function buildLocked(
  context: BuildContext,
  job: LockedJob,
  make: (context: BuildContext) => Promise<StepOutcome>,
): Promise<StepOutcome & { built: boolean }> {
  const { step, label } = job
  const started = Date.now()
  const lock = await context.store.lock(step.key, context.signal, (pid) =>
    context.emit({ type: 'step-waiting', label, name: step.name, pid }),
  )
  try {
    const there = await findSnapshot(context, step.key)
    const fresh = there && (!job.forced || Date.parse(there.manifest.builtAt) >= job.since)
    if (fresh && (await context.store.hold([there.manifest.id], context.signal)))
      return { snapshot: there, seconds: (Date.now() - started) / 1000, built: false }
    const signal = AbortSignal.any([context.signal, lock.lost])
    return { ...(await make({ ...context, signal })), built: true }
  } finally {
    await lock.release()
  }
}
