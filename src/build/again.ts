// Whether steps whose snapshots are there have to be built all the same.
import type { Manifest } from '../core/manifest.ts'
import type { Step } from '../core/plan.ts'
import type { Snapshot } from '../store/store.ts'
import type { ChainOptions } from './chain.ts'

/** Why a step has to be built although its snapshot is there; undefined if it has not. */
export function mustRebuild(
  step: Step,
  snapshot: Snapshot,
  rebuild: ReadonlySet<string> = new Set(),
): string | undefined {
  if (rebuild.has(step.name)) return 'asked for with --rebuild'
  if (step.layer?.directives.nocache) return `${step.inner ? 'one of its scripts' : 'its script'} says nocache`
  return isTooOld(step, snapshot.manifest) ? 'older than its ttl' : undefined
}

/** A rolled-up layer is too old when one of its steps is. */
export function isTooOld({ layer }: Step, manifest: Pick<Manifest, 'builtAt' | 'steps'>): boolean {
  return (layer?.steps ?? (layer ? [layer] : [])).some(({ directives: { ttl } }, i) => {
    return isOlder(manifest.steps?.[i]?.builtAt ?? manifest.builtAt, ttl)
  })
}

/** Whether this command has to build a step that is there. */
export function builtAgain(step: Step, there: Snapshot, options: ChainOptions): boolean {
  if (Date.parse(there.manifest.builtAt) >= options.since) return false
  return mustRebuild(step, there, options.rebuild) !== undefined
}

/** The same for a step of the rolled-up layer `outer`, which may be gone and yet not have to be built. */
export function innerAgain(
  step: Step,
  there: Snapshot | undefined,
  options: ChainOptions,
  outer: Step | undefined,
): boolean {
  const known = options.known?.get(step.key)
  const builtAt = there?.manifest.builtAt ?? known?.builtAt
  if (builtAt !== undefined && Date.parse(builtAt) >= options.since) return false
  const { nocache = false, ttl } = step.layer?.directives ?? {}
  return (outer !== undefined && options.rebuild.has(outer.name)) || nocache || isOlder(builtAt, ttl)
}

function isOlder(builtAt: string | undefined, ttl: number | undefined): boolean {
  return builtAt !== undefined && ttl !== undefined && (Date.now() - Date.parse(builtAt)) / 1000 > ttl
}
