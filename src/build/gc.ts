// `git vlb gc`: what a store holds beyond its budget goes. And the same after builds, by itself.
import { VlbError } from '../core/errors.ts'
import { chooseVictims, type Item } from '../core/gc.ts'
import { type SnapshotId, snapshotId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import type { GcResult, Removed } from '../core/results-store.ts'
import { formatBytes } from '../core/units.ts'
import { type Lock, takeLock, tryLock } from '../host/lock.ts'
import { registered } from '../store/registry.ts'
import { emptyGraves, sweep, sweepPointers } from '../store/sweep.ts'
import { keepUsage, measure } from '../store/usage.ts'
import { budgetOf } from './budget.ts'
import type { BuildContext } from './context.ts'
import { type Inventory, takeInventory } from './inventory.ts'
import { tidy } from './tidy.ts'

export interface GcOptions {
  /** Instead of vlb.budget: bytes, or none for no limit. */
  budget: number | 'none' | undefined
  dryRun: boolean
  /** What nothing needs goes even where there is room. */
  prune: boolean
}

export async function collect(context: BuildContext, options: GcOptions): Promise<GcResult> {
  const { store } = context
  // What is wrong with the setting shows before anything is looked at.
  if (options.budget === undefined) budgetOf(context, 0)
  if (!options.dryRun) await store.prepare()
  const lock = options.dryRun ? undefined : await gcLock(context)
  try {
    if (!options.dryRun) await registered(store.root, true)
    const inventory = await takeInventory(context)
    const { total } = inventory
    const budget =
      options.budget === undefined ? budgetOf(context, total) : options.budget === 'none' ? undefined : options.budget
    const victims = chooseVictims(inventory.items, { total, budget, prune: options.prune })
    const gone = options.dryRun ? victims : await drop(context, inventory, victims)
    if (!options.dryRun) {
      await tidy(context)
      // Now, so that the room is there when the command has ended.
      await emptyGraves(store)
    }
    const kept = options.dryRun ? total - sum(gone) : await count(context)
    return { ...result(context, inventory, gone, budget, kept), dryRun: options.dryRun }
  } finally {
    await lock?.release()
  }
}

/** One at a time removes things. */
export async function gcLock({ store, signal, emit }: BuildContext): Promise<Lock> {
  return await takeLock(store.path('locks', 'gc'), signal, (pid) =>
    emit({ type: 'note', text: `waiting for pid ${pid}, which clears up the store` }),
  )
}

/** Out of sight, but for what is in use by now. */
export async function drop(
  { store, signal }: BuildContext,
  { items }: Pick<Inventory, 'items'>,
  victims: readonly Item[],
): Promise<Item[]> {
  const gone = await sweep(store, victims, items, signal)
  await sweepPointers(store, signal)
  return gone
}

/** What the store takes now; `status` tells it from then on. */
async function count({ store }: BuildContext): Promise<number> {
  const bytes = sum([...measure(store.root).values()].map((bytes) => ({ bytes })))
  await keepUsage(store.root, bytes)
  return bytes
}

export const sum = (items: readonly { bytes: number }[]): number => {
  return Math.round(items.reduce((all, { bytes }) => all + bytes, 0))
}

function result(
  { store }: BuildContext,
  { items, manifests }: Inventory,
  gone: readonly Item[],
  budget: number | undefined,
  kept: number,
): Omit<GcResult, 'dryRun'> {
  const removed = gone.map((item) => removedItem(item, manifests))
  return {
    store: store.root,
    removed: removed.filter(({ kind }) => kind === 'snapshot'),
    others: removed.filter(({ kind }) => kind !== 'snapshot'),
    freedBytes: sum(gone),
    keptBytes: Math.round(kept),
    budgetBytes: budget ?? null,
    usedBytes: sum(items.filter(({ used }) => used)),
  }
}

export function removedItem(item: Item, manifests: ReadonlyMap<SnapshotId, Manifest>): Removed {
  const manifest = item.kind === 'snapshot' ? manifests.get(snapshotId(item.id)) : undefined
  return {
    kind: item.kind,
    id: item.kind === 'snapshot' ? item.id : item.id.slice(item.id.indexOf(' ') + 1),
    key: item.kind === 'snapshot' ? (manifest?.key ?? item.id) : null,
    layer: item.name === '' || item.kind === 'cache' || item.kind === 'download' ? null : item.name,
    bytes: Math.round(item.bytes),
    lastUse: new Date(item.lastUse).toISOString(),
    state: item.used ? 'used' : item.rank,
  }
}

/** What nothing needs goes until this part of the budget is left, so that not every build has to clear up. */
const roomAfter = 0.9

/**
 * After a command that put something into the store. Where it holds more than it may, what goes is moved out of sight,
 * which takes a moment; the bytes go when this process has ended. Never fails what was done before.
 */
export async function collectAfter(context: BuildContext): Promise<void> {
  const { store, emit, signal } = context
  try {
    const total = await count(context)
    const budget = budgetOf(context, total)
    if (budget === undefined || total <= budget) return
    const lock = await tryLock(store.path('locks', 'gc'), signal)
    // Whoever has it does what there is to do.
    if (!lock) return
    try {
      const inventory = await takeInventory(context)
      const limit = { total, budget, goal: budget * roomAfter, prune: false }
      const gone = await drop(context, inventory, chooseVictims(inventory.items, limit))
      const left = total - sum(gone)
      await store.buryDropped()
      await keepUsage(store.root, left)
      tell(context, gone, left, budget)
    } finally {
      await lock.release()
    }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof VlbError)) throw error
    emit({ type: 'warning', text: `the store was not cleared up: ${error.message}; see: git vlb gc` })
  }
}

function tell({ emit }: BuildContext, gone: readonly Item[], left: number, budget: number): void {
  const snapshots = gone.filter(({ kind }) => kind === 'snapshot').length
  const others = gone.length - snapshots
  const what = [
    ...(snapshots > 0 ? [snapshots === 1 ? '1 snapshot' : `${snapshots} snapshots`] : []),
    ...(others > 0 ? [others === 1 ? '1 other thing' : `${others} other things`] : []),
  ].join(' and ')
  const needed = gone.filter(({ rank }) => rank === 'needed').length
  const also = needed > 0 ? `, ${needed} of them still needed` : ''
  const now = `the store holds ${formatBytes(left)} of ${formatBytes(budget)} (vlb.budget)`
  if (gone.length > 0) emit({ type: 'note', text: `dropped ${what} of ${formatBytes(sum(gone))}${also}: ${now}` })
  if (left > budget) {
    const text = `the store holds ${formatBytes(left)}, more than its budget of ${formatBytes(budget)}, and all of it is in use: git config vlb.budget SIZE`
    emit({ type: 'warning', text })
  }
}
