// When `git vlb status` suggests a rollup, and of which layers. Pure.
import { VlbError } from './errors.ts'
import type { Layer } from './layer.ts'
import { checkRollable, planRollup } from './rollup.ts'

/**
 * Every layer that is built, and every image that is written, opens all below it. From an edit of the last layer to the image
 * took 0.5 s with two small layers, 0.08 s more with 30, 0.17 s more with 50, 0.35 s more with 70. Below this nobody would notice.
 */
export const deepChain = 50

/** What is on top is still being worked on. */
const topmost = 10

/** The longest range of layers that `git vlb rollup` would take, that is in the store, and that makes the chain half as deep. */
export function suggestRollup(
  layers: readonly Layer[],
  isCached: (name: string) => boolean,
  base: string | undefined,
): readonly Layer[] | undefined {
  if (layers.length < deepChain) return undefined
  const settled = (layer: Layer) => isCached(layer.name) && !layer.dirty
  const rollable = (range: readonly Layer[]) =>
    range.every(settled) && accepted(() => checkRollable(range, layers, base))
  const ranges: Layer[][] = [[]]
  for (const layer of layers.slice(0, -topmost)) {
    const longer = [...(ranges.at(-1) ?? []), layer]
    if (rollable(longer)) ranges.splice(-1, 1, longer)
    else ranges.push(rollable([layer]) ? [layer] : [])
  }
  const longest = ranges.reduce((a, b) => (b.length > a.length ? b : a))
  const pays = longest.length >= layers.length / 2
  return pays && accepted(() => planRollup(longest, layers, undefined)) ? longest : undefined
}

function accepted(check: () => unknown): boolean {
  try {
    check()
    return true
  } catch (error) {
    if (error instanceof VlbError) return false
    throw error
  }
}
