// What a rollup did, or would do, as text.
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import type { RollupResult } from '../core/results-build.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import type { Style } from './style.ts'
import { table } from './table.ts'

export function rollupText(data: RollupResult, style: Style): string {
  const moves = data.moves.map(({ from, to }) => [from, style('dim', '->'), to])
  const lines = [table(moves, ['left', 'left', 'left']), sizeLine(data), aboveLine(data), commitLine(data, style)]
  if (data.dryRun) lines.push('', style('dim', 'the commit would say:'), quoted(data.message))
  return `${lines.filter((line) => line !== undefined).join('\n')}\n`
}

function sizeLine({ dryRun, layers, into }: RollupResult): string {
  const missing = layers.filter(({ state }) => state === 'missing')
  const bytes = formatBytes(layers.reduce((sum, layer) => sum + layer.bytes, 0))
  const old = `${layers.length} snapshots of ${bytes}`
  if (!dryRun)
    return `${old} merged into one of ${formatBytes(into.bytes)}, the same disk; the old ones stay until nothing needs them`
  if (missing.length === 0) return `${old} would be merged into one of at most ${formatBytes(into.bytes)}`
  const built = missing.map(({ name }) => name).join(', ')
  return `to be built first: ${built}; the others have ${bytes}`
}

function aboveLine({ above }: RollupResult): string | undefined {
  if (above.length === 0) return undefined
  const cached = above.filter(({ state }) => state === 'cached').length
  const [layers, are] = above.length === 1 ? ['the layer', 'is'] : [`the ${above.length} layers`, 'are']
  if (cached === 0) return `${layers} above ${are} not built yet`
  if (cached === above.length) return `${layers} above ${above.length === 1 ? 'stays' : 'stay'} in the store`
  return `of ${layers} above, the store has ${cached}, and keeps ${cached === 1 ? 'it' : 'them'}`
}

function commitLine({ dryRun, commit, branch, message, seconds }: RollupResult, style: Style): string {
  if (dryRun) return style('dim', 'nothing was done (--dry-run)')
  if (commit === null) return 'moved in the index, not committed: git commit'
  const subject = printable(message.split('\n')[0] ?? '')
  return `${style('green', `[${printable(branch)} ${short(commit)}]`)} ${subject}  ${style('dim', `in ${formatSeconds(seconds)}`)}`
}

function quoted(message: string): string {
  const lines = message.trimEnd().split('\n')
  return lines.map((line) => (line === '' ? '' : `    ${printable(line)}`)).join('\n')
}
