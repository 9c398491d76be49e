// `git vlb rollup` as a plan: which layers a range means, whether they can be rolled up, what moves where under which
// name, and what the commit says. Pure.
import { printable, VlbError } from './errors.ts'
import { compareLayerNames, isLayerName, type Layer, stepsFolder } from './layer.ts'
import { nearest } from './nearest.ts'
import { findLayer } from './plan.ts'
import { stepPath } from './rolled-up.ts'

/** The layers from FROM to TO, by name or number. `layers` are all of the project, in their order. */
export function parseRange(text: string, layers: readonly Layer[]): Layer[] {
  const [from, to] = endsOf(text, layers)
  const range = layers.slice(layers.indexOf(from), layers.indexOf(to) + 1)
  if (range.length > 1) return range
  if (from === to) {
    throw new VlbError('VLB_USAGE', `${printable(text)} is one layer, ${from.name}: there is nothing to roll up`, {
      hint: example(layers),
    })
  }
  throw new VlbError('VLB_USAGE', `${from.name} comes after ${to.name}`, {
    hint: `git vlb rollup ${to.name}..${from.name}`,
  })
}

function example(layers: readonly Layer[]): string {
  const [first, last] = [layers[0]?.name, layers.at(-1)?.name]
  return `give a range of two layers or more, such as ${first}..${last}; layers: ${layers.map((l) => l.name).join(', ')}`
}

/** A name may itself hold two dots: the split at which both ends are layers counts. */
function endsOf(text: string, layers: readonly Layer[]): [Layer, Layer] {
  const splits = [...text.matchAll(/\.(?=\.)/g)]
    .map(({ index }) => [text.slice(0, index), text.slice(index + 2)] as const)
    .filter(([from, to]) => from !== '' && to !== '')
  const [first] = splits
  if (!first)
    throw new VlbError('VLB_USAGE', `rollup takes a range FROM..TO, not "${printable(text)}"`, {
      hint: example(layers),
    })
  const known = (end: string) => layers.some(({ name }) => name === end.replace(/\/+$/, '')) || /^\d+$/.test(end)
  const [from, to] = splits.find((ends) => ends.every(known)) ?? first
  return [findEnd(from, layers), findEnd(to, layers)]
}

function findEnd(wanted: string, layers: readonly Layer[]): Layer {
  try {
    return findLayer(layers, wanted)
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_LAYER_UNKNOWN') throw error
    const near = nearestLayers(wanted, layers)
    if (near.length === 0) throw error
    throw new VlbError('VLB_LAYER_UNKNOWN', error.message, { hint: `nearest: ${near.join(', ')}; ${error.hint}` })
  }
}

/** By number those before and behind it, by name the one that reads most like it. */
function nearestLayers(wanted: string, layers: readonly Layer[]): string[] {
  const names = layers.map(({ name }) => name)
  if (/^\d+$/.test(wanted)) {
    const below = names.filter((name) => compareLayerNames(name, `${wanted}_`) < 0).at(-1)
    const above = names.find((name) => compareLayerNames(name, `${wanted}_`) > 0)
    return [below, above].filter((name) => name !== undefined)
  }
  const meant = nearest(wanted, names) ?? names.find((name) => stem(name) === stem(wanted))
  return meant === undefined ? [] : [meant]
}

const stem = (name: string): string => name.slice(name.indexOf('_') + 1)
const numberOf = (name: string): string => name.slice(0, name.indexOf('_'))

/** The layers with those of rolled-up ones in their place, by their path below the project. */
function flatten(range: readonly Layer[]): { path: string; layer: Layer }[] {
  return range.flatMap((layer) =>
    layer.steps
      ? layer.steps.map((step) => ({ path: stepPath(layer.name, step.name), layer: step }))
      : [{ path: layer.name, layer }],
  )
}

/** Refuses layers that could not be one. `all` are the project's; `base` is the path of a base that lies in it. */
export function checkRollable(range: readonly Layer[], all: readonly Layer[], base: string | undefined): void {
  const steps = flatten(range)
  const refuse = (what: string, hint: string) => new VlbError('VLB_ROLLUP', what, { hint })
  const made = steps.find(({ layer }) => layer.kind === 'build-base')
  if (made) {
    const rest = range.length > 2 ? `: git vlb rollup ${all[1]?.name}..${range.at(-1)?.name}` : ''
    throw refuse(`${made.path} makes the base, and a rolled-up layer stands on one`, `leave it out${rest}`)
  }
  const always = steps.filter(({ layer }) => layer.directives.nocache)
  if (always.length > 0) {
    throw refuse(
      `${namesOf(always)} ${always.length === 1 ? 'says' : 'say'} nocache: every build would build the rolled-up layer anew`,
      'roll up what is below, or take the line out of the script',
    )
  }
  const kept = steps.filter(({ layer }) => layer.directives.noshare)
  if (kept.length > 0 && kept.length < steps.length) {
    throw refuse(
      `${namesOf(kept)} ${kept.length === 1 ? 'says' : 'say'} noshare, and the others do not: one snapshot is shared or not`,
      'roll up those before or behind, or have all of them say noshare',
    )
  }
  checkPaths(range, all, base)
}

/** What names a path in one of the folders would look for it in vain afterwards. */
function checkPaths(range: readonly Layer[], all: readonly Layer[], base: string | undefined): void {
  const moved = (path: string) => range.find(({ name }) => path === name || path.startsWith(`${name}/`))
  const users = [
    ...flatten(all).flatMap(({ path, layer }) => layer.directives.includes.map((include) => [path, include] as const)),
    ...(base === undefined ? [] : [['vlb.yaml', base.replace(/^(\.\/)+/, '')] as const]),
  ]
  for (const [user, path] of users) {
    const folder = moved(path)
    if (!folder) continue
    throw new VlbError('VLB_ROLLUP', `${user} needs ${printable(path)}, and ${folder.name} would move`, {
      hint: `move what it needs out of ${folder.name} first, into a folder that is no layer`,
    })
  }
}

function namesOf(steps: readonly { path: string }[]): string {
  return listed(steps.map(({ path }) => path))
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}

/** Paths below the project's folder. */
export interface Move {
  from: string
  to: string
}

export interface RollupPlan {
  /** Of the new layer. */
  name: string
  range: readonly Layer[]
  /** In order. */
  moves: Move[]
  /** Folders of rolled-up layers that are empty then, inner ones first. */
  emptied: string[]
}

/** What becomes of the range. `wanted` is the new layer's name, with or without its number. */
export function planRollup(range: readonly Layer[], all: readonly Layer[], wanted: string | undefined): RollupPlan {
  const name = newName(range, wanted)
  checkPlace(name, range, all)
  const steps = flatten(range)
  const names = stepNames(steps.map(({ layer }) => layer.name))
  const moves = steps.map(({ path }, i) => ({ from: path, to: stepPath(name, names[i] ?? '') }))
  const emptied = range.flatMap((layer) => (layer.steps ? [`${layer.name}/${stepsFolder}`, layer.name] : []))
  return { name, range, moves, emptied }
}

/** Their own, unless they would then run in another order: the steps of a rolled-up layer have numbers of their own. */
function stepNames(names: readonly string[]): string[] {
  const inOrder = names.every((name, i) => i === 0 || compareLayerNames(names[i - 1] ?? '', name) < 0)
  if (inOrder) return [...names]
  const width = String(names.length * 10).length
  return names.map((name, i) => `${String((i + 1) * 10).padStart(Math.max(2, width), '0')}_${stem(name)}`)
}

const longestDefault = 40

function newName(range: readonly Layer[], wanted: string | undefined): string {
  const [first, last] = [range[0]?.name ?? '', range.at(-1)?.name ?? '']
  const number = numberOf(first)
  if (wanted === undefined) {
    const joined = range.map(({ name }) => stem(name)).join('-')
    const short = joined.length <= longestDefault ? joined : `${stem(first)}-to-${stem(last)}`
    return `${number}_${short.length <= 100 ? short : 'rolled-up'}`
  }
  const name = /^\d+_/.test(wanted) ? wanted : `${number}_${wanted}`
  if (!/^\d{2,}_[A-Za-z0-9._-]+$/.test(name) || !isLayerName(name)) {
    throw new VlbError('VLB_LAYER_NAME', `"${printable(wanted)}" cannot be the name of a layer`, {
      hint: 'use letters, digits, ".", "_" and "-"',
    })
  }
  if (numberOf(name) === number) return name
  throw new VlbError('VLB_LAYER_NAME', `the rolled-up layer takes the place of ${first}, and so its number`, {
    hint: `--name ${stem(name)}`,
  })
}

/** The new folder must not be another layer's, nor come to stand before or behind one that shares its number. */
function checkPlace(name: string, range: readonly Layer[], all: readonly Layer[]): void {
  const others = all.filter((layer) => !range.includes(layer))
  if (others.some((layer) => layer.name === name))
    throw new VlbError('VLB_EXISTS', `there is a layer ${name} already`, { hint: 'give another name: --name NAME' })
  const at = all.indexOf(range[0] as Layer)
  const astray =
    all.slice(0, at).find((layer) => compareLayerNames(layer.name, name) > 0) ??
    all.slice(at + range.length).find((layer) => compareLayerNames(layer.name, name) < 0)
  if (!astray) return
  throw new VlbError('VLB_ROLLUP', `${name} would change places with ${astray.name}, which has the same number`, {
    hint: `give another name: --name NAME; or renumber ${astray.name} first`,
  })
}

/** A commit that touched a layer. */
export interface LayerCommit {
  id: string
  author: string
  /** YYYY-MM-DD. */
  date: string
  subject: string
}

export interface RolledLayer {
  name: string
  key: string
  commits: readonly LayerCommit[]
  /** How many more there are. */
  more: number
}

export interface RolledInto {
  name: string
  key: string
  contentId: string
}

/** The commit's message. `given` takes the place of its first lines. */
export function rollupMessage(given: string | undefined, layers: readonly RolledLayer[], into: RolledInto): string {
  const names = layers.map(({ name }) => name)
  const full = `Roll up ${listed(names)} into ${into.name}`
  const subject = full.length <= 72 ? full : `Roll up ${names[0]}..${names.at(-1)} into ${into.name}`
  const blocks = layers.map(({ name, commits, more }) =>
    [
      `${name}:`,
      ...commits.map(({ id, date, author, subject: what }) => printable(`  ${id} ${date} ${author}: ${what}`, 200)),
      ...(more > 0 ? [`  and ${more} before`] : []),
      ...(commits.length === 0 ? ['  (no commit is known)'] : []),
    ].join('\n'),
  )
  const trailers = [
    ...layers.map(({ name, key }) => `${trailer}: ${name} ${key}`),
    `${trailer}: ${into.name} ${into.key} -> ${into.contentId}`,
  ]
  const head = given?.trim() || `${subject}\n\nThe image stays the same, bit by bit.`
  return `${[head, ...blocks, trailers.join('\n')].join('\n\n')}\n`
}

const trailer = 'Vlb-Rollup'

export interface RollupTrailers {
  layers: { name: string; key: string }[]
  into: RolledInto
}

/** What a commit's message says of a rollup; undefined if it says nothing, or nothing that makes sense. */
export function readRollupTrailers(message: string): RollupTrailers | undefined {
  const lines = message.split('\n').filter((line) => line.startsWith(`${trailer}: `))
  const found = lines.map((line) => /^Vlb-Rollup: (\S+) ([0-9a-f]{64})(?: -> ([0-9a-f]{64}))?$/.exec(line.trimEnd()))
  const last = found.pop()
  if (!last?.[3] || found.length < 2 || found.some((one) => !one || one[3])) return undefined
  const layers = found.map((one) => ({ name: one?.[1] ?? '', key: one?.[2] ?? '' }))
  return { layers, into: { name: last[1] ?? '', key: last[2] ?? '', contentId: last[3] } }
}
