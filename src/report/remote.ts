// What was pushed or pulled, as text.
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import type { PulledLayer, PullResult, PushedLayer, PushResult, RemoteListResult } from '../core/results.ts'
import { formatAge, formatBytes, formatSeconds } from '../core/units.ts'
import type { Style } from './style.ts'
import { table } from './table.ts'

const pushLooks = {
  pushed: ['green', 'pushed'],
  there: ['dim', 'there'],
  kept: ['magenta', 'kept here (noshare or nocache)'],
  missing: ['yellow', 'not built'],
} as const

const pullLooks = {
  pulled: ['green', 'pulled'],
  cached: ['dim', 'cached'],
  absent: ['yellow', 'not there'],
} as const

export function pushText({ layers, remote, bytes, seconds }: PushResult, style: Style): string {
  const rows = layers.map((layer) => row(layer, pushLooks[layer.result], style))
  const what = bytes > 0 ? `${formatBytes(bytes)} sent to` : 'nothing new for'
  return text(rows, `${what} ${printable(remote)} in ${formatSeconds(seconds)}`, style)
}

export function pullText({ layers, remote, bytes, seconds }: PullResult, style: Style): string {
  const rows = layers.map((layer) => row(layer, pullLooks[layer.result], style))
  const what = bytes > 0 ? `${formatBytes(bytes)} pulled from` : 'nothing pulled from'
  return text(rows, `${what} ${printable(remote)} in ${formatSeconds(seconds)}`, style)
}

export function remoteText({ remote, snapshots }: RemoteListResult, style: Style): string {
  const rows = snapshots.map(({ layer, key, bytes, chainBytes, builtAt, here, signer }) => [
    printable(layer, 80),
    style('dim', short(key)),
    formatBytes(bytes),
    formatBytes(chainBytes),
    builtAt === null ? '' : `${formatAge((Date.now() - Date.parse(builtAt)) / 1000)} ago`,
    here ? 'here' : '',
    signer === null ? '' : `signed by ${signer}`,
  ])
  const head = ['layer', 'key', 'size', 'with all below', 'built', '', ''].map((word) => style('dim', word))
  const count = snapshots.length === 1 ? '1 snapshot' : `${snapshots.length} snapshots`
  const list =
    rows.length === 0 ? '' : `${table([head, ...rows], ['left', 'left', 'right', 'right', 'right', 'left', 'left'])}\n`
  return `${list}${style('dim', `${count} at ${printable(remote)}`)}\n`
}

type Look = (typeof pushLooks)[PushedLayer['result']] | (typeof pullLooks)[PulledLayer['result']]

function row({ name, key, bytes }: PushedLayer | PulledLayer, [color, word]: Look, style: Style): string[] {
  return [
    name === 'disk' ? style('dim', '(disk grown)') : name,
    style('dim', short(key)),
    style(color, word),
    bytes > 0 ? formatBytes(bytes) : '',
  ]
}

function text(rows: string[][], summary: string, style: Style): string {
  return `${table(rows, ['left', 'left', 'left', 'right'])}\n${style('dim', summary)}\n`
}
