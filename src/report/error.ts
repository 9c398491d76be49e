// Errors as text for people: what, where, and what to do next. Never a stack trace for what was to be expected.
import { Interrupted, VlbError } from '../core/errors.ts'
import type { BuildError } from '../core/results-build.ts'
import { safe, safeLines } from './lines.ts'
import type { Style } from './style.ts'

export function errorText(error: unknown, style: Style): string {
  if (error instanceof Interrupted) return `${style('yellow', 'interrupted')} by ${error.signal}\n`
  if (error instanceof VlbError) {
    return `${style('red', 'error')}: ${error.message}\n${error.hint ? `${style('cyan', 'hint')}: ${error.hint}\n` : ''}`
  }
  if (error instanceof Error && error.name === 'ToolError') {
    return `${style('red', 'error')}: ${safeLines(error.message)}\n${style('cyan', 'hint')}: VLB_TRACE=1 shows every program that is run\n`
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return `${style('red', 'bug in git vlb')}: ${stack}\nplease report this, with the output of: git vlb doctor\n`
}

/** A layer that failed: its last lines, then the error. */
export function buildErrorText(error: BuildError, style: Style): string {
  const lines = (error.lastLines ?? []).map((line) => `${style('dim', '  |')} ${safe(line)}\n`).join('')
  const where = lines ? `${style('dim', `last lines of ${error.layer}:`)}\n${lines}` : ''
  return `${where}${style('red', 'error')}: ${error.message}\n${error.hint ? `${style('cyan', 'hint')}: ${error.hint}\n` : ''}`
}
