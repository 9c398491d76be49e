// Hooks, and what they start in the background, as text.
import { printable } from '../core/errors.ts'
import type { HooksResult } from '../core/results.ts'
import type { PrebuildResult } from '../core/results-build.ts'
import type { PrebuildStatus } from '../core/results-status.ts'
import { formatAge, formatSeconds } from '../core/units.ts'
import { layerTable, shownPath, type TextOptions } from './layers.ts'
import { table } from './table.ts'

const hookPlaces = {
  alone: '',
  block: 'in front of the script that is there',
  'first-line': 'started by the first line of the script that is there',
  kept: 'then the hook that was there, kept in git-vlb-kept/',
}

export function hooksText(data: HooksResult, { style, cwd }: TextOptions): string {
  const looks = { installed: 'green', outdated: 'yellow', missing: 'yellow' } as const
  const top = (projects: readonly string[]) => projects.length === 0 || projects.join() === '.'
  const rows = data.hooks.map(({ name, state, how, other, projects }) => [
    name,
    data.action === 'uninstall' ? 'not installed' : style(looks[state], state),
    style('dim', how === null ? (other ? 'there is a hook of somebody else' : '') : hookPlaces[how]),
    style('dim', top(projects) ? '' : `for ${printable(projects.join(', '))}`),
  ])
  const next = data.action === 'status' && data.hooks.some(({ state }) => state !== 'installed')
  return [
    `hooks in ${shownPath(data.folder, cwd)}${next ? style('dim', '   (git vlb hooks install)') : ''}\n`,
    `${table(rows, ['left', 'left', 'left', 'left'])}\n`,
    ...data.notes.map((note) => `${style('yellow', 'note')}: ${printable(note)}\n`),
  ].join('')
}

/** A line of `git vlb status`. */
export function prebuildLine(data: PrebuildStatus, { style, cwd }: TextOptions): string {
  const seconds = (from: string) => (Date.now() - Date.parse(from)) / 1000
  const log = style('dim', `   (log: ${shownPath(data.log, cwd)})`)
  if (data.state === 'running') {
    const layer = data.layer === null ? '' : `: ${printable(data.layer)}`
    return `prebuild ${style('cyan', 'running')} for ${formatSeconds(seconds(data.startedAt))}${layer}${log}\n`
  }
  const count = data.built.length === 1 ? '1 layer' : `${data.built.length} layers`
  const built = data.built.length === 0 ? '' : `built ${count}`
  const said = [built, printable(data.reason)].filter(Boolean).join('; ') || 'nothing to build'
  const ago = data.endedAt === null ? '' : ` ${formatAge(seconds(data.endedAt))} ago`
  const looks = { done: 'green', stopped: 'yellow', failed: 'red' } as const
  return `prebuild ${style(looks[data.state], data.state)}${ago}: ${said}${data.state === 'done' ? '' : log}\n`
}

export function prebuildText(data: PrebuildResult, { style }: TextOptions): string {
  const lines = data.layers.length > 0 ? layerTable(data.layers, false, style) : ''
  const built = data.layers.filter((layer) => layer.result === 'built').length
  const total = `${built} built, ${formatSeconds(data.seconds)} in all`
  return `${lines}${data.reason && data.state !== 'failed' ? `${printable(data.reason)}\n` : ''}${style('dim', total)}\n`
}
