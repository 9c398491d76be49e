// What the store holds, and what went of it, as text.
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import type {
  CacheEntry,
  CacheResult,
  Damaged,
  GcResult,
  KeptBy,
  Removed,
  SnapshotState,
} from '../core/results-store.ts'
import { formatAge, formatBytes, formatSeconds } from '../core/units.ts'
import type { TextOptions } from './layers.ts'
import { shownPath } from './layers.ts'
import type { Style } from './style.ts'
import { table } from './table.ts'

const looks = { used: 'cyan', needed: 'green', recorded: 'blue', unneeded: 'yellow' } as const

/** `3.2 GiB of 20.0 GiB`. */
export function roomText(bytes: number, budget: number | null): string {
  return budget === null ? `${formatBytes(bytes)}, no limit` : `${formatBytes(bytes)} of ${formatBytes(budget)}`
}

export function gcText(data: GcResult, { style }: TextOptions): string {
  const all = [...data.removed, ...data.others]
  const verb = data.dryRun ? 'would drop' : 'dropped'
  const lines = removedLines(all, style)
  const count = all.length === 0 ? 'nothing' : counted(data.removed.length, data.others.length)
  const holds = data.dryRun ? 'the store would hold' : 'the store holds'
  lines.push(
    `${verb} ${count}${all.length > 0 ? `, ${formatBytes(data.freedBytes)}` : ''}; ${holds} ${roomText(data.keptBytes, data.budgetBytes)}`,
  )
  if (data.budgetBytes !== null && data.keptBytes > data.budgetBytes && data.usedBytes > 0)
    lines.push(style('yellow', `what is left cannot go: ${formatBytes(data.usedBytes)} of it are in use`))
  return `${lines.join('\n')}\n`
}

function counted(snapshots: number, others: number): string {
  const texts = [
    ...(snapshots > 0 ? [snapshots === 1 ? '1 snapshot' : `${snapshots} snapshots`] : []),
    ...(others > 0 ? [others === 1 ? '1 other thing' : `${others} other things`] : []),
  ]
  return texts.join(' and ')
}

function removedLines(removed: readonly Removed[], style: Style): string[] {
  if (removed.length === 0) return []
  const rows = removed.map((one) => [
    one.kind === 'snapshot'
      ? printable(one.layer ?? '')
      : style('dim', `${one.kind} ${printable(one.layer ?? '', 60)}`),
    style('dim', short(one.id.replace(/^sha\d+-/, ''))),
    formatBytes(one.bytes),
    `used ${ago(one.lastUse)}`,
    style(looks[one.state], stateText(one.state)),
  ])
  return [table(rows, ['left', 'left', 'right', 'left', 'left'])]
}

export function cacheText(data: CacheResult, options: TextOptions): string {
  switch (data.action) {
    case 'ls':
      return data.why ? whyText(data.snapshots, options) : listText(data, options)
    case 'du':
      return usageText(data, options)
    case 'verify':
      return verifyText(data, options)
    case 'rm': {
      const verb = data.dryRun ? 'would remove' : 'removed'
      const what = data.removed.length === 0 ? 'nothing' : `${data.removed.length}, ${formatBytes(data.freedBytes)}`
      return `${[...removedLines(data.removed, options.style), `${verb} ${what}`].join('\n')}\n`
    }
  }
}

function listText(data: Extract<CacheResult, { action: 'ls' }>, { style, cwd }: TextOptions): string {
  const head = ['layer', 'key', 'size', 'built', 'used', 'state', 'for'].map((text) => style('dim', text))
  const rows = data.snapshots.map((one) => [
    printable(one.layer),
    style('dim', short(one.id)),
    formatBytes(one.bytes),
    ago(one.builtAt),
    ago(one.lastUse),
    style(looks[one.state], stateText(one.state)),
    forWhom(one, cwd),
  ])
  const lines = table([head, ...rows], ['left', 'left', 'right', 'right', 'right', 'left', 'left'])
  const room = roomText(data.totalBytes, data.budgetBytes)
  return `${rows.length > 0 ? `${lines}\n` : ''}${rows.length === 1 ? '1 snapshot' : `${rows.length} snapshots`}; the store ${shownPath(data.store, cwd)} holds ${room}\n`
}

/** The first who keeps it, and how many there are besides. */
function forWhom({ keptBy }: CacheEntry, cwd: string): string {
  const [first] = keptBy
  if (!first) return ''
  const more = keptBy.length > 1 ? ` and ${keptBy.length - 1} more` : ''
  return `${keeperText(first, cwd)}${more}`
}

function keeperText({ kind, name }: KeptBy, cwd: string): string {
  const shown = printable(kind === 'worktree' || kind === 'image' ? shownPath(name, cwd) : name, 120)
  switch (kind) {
    case 'process':
      return `git vlb ${shown}`
    case 'record':
      return `the record of ${shown}`
    case 'remote':
      return `remote branch ${shown}`
    case 'unreadable':
      return `${shown}, which cannot be read`
    default:
      return `${kind} ${shown}`
  }
}

/** Who keeps each snapshot, one line for each. */
function whyText(snapshots: readonly CacheEntry[], { style, cwd }: TextOptions): string {
  const parts = snapshots.map((one) => {
    const head = `${style('bold', printable(one.layer))} ${style('dim', short(one.id))}  ${formatBytes(one.bytes)}, built ${ago(one.builtAt)}, used ${ago(one.lastUse)}: ${style(looks[one.state], stateText(one.state))}`
    const lines = one.keptBy.map((kept) => {
      const above = kept.above ? style('dim', `, by way of ${printable(kept.above.layer)} ${short(kept.above.id)}`) : ''
      const where = kept.repository === '' ? '' : style('dim', ` in ${printable(shownPath(kept.repository, cwd))}`)
      return `  ${keeperText(kept, cwd)}${where}${above}`
    })
    const none = one.state === 'recorded' ? '  a commit that no branch and no tag names' : '  nothing needs it'
    return [head, ...(lines.length > 0 ? lines : [style('dim', none)])].join('\n')
  })
  return parts.length > 0 ? `${parts.join('\n')}\n` : 'the store holds no snapshots\n'
}

function usageText(data: Extract<CacheResult, { action: 'du' }>, { style, cwd }: TextOptions): string {
  const layers = data.layers.map((one) => [
    printable(one.layer),
    formatBytes(one.bytes),
    one.snapshots === 1 ? '1 snapshot' : `${one.snapshots} snapshots`,
  ])
  const folders = data.folders
    .filter(({ bytes }) => bytes > 4096)
    .map(({ folder, bytes }) => [style('dim', `${folder}/`), formatBytes(bytes), ''])
  const lines = table([...layers, ...folders], ['left', 'right', 'left'])
  return `${lines === '' ? '' : `${lines}\n`}the store ${shownPath(data.store, cwd)} holds ${roomText(data.totalBytes, data.budgetBytes)}\n`
}

function verifyText(data: Extract<CacheResult, { action: 'verify' }>, { style }: TextOptions): string {
  const lines = data.damaged.map((one) => `${style('red', 'damaged')}: ${damageText(one)}`)
  lines.push(...removedLines(data.removed, style))
  const looked = data.quick ? 'looked at' : 'verified'
  const what = `${looked} ${data.snapshots} snapshots and ${data.bases} bases in ${formatSeconds(data.seconds)}`
  if (data.damaged.length === 0) lines.push(`${what}: ${style('green', 'all sound')}`)
  else if (data.dryRun) lines.push(`${what}: ${data.damaged.length} damaged; git vlb cache verify drops them`)
  else if (data.left.length > 0)
    lines.push(`${what}: ${data.left.length} damaged ones are in use and stay; run it again when nothing runs`)
  else lines.push(`${what}: what was damaged was dropped with all on it, and will be built again: git vlb build`)
  if (data.withoutDigest > 0)
    lines.push(style('dim', `${data.withoutDigest} are of an older git vlb: their structure alone was looked at`))
  return `${lines.join('\n')}\n`
}

function damageText({ kind, id, layer, reason }: Damaged): string {
  if (kind === 'base') return `the base ${short(id.replace(/^sha\d+-/, ''))}: ${reason}`
  return `the snapshot ${short(id)}${layer === '' ? '' : ` of ${printable(layer)}`}: ${reason}`
}

function stateText(state: SnapshotState): string {
  return state === 'used' ? 'in use' : state
}

function ago(at: string): string {
  const milliseconds = Date.parse(at)
  return Number.isNaN(milliseconds) ? '' : `${formatAge((Date.now() - milliseconds) / 1000)} ago`
}
