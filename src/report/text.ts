// Results of commands as text for people. A total switch: a new result does not compile until it is told here.
import { tapText } from '../core/check-reports.ts'
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import type { CommandResult, DoctorResult, InitResult } from '../core/results.ts'
import type { BootResult } from '../core/results-boot.ts'
import type { BuildResult, BuiltLayer } from '../core/results-build.ts'
import type { LayerStatus, StatusResult } from '../core/results-status.ts'
import { formatAge, formatBytes, formatSeconds } from '../core/units.ts'
import { hooksText, prebuildLine, prebuildText } from './background.ts'
import { checksText } from './checks.ts'
import { diffText } from './diff.ts'
import { keptLine, layerTable, shownPath, type TextOptions } from './layers.ts'
import { safeLines } from './lines.ts'
import { pruneText, pulledImageText, pullText, pushedImageText, pushText, remoteText } from './remote.ts'
import { rollupText } from './rollup.ts'
import { cacheText, gcText, roomText } from './store.ts'
import { table } from './table.ts'
import { whyText } from './why.ts'

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
      return options.terminal ? safeLines(result.data.text) : result.data.text
    case 'doctor':
      return doctorText(result.data, options)
    case 'changelog':
      return result.output === null ? result.text : `changelog ${shownPath(result.output, options.cwd)}\n`
    case 'shell':
      return result.data.recorded === null ? '' : `recorded in ${shownPath(result.data.recorded, options.cwd)}\n`
    case 'rollup':
      return rollupText(result.data, options.style)
    case 'hooks':
      return hooksText(result.data, options)
    case 'diff':
      return [...diffText(result.data, { style: options.style, terminal: options.terminal ?? false })].join('')
    case 'completion':
      return result.data.script
    case 'gc':
      return gcText(result.data, options)
    case 'cache':
      return cacheText(result.data, options)
    case 'prebuild':
      return prebuildText(result.data, options)
    case 'test-boot':
      if (result.tap) return tapText(result.data)
      return result.data.machines ? checksText(result.data, options) : bootText(result.data, options)
    case 'ls-remote':
      return remoteText(result.data, options.style)
    case 'ci':
      return result.data.path === null ? result.data.text : `workflow ${shownPath(result.data.path, options.cwd)}\n`
    case 'prune':
      return pruneText(result.data, options.style)
    case 'push':
      return pushText(result.data, options.style)
    case 'pull':
      return pullText(result.data, options.style)
    case 'push-image':
      return pushedImageText(result.data, options)
    case 'pull-image':
      return pulledImageText(result.data, options)
    case 'cloud-init': {
      const { path, bytes, format, files, instanceId } = result.data
      const what = `${formatBytes(bytes)} ${format}, ${files.join(', ')}, instance ${printable(instanceId, 80)}`
      return `seed ${shownPath(path, options.cwd)}  ${what}\n`
    }
  }
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
  const image = `image ${shownPath(data.image.path, cwd)}: ${style(data.image.state === 'current' ? 'green' : 'yellow', data.image.state)}${data.image.tested === null ? '' : `, ${style('green', 'tested')} ${formatAge((Date.now() - Date.parse(data.image.tested)) / 1000)} ago`}`
  const lines = table([head, ...rows], ['left', 'left', 'left', 'right', 'right', 'right', 'left'])
  const todo = data.layers.some((layer) => layer.state !== 'cached') || data.image.state !== 'current'
  return `${style('bold', data.project)} at ${printable(data.rev)}, ${base}${grown}\n${lines}\n${image}${todo ? style('dim', '   (git vlb build)') : ''}\n${rollupLine(data)}${data.prebuild ? prebuildLine(data.prebuild, { style, cwd }) : ''}${storeLine(data.store)}`
}

function rollupLine({ layers, rollup }: StatusResult): string {
  if (!rollup) return ''
  const { from, to } = rollup
  return `with ${layers.length} layers each build takes longer: git vlb rollup ${from}..${to} makes one of ${rollup.layers}, the same disk\n`
}

/** Nothing where there is no store yet, or nobody counted. */
function storeLine({ bytes, budgetBytes }: StatusResult['store']): string {
  return bytes === null ? '' : `store ${roomText(bytes, budgetBytes)}\n`
}

function buildText(data: BuildResult, { style, cwd }: TextOptions): string {
  const revisions = [...new Set(data.layers.map((layer) => layer.rev ?? ''))]
  const parts = revisions.map((rev) => {
    const layers = data.layers.filter((layer) => (layer.rev ?? '') === rev)
    return `${rev ? `${style('bold', printable(rev))}\n` : ''}${layerTable(layers, data.dryRun, style)}`
  })
  const images = data.images.map((image) => {
    const how = image.written ? `written in ${formatSeconds(image.seconds)}` : 'already current'
    return `image ${shownPath(image.path, cwd)}  ${formatBytes(image.bytes)} ${image.format}, ${how}\n`
  })
  const count = (result: BuiltLayer['result']) => data.layers.filter((layer) => layer.result === result).length
  const [built, pulled] = [count('built'), count('pulled')]
  const fetched = pulled > 0 ? `${pulled} pulled, ` : ''
  const total =
    data.ok && !data.dryRun
      ? style(
          'dim',
          `${built} built, ${fetched}${data.layers.length - built - pulled} from the store, ${formatSeconds(data.seconds)} in all\n`,
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

function bootText(data: BootResult, { style, cwd }: TextOptions): string {
  const how = `${data.accelerator}, ${formatSeconds(data.seconds)}`
  const left = data.screenshot === null ? [] : [`screen ${shownPath(data.screenshot, cwd)}`]
  if (data.kept !== null) left.push(keptLine(data.kept, data.image, cwd))
  const lines = left.map((line) => `${line}\n`).join('')
  if (data.expect === null && data.ok) return lines
  if (data.ok)
    return `${style('green', 'booted')}: the console showed "${printable(data.matched ?? '')}" (${how})\n${lines}`
  return `${style('red', 'failed')} (${how}): ${data.reason}\n${lines}`
}
