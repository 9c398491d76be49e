// What was pushed or pulled, as text.
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import type {
  PruneResult,
  PulledImageResult,
  PulledLayer,
  PullResult,
  PushedImageResult,
  PushedLayer,
  PushResult,
  RemoteImage,
  RemoteListResult,
} from '../core/results-remote.ts'
import { formatAge, formatBytes, formatSeconds } from '../core/units.ts'
import { shownPath, type TextOptions } from './layers.ts'
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

export function remoteText(result: RemoteListResult, style: Style): string {
  return imagesText(result.images, style) + snapshotsText(result, style)
}

const ago = (date: string | null) => (date === null ? '' : `${formatAge((Date.now() - Date.parse(date)) / 1000)} ago`)
const signedBy = (signer: string | null) => (signer === null ? '' : `signed by ${signer}`)

function imagesText(images: readonly RemoteImage[], style: Style): string {
  if (images.length === 0) return ''
  const head = ['image', 'revision', 'size', 'built', ''].map((word) => style('dim', word))
  const rows = images.map(({ tag, bytes, builtAt, revision, signer }) => [
    tag,
    style('dim', revision === null ? 'not committed' : short(revision)),
    formatBytes(bytes),
    ago(builtAt),
    signedBy(signer),
  ])
  return `${table([head, ...rows], ['left', 'left', 'right', 'right', 'left'])}\n\n`
}

function snapshotsText({ remote, snapshots }: RemoteListResult, style: Style): string {
  const rows = snapshots.map(({ layer, key, bytes, chainBytes, builtAt, here, signer }) => [
    printable(layer, 80),
    style('dim', short(key)),
    formatBytes(bytes),
    formatBytes(chainBytes),
    ago(builtAt),
    here ? 'here' : '',
    signedBy(signer),
  ])
  const head = ['layer', 'key', 'size', 'with all below', 'built', '', ''].map((word) => style('dim', word))
  const count = snapshots.length === 1 ? '1 snapshot' : `${snapshots.length} snapshots`
  const list =
    rows.length === 0 ? '' : `${table([head, ...rows], ['left', 'left', 'right', 'right', 'right', 'left', 'left'])}\n`
  return `${list}${style('dim', `${count} at ${printable(remote)}`)}\n`
}

export function pruneText(data: PruneResult, style: Style): string {
  const { removed, leases, needed, spared, dryRun, freedBytes } = data
  const rows = removed.map(({ layer, key, bytes, pushedAt }) => [
    printable(layer, 80),
    style('dim', short(key)),
    formatBytes(bytes),
    pushedAt === null ? '' : `pushed ${formatAge((Date.now() - Date.parse(pushedAt)) / 1000)} ago`,
  ])
  const list = rows.length === 0 ? '' : `${table(rows, ['left', 'left', 'right', 'left'])}\n`
  const what = [
    ...(removed.length > 0 ? [`${counted(removed.length, 'snapshot')}, ${formatBytes(freedBytes)}`] : []),
    ...(leases > 0 ? [counted(leases, 'lease')] : []),
  ].join(' and ')
  const kept = `${counted(needed, 'snapshot')} of branches and tags stay${needed === 1 ? 's' : ''}`
  const besides =
    spared === 0 ? '' : `, and ${spared} besides, pushed since ${data.before.slice(0, 10)} or kept by what is`
  const later = removed.length > 0 && !dryRun ? '\nthe registry gives the room back when it collects garbage' : ''
  const verb = dryRun ? 'would remove' : 'removed'
  const at = `${dryRun || what === '' ? 'at' : 'from'} ${printable(data.remote)}`
  return `${list}${verb} ${what || 'nothing'} ${at}; ${kept}${besides}${style('dim', later)}\n`
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

const pushed = { pushed: 'pushed to', there: 'there before at', replaced: 'put in place of another at' } as const

export function pushedImageText(result: PushedImageResult, { style, cwd }: TextOptions): string {
  const { tag, remote, image, files, revision, signed, digest, bytes, seconds } = result
  const facts = [
    revision === null ? 'of what is not committed' : `of ${short(revision)}`,
    `with ${files.slice(1).join(', ')}`,
    ...(signed ? ['signed'] : []),
  ]
  return [
    `image ${shownPath(image.path, cwd)}  ${formatBytes(image.bytes)} ${image.format}, ${facts.join(', ')}`,
    `${style(result.result === 'there' ? 'dim' : 'green', pushed[result.result])} ${printable(remote)}:${tag}`,
    style('dim', digest),
    style('dim', `${bytes > 0 ? `${formatBytes(bytes)} sent` : 'nothing sent'} in ${formatSeconds(seconds)}`),
    '',
  ].join('\n')
}

export function pulledImageText(result: PulledImageResult, { style, cwd }: TextOptions): string {
  const { tag, remote, image, project, revision, builtAt, signer, digest, bytes, seconds } = result
  const facts = [
    `${printable(project, 80)} ${tag}`,
    revision === null ? 'of what was not committed' : `of ${short(revision)}`,
    `built ${ago(builtAt)}`,
    signer === null ? 'not signed by anybody known here' : signedBy(signer),
  ]
  return [
    `image ${shownPath(image.path, cwd)}  ${formatBytes(image.bytes)} ${image.format}, ${facts.join(', ')}`,
    `${result.result === 'there' ? style('dim', 'it was there already:') : style('green', 'pulled from')} ${printable(remote)}:${tag}`,
    style('dim', digest),
    style('dim', `${bytes > 0 ? `${formatBytes(bytes)} pulled` : 'nothing pulled'} in ${formatSeconds(seconds)}`),
    '',
  ].join('\n')
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
