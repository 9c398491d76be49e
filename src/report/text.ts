// Results of commands as text for people. A total switch: a new result does not compile until it is told here.
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import { diskStep } from '../core/plan.ts'
import type {
  BootResult,
  BuildResult,
  CommandResult,
  DoctorResult,
  HooksResult,
  InitResult,
  LayerStatus,
  StatusResult,
} from '../core/results.ts'
import { formatAge, formatBytes, formatSeconds } from '../core/units.ts'
import { diffText } from './diff.ts'
import type { Style } from './style.ts'
import { table } from './table.ts'
import { whyText } from './why.ts'

export interface TextOptions {
  style: Style
  /** Paths are shown relative to it where that is shorter. */
  cwd: string
  /** Tell the steps of rolled-up layers, too. */
  verbose?: boolean
  /** It is shown on a terminal. */
  terminal?: boolean
}

export function resultText(result: CommandResult, options: TextOptions): string {
  switch (result.kind) {
    case 'status':
      return statusText(result.data, options)
    case 'build':
      return buildText(result.data, options)
    case 'init':
      return initText(result.data, options)
    case 'new':
      return `made ${result.data.name}; edit its script: ${shownPath(result.data.script, options.cwd)}\n`
    case 'log':
      return result.data.text
    case 'doctor':
      return doctorText(result.data, options)
    case 'changelog':
      return result.output === null ? result.text : `changelog ${shownPath(result.output, options.cwd)}\n`
    case 'shell':
      return result.data.recorded === null ? '' : `recorded in ${shownPath(result.data.recorded, options.cwd)}\n`
    case 'hooks':
      return hooksText(result.data, options)
    case 'diff':
      return [...diffText(result.data, { style: options.style, terminal: options.terminal ?? false })].join('')
    case 'test-boot':
      return bootText(result.data, options)
  }
}

export function shownPath(path: string, cwd: string): string {
  return path.startsWith(`${cwd}/`) ? path.slice(cwd.length + 1) : path
}

function statusText(data: StatusResult, { style, cwd, verbose }: TextOptions): string {
  const looks = { cached: 'green', missing: 'yellow', building: 'cyan', nocache: 'magenta', remote: 'blue' } as const
  const row = (layer: LayerStatus, indent = ''): string[] => [
    indent +
      layer.name +
      (layer.steps ? style('dim', ` (${layer.steps.length} steps)`) : '') +
      (layer.dirty ? style('red', ' (dirty)') : ''),
    style(looks[layer.state], layer.state),
    style('dim', short(layer.key)),
    layer.bytes > 0 ? formatBytes(layer.bytes) : '',
    layer.builtAt ? formatSeconds(layer.seconds) : '',
    layer.builtAt ? `${formatAge((Date.now() - Date.parse(layer.builtAt)) / 1000)} ago` : '',
    style('dim', whyText(layer)),
  ]
  // A step's own part of a merged snapshot has no size of its own.
  const stepRow = (step: LayerStatus) => row({ ...step, name: step.name.split('/').at(-1) ?? '' }, '  ')
  const rows = data.layers.flatMap((layer) => [row(layer), ...((verbose && layer.steps) || []).map(stepRow)])
  const head = ['layer', 'state', 'key', 'size', 'built in', 'built', ''].map((text) => style('dim', text))
  const base = data.base.digest
    ? `base ${printable(data.base.source)} (${short(data.base.digest)})`
    : `base from ${data.base.source}`
  const grown = data.base.diskSize === null ? '' : `, disk of ${formatBytes(data.base.diskSize)}`
  const image = `image ${shownPath(data.image.path, cwd)}: ${style(data.image.state === 'current' ? 'green' : 'yellow', data.image.state)}`
  const lines = table([head, ...rows], ['left', 'left', 'left', 'right', 'right', 'right', 'left'])
  const todo = data.layers.some((layer) => layer.state !== 'cached') || data.image.state !== 'current'
  return `${style('bold', data.project)} at ${printable(data.rev)}, ${base}${grown}\n${lines}\n${image}${todo ? style('dim', '   (git vlb build)') : ''}\n`
}

function buildText(data: BuildResult, { style, cwd }: TextOptions): string {
  const looks = { built: 'green', cached: 'dim', pulled: 'cyan', failed: 'red', skipped: 'dim' } as const
  const revisions = [...new Set(data.layers.map((layer) => layer.rev ?? ''))]
  const parts = revisions.map((rev) => {
    const rows = data.layers
      .filter((layer) => (layer.rev ?? '') === rev)
      .map((layer) => [
        layer.name === diskStep ? style('dim', '(disk grown)') : layer.name,
        style(looks[layer.result], data.dryRun && layer.result === 'skipped' ? 'to build' : layer.result),
        layer.result === 'built' || layer.result === 'failed' ? formatSeconds(layer.seconds) : '',
        layer.bytes > 0 ? formatBytes(layer.bytes) : '',
      ])
    return `${rev ? `${style('bold', printable(rev))}\n` : ''}${table(rows, ['left', 'left', 'right', 'right'])}\n`
  })
  const images = data.images.map((image) => {
    const how = image.written ? `written in ${formatSeconds(image.seconds)}` : 'already current'
    return `image ${shownPath(image.path, cwd)}  ${formatBytes(image.bytes)} ${image.format}, ${how}\n`
  })
  const built = data.layers.filter((layer) => layer.result === 'built').length
  const total =
    data.ok && !data.dryRun
      ? style(
          'dim',
          `${built} built, ${data.layers.length - built} from the store, ${formatSeconds(data.seconds)} in all\n`,
        )
      : ''
  const sbom = data.sbom ? `sbom ${shownPath(data.sbom.path, cwd)}  ${data.sbom.packages} packages\n` : ''
  return parts.join('') + images.join('') + sbom + total
}

function initText(data: InitResult, { style, cwd }: TextOptions): string {
  const folder = shownPath(data.directory, cwd)
  const files = data.files.map((file) => `  ${file}`).join('\n')
  const go = data.directory === cwd ? '' : `cd ${folder} && `
  const made = data.createdRepository ? ' in a new git repository' : ''
  return `${style('bold', data.template)} project in ${folder}${made}:\n${files}\nnext: ${go}git vlb build\n`
}

function doctorText(data: DoctorResult, { style }: TextOptions): string {
  const mark = (ok: boolean, required: boolean) =>
    ok ? style('green', 'ok') : required ? style('red', 'missing') : style('yellow', 'absent')
  const rows = data.checks.map((check) => [
    mark(check.ok, check.required),
    check.name,
    printable(check.found),
    style('dim', check.neededFor),
  ])
  const verdict = data.ok ? 'this host can build images' : style('red', 'this host cannot build images yet')
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  const next = data.install
    ? `\ninstall what is missing: ${sudo}${data.install.join(' ')}`
    : data.missing.length > 0
      ? `\ninstall what is missing: ${data.missing.join(', ')}`
      : ''
  return `${table(rows, ['left', 'left', 'left', 'left'])}\n${verdict}${next}\n`
}

const hookPlaces = {
  alone: '',
  block: 'in front of the script that is there',
  'first-line': 'started by the first line of the script that is there',
  kept: 'then the hook that was there, kept in git-vlb-kept/',
}

function hooksText(data: HooksResult, { style, cwd }: TextOptions): string {
  const looks = { installed: 'green', outdated: 'yellow', missing: 'yellow' } as const
  const rows = data.hooks.map(({ name, state, how, other }) => [
    name,
    data.action === 'uninstall' ? 'not installed' : style(looks[state], state),
    style('dim', how === null ? (other ? 'there is a hook of somebody else' : '') : hookPlaces[how]),
  ])
  const next = data.action === 'status' && data.hooks.some(({ state }) => state !== 'installed')
  return [
    `hooks in ${shownPath(data.folder, cwd)}${next ? style('dim', '   (git vlb hooks install)') : ''}\n`,
    `${table(rows, ['left', 'left', 'left'])}\n`,
    ...data.notes.map((note) => `${style('yellow', 'note')}: ${printable(note)}\n`),
  ].join('')
}

function bootText(data: BootResult, { style }: TextOptions): string {
  const how = `${data.accelerator}, ${formatSeconds(data.seconds)}`
  if (data.expect === null) return ''
  if (data.ok) return `${style('green', 'booted')}: the console showed "${printable(data.matched ?? '')}" (${how})\n`
  return `${style('red', 'failed')} (${how}): ${data.reason}\n`
}
