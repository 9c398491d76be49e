// Why a layer is not in the store, as one line for people.
import { printable } from '../core/errors.ts'
import { short } from '../core/ids.ts'
import type { ChangedFile, ChangeOrigin, LayerStatus, Why } from '../core/results-status.ts'
import { formatBytes } from '../core/units.ts'

type Of<Input extends Why['input']> = Extract<Why, { input: Input }>

/** '' for a layer that is cached. */
export function whyText({ name, reason, why, last }: LayerStatus): string {
  const lacking = why.some((one) => one.input === 'env' && one.change === 'missing')
  const parts = [...(lacking ? [reason] : []), ...why.map(part).filter((text) => text !== '')]
  if (parts.length === 0) return printable(reason)
  const renamed = last && last.layer !== name ? ` (it was ${printable(last.layer)})` : ''
  return parts.join('; ') + renamed
}

function part(why: Why): string {
  switch (why.input) {
    case 'tree':
      return filesText(why) + origin(why)
    case 'include':
      return `${printable(why.path)}, which it includes, ${why.change}`.replace(/added$/, 'is new') + origin(why)
    case 'parent':
      return parentText(why)
    case 'env':
      return why.change === 'missing' ? '' : `the value ${valueName(why.name)} ${valueChange[why.change]}`
    case 'nocache':
      return 'its script says nocache'
    case 'ttl':
      return 'older than its ttl'
    case 'size':
      return `disk.size ${size(why.before)} → ${size(why.after)}`
    case 'root':
      return `disk.root ${printable(String(why.before ?? 'found'))} → ${printable(String(why.after ?? 'found'))}`
    case 'base':
      return `the base changed: ${digest(why.before)} → ${digest(why.after)}`
    case 'kind':
      return `${printable(String(why.before))} became ${printable(String(why.after))}`
    case 'arch':
      return 'built for another architecture'
    case 'engine':
      return 'a newer git vlb builds differently'
  }
}

/** A step of a rolled-up layer has its values under its own name: STEP/NAME. */
function valueName(name: string): string {
  const [step = '', value] = printable(name).split('/')
  return value === undefined ? step : `${value} of ${step}`
}

const valueChange = { added: 'is new', removed: 'is not declared any more', changed: 'changed' }

function parentText({ layer, change }: Of<'parent'>): string {
  const name = printable(layer)
  const texts = {
    added: `${name} below it is new`,
    removed: `${name} is not below it any more`,
    moved: `the order of the layers below it changed, from ${name} on`,
    changed: `${name} below it changed`,
    missing: `${name} below it has to be built`,
  }
  return texts[change]
}

const fileChange = { added: 'added', modified: 'changed', deleted: 'deleted', mode: 'has another mode' }

function filesText({ files, more }: Of<'tree'>): string {
  if (files === null || files.length === 0) return 'its files changed'
  const named = files.slice(0, files.length + more > 3 ? 2 : 3)
  const rest = files.length + more - named.length
  const list = named.map(({ path, change }: ChangedFile) => `${printable(path, 60)} ${fileChange[change]}`).join(', ')
  return rest > 0 ? `${list} and ${rest} more` : list
}

function origin({ commit, uncommitted }: ChangeOrigin): string {
  const known = commit ? ` in ${commit.id.slice(0, 9)} "${printable(commit.subject, 50)}"` : ''
  if (!uncommitted) return known
  return commit ? `${known} and since then, not committed` : ', not committed'
}

function size(value: string | number | null): string {
  return typeof value === 'number' ? formatBytes(value) : "the base's"
}

function digest(value: string | number | null): string {
  return typeof value === 'string' ? short(value) : 'none'
}
