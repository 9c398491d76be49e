// The same work on several things at a time.
import type { BuildContext } from './context.ts'

/** Runs `work` over all items, `limit` at a time; results in the order of the items. An error stops the others, too. */
export async function inParallel<Item, Result>(
  context: BuildContext,
  items: readonly Item[],
  limit: number,
  work: (context: BuildContext, item: Item) => Promise<Result>,
): Promise<Result[]> {
  const stop = new AbortController()
  const inner = { ...context, signal: AbortSignal.any([context.signal, stop.signal]) }
  const results: Result[] = []
  const queue = [...items.entries()]
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      inner.signal.throwIfAborted()
      results[next[0]] = await work(inner, next[1])
    }
  }
  // Each is waited for, also after an error: the caller removes the temporary files that they use.
  const failed = (error: unknown) => stop.abort(error)
  await Promise.all(Array.from({ length: Math.max(1, limit) }, () => worker().catch(failed)))
  inner.signal.throwIfAborted()
  return results
}
