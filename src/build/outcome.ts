// What became of a step, told as an event and as a part of the result.
import type { StepResult } from '../core/events.ts'
import type { Step } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results-build.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import type { StepOutcome } from './job.ts'

export function skipped(step: Step): BuiltLayer {
  return { name: step.name, key: step.key, contentId: null, result: 'skipped', seconds: 0, bytes: 0 }
}

export function cached(context: BuildContext, label: string, step: Step, there: Snapshot | undefined): BuiltLayer {
  // Of a step that was merged once it need not be there itself.
  if (!there) return { ...skipped(step), contentId: step.content, result: 'cached' }
  return ended(context, label, step, { snapshot: there, seconds: 0, built: false })
}

export function ended(
  context: BuildContext,
  label: string,
  step: Step,
  outcome: StepOutcome & { built: boolean },
): BuiltLayer {
  const { seconds, steps } = outcome
  const manifest = 'snapshot' in outcome ? outcome.snapshot.manifest : undefined
  const result: StepResult = !manifest ? 'failed' : outcome.built ? 'built' : 'cached'
  const { bytes = 0, contentId = null } = manifest ?? {}
  context.emit({ type: 'step-ended', label, name: step.name, result, seconds, bytes })
  return { name: step.name, key: step.key, contentId, result, seconds, bytes, ...(steps ? { steps } : {}) }
}
