// How much the store may hold.
import { parseBudget } from '../core/gc.ts'
import type { StoreStatus } from '../core/results-status.ts'
import { budgetByDisk, lastUsage } from '../store/usage.ts'
import type { BuildContext } from './context.ts'

/** Bytes; undefined for no limit. `held` is what the store takes. Throws VLB_USAGE where the setting makes no sense. */
export function budgetOf({ project, store }: BuildContext, held: number): number | undefined {
  const set = project.settings.get('budget')
  return set === undefined ? budgetByDisk(store.root, held) : parseBudget(set, 'vlb.budget')
}

/** For `status`: reads one small file, however much the store holds. */
export function storeStatus(context: BuildContext): StoreStatus {
  const { project, store } = context
  const bytes = lastUsage(store.root) ?? null
  const configured = project.settings.has('budget')
  return { path: store.root, bytes, budgetBytes: budgetOf(context, bytes ?? 0) ?? null, configured }
}
