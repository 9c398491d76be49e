// A rolled-up layer: a folder NN_name/layers/ of ordinary layers, which give one snapshot together.
import type { Directives } from './directives.ts'
import { printable, VlbError } from './errors.ts'
import { compareLayerNames, isLayerName, type Layer, stepsFolder, type TreeEntry } from './layer.ts'

/** Path of a step's folder below the project's: what messages, logs and events call it. */
export function stepPath(layer: string, step: string): string {
  return `${layer}/${stepsFolder}/${step}`
}

/** What stands above a step's part of a rolled-up layer's log. */
export function logHeading(step: string): string {
  return `=== ${step}\n`
}

/** The parts of a rolled-up layer's log, by step. `steps` are their paths, in order. */
export function splitLog(text: string, steps: readonly string[]): Map<string, string> {
  const parts = new Map<string, string>()
  let start = 0
  for (const [i, step] of steps.entries()) {
    const heading = logHeading(step)
    // A script may print such a line, too: the first counts, for the log begins with one and goes on behind a blank line.
    const at = i === 0 ? text.indexOf(heading) : text.indexOf(`\n\n${heading}`, start - 1) + 2
    if (at < start) return parts
    const previous = steps[i - 1]
    if (previous !== undefined) parts.set(previous, text.slice(start, at - 1))
    start = at + heading.length
  }
  const last = steps.at(-1)
  if (last !== undefined) parts.set(last, text.slice(start))
  return parts
}

/** The layer folders in `NAME/layers/`, in order. `entries` is what git holds there. */
export function stepEntries(layer: string, entries: readonly TreeEntry[]): TreeEntry[] {
  const steps = entries.filter(({ mode, name }) => ['40000', '120000', '160000'].includes(mode) && isLayerName(name))
  if (steps.length > 0) return steps.sort((a, b) => compareLayerNames(a.name, b.name))
  throw new VlbError('VLB_LAYER_KIND', `${layer}/${stepsFolder}/ holds no layer`, {
    hint: `put layer folders into it, or remove ${layer}`,
  })
}

/** Refuses what cannot be a step. */
export function checkStep(layer: string, step: Pick<Layer, 'name' | 'kind'>): void {
  const path = printable(stepPath(layer, step.name))
  if (step.kind === 'layers') {
    throw new VlbError('VLB_LAYER_KIND', `${path} is a rolled-up layer inside a rolled-up layer`, {
      hint: `lift its layers up: git mv ${path}/${stepsFolder}/* ${layer}/${stepsFolder}/`,
    })
  }
  if (step.kind === 'build-base') {
    throw new VlbError('VLB_LAYER_KIND', `${path} holds a build-base script, but a rolled-up layer stands on a base`, {
      hint: `make it the first layer of the project: git mv ${path} .`,
    })
  }
}

/** What the steps' directives mean for all of them: what one needs or forbids, the whole needs or forbids. */
export function combineDirectives(steps: readonly Pick<Layer, 'directives'>[]): Directives {
  const all = steps.map(({ directives }) => directives)
  const union = <T>(pick: (one: Directives) => T[]): T[] => [...new Set(all.flatMap(pick))]
  const ttls = all.flatMap(({ ttl }) => ttl ?? [])
  return {
    nocache: all.some(({ nocache }) => nocache),
    noshare: all.some(({ noshare }) => noshare),
    ...(ttls.length > 0 ? { ttl: Math.min(...ttls) } : {}),
    env: combineValues(all),
    network: all.some(({ network }) => network),
    secrets: union(({ secrets }) => secrets),
    caches: union(({ caches }) => caches),
    includes: union(({ includes }) => includes),
    binds: [],
    mounts: [],
  }
}

/** A name that one of them declares without a default needs a value. */
function combineValues(all: readonly Directives[]): Directives['env'] {
  const values: Directives['env'] = {}
  for (const [name, fallback] of all.flatMap(({ env }) => Object.entries(env)))
    values[name] = Object.hasOwn(values, name) && values[name] === undefined ? undefined : fallback
  return values
}
