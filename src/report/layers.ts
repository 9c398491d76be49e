// Layers and paths as text, for all that show some.
import { diskStep } from '../core/plan.ts'
import type { BuiltLayer } from '../core/results-build.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import type { Style } from './style.ts'
import { table } from './table.ts'

export interface TextOptions {
  style: Style
  /** Paths are shown relative to it where that is shorter. */
  cwd: string
  /** Tell the steps of rolled-up layers, too. */
  verbose?: boolean
  /** It is shown on a terminal. */
  terminal?: boolean
}

/** What a guest wrote, and what to do with it. */
export function keptLine(kept: string, image: string, cwd: string): string {
  const path = shownPath(kept, cwd)
  const changes = `git vlb diff ${shownPath(image, cwd)} ${path}`
  return `kept ${path}; again: git vlb test-boot --console ${path}; what changed: ${changes}`
}

export function shownPath(path: string, cwd: string): string {
  return path.startsWith(`${cwd}/`) ? path.slice(cwd.length + 1) : path
}

const resultLooks = { built: 'green', cached: 'dim', pulled: 'cyan', failed: 'red', skipped: 'dim' } as const

/** What became of each layer. */
export function layerTable(layers: readonly BuiltLayer[], dryRun: boolean, style: Style): string {
  const rows = layers.map((layer) => [
    layer.name === diskStep ? style('dim', '(disk grown)') : layer.name,
    style(resultLooks[layer.result], dryRun && layer.result === 'skipped' ? 'to build' : layer.result),
    layer.result === 'built' || layer.result === 'failed' ? formatSeconds(layer.seconds) : '',
    layer.bytes > 0 ? formatBytes(layer.bytes) : '',
  ])
  return `${table(rows, ['left', 'left', 'right', 'right'])}\n`
}
