// The plan of a build: what the chain of a revision is made of, and the key of each step.
import type { Config } from './config.ts'
import { printable, VlbError } from './errors.ts'
import { type ContentId, type Digest, type LayerKey, layerKey } from './ids.ts'
import { engineVersion, firstContentId, type KeyInputs, keyOf } from './key.ts'
import { compareLayerNames, type Layer } from './layer.ts'

/** The revision a plan is for, with all that was read of it. */
export interface Source {
  /** What people call it: a revision as given, or '' for the working tree. */
  label: string
  commit: string | undefined
  config: Config
  layers: Layer[]
}

/** A step of a chain. The `disk` step grows the base; it has no folder. */
export interface Step {
  name: string
  layer: Layer | undefined
  inputs: KeyInputs
  /** `noKey` for a step that lacks a value, and for those above it. */
  key: LayerKey
  /** The declared value that nobody gave. */
  lacks?: string
}

export const diskStep = 'disk'

/** Instead of a key that cannot be known. */
export const noKey = layerKey('')

export interface KeyContext {
  arch: string
  /** Digest of the base of `vlb.yaml`; undefined with a build-base layer. */
  base: Digest | undefined
  /** Values given with --env. */
  env: Record<string, string>
  /** The content id of a snapshot that is there; undefined otherwise. */
  contentOf: (key: LayerKey) => Promise<ContentId | undefined>
  /** For a look at the chain: a layer that lacks a value is no error, but gets no key, and nor do those above it. */
  look?: boolean
}

/** Sorted, and checked for what makes a chain impossible. */
export function checkLayers(layers: readonly Layer[], config: Config, file: string): Layer[] {
  const sorted = [...layers].sort((a, b) => compareLayerNames(a.name, b.name))
  const [first, ...others] = sorted
  if (!first) {
    throw new VlbError('VLB_NO_LAYERS', 'this project has no layers', { hint: 'make one: git vlb new NAME' })
  }
  const misplaced = others.find((layer) => layer.kind === 'build-base')
  if (misplaced) {
    throw new VlbError('VLB_LAYER_KIND', `${misplaced.name} holds a build-base script, but is not the first layer`, {
      hint: `only the first layer makes a base; the first is ${first.name}`,
    })
  }
  if (first.kind === 'build-base' && config.base) {
    throw new VlbError('VLB_CONFIG', `${file} names a base, and ${first.name} makes one`, {
      hint: 'keep one of the two',
    })
  }
  if (first.kind !== 'build-base' && !config.base) {
    throw new VlbError('VLB_NO_BASE', `no base: ${file} has no "base:", and ${first.name} holds no build-base script`, {
      hint: 'add base: { path: … } or base: { url: …, sha256: … } to vlb.yaml, or a first layer with build-base',
    })
  }
  return sorted
}

/** The layers up to and with `last`, a name or a number. */
export function upTo(layers: readonly Layer[], last: string | undefined): Layer[] {
  if (last === undefined) return [...layers]
  return layers.slice(0, layers.indexOf(findLayer(layers, last)) + 1)
}

/** A layer by name or number. */
export function findLayer(layers: readonly Layer[], wanted: string): Layer {
  const folder = wanted.replace(/\/+$/, '')
  const found = layers.filter(
    (layer) =>
      layer.name === folder || (/^\d+$/.test(folder) && BigInt(layer.name.split('_')[0] ?? '') === BigInt(folder)),
  )
  const [layer, second] = found
  if (!layer) {
    throw new VlbError('VLB_LAYER_UNKNOWN', `no layer "${printable(wanted)}"`, {
      hint: `layers: ${layers.map((l) => l.name).join(', ')}`,
    })
  }
  if (second) {
    throw new VlbError('VLB_LAYER_UNKNOWN', `"${wanted}" could be ${found.map((l) => l.name).join(' or ')}`, {
      hint: 'give the whole name',
    })
  }
  return layer
}

/** Refuses `--env` values that no layer declares: a typing error would else go unnoticed. */
export function checkEnvironment(layers: readonly Layer[], given: Record<string, string>): void {
  const declared = new Set(layers.flatMap((layer) => Object.keys(layer.directives.env)))
  const stray = Object.keys(given).find((name) => !declared.has(name))
  if (stray === undefined) return
  throw new VlbError('VLB_ENV', `no layer declares the value ${stray}`, {
    hint:
      declared.size > 0
        ? `declared: ${[...declared].sort().join(', ')}`
        : `declare it in a layer's script: # vlb: env ${stray}`,
  })
}

/** A name such as "constructor" is a value only where somebody gave it. */
function own(values: Record<string, string>, name: string): string | undefined {
  return Object.hasOwn(values, name) ? values[name] : undefined
}

/** The values a layer gets: `--env`, else vlb.yaml, else the default of its directive. */
export function environmentOf(layer: Layer, config: Config, given: Record<string, string>): Record<string, string> {
  const values = declaredValues(layer, config, given)
  const lacking = missingValue(values)
  if (lacking === undefined) return values as Record<string, string>
  throw new VlbError('VLB_ENV', `${layer.name} ${needsValue(lacking)}`, { hint: giveValue(lacking) })
}

function declaredValues(
  layer: Layer,
  config: Config,
  given: Record<string, string>,
): Record<string, string | undefined> {
  const declared = Object.entries(layer.directives.env)
  return Object.fromEntries(
    declared.map(([name, fallback]) => [name, own(given, name) ?? own(config.env, name) ?? fallback]),
  )
}

function missingValue(values: Record<string, string | undefined>): string | undefined {
  return Object.keys(values).find((name) => values[name] === undefined)
}

export const needsValue = (name: string): string => `needs a value for ${name}`
export const giveValue = (name: string): string => `give --env ${name}=…, or env: { ${name}: … } in vlb.yaml`

/** The chain of steps with their keys. A child's key is made from its parent's content id where that is known. */
export async function planSteps(source: Source, layers: readonly Layer[], context: KeyContext): Promise<Step[]> {
  const { config } = source
  const steps: Step[] = []
  const standsOn = async (parent: Step | undefined): Promise<Pick<KeyInputs, 'parent' | 'base'>> => {
    if (!parent) return context.base ? { base: context.base } : {}
    if (parent.key === noKey) return {}
    return { parent: (await context.contentOf(parent.key)) ?? firstContentId(parent.key) }
  }
  const add = async (
    name: string,
    layer: Layer | undefined,
    more: Partial<KeyInputs> & Pick<KeyInputs, 'kind'>,
    lacks?: string,
  ) => {
    const parent = steps.at(-1)
    const root = config.disk.root === undefined ? {} : { root: config.disk.root }
    const arch = more.kind === 'build-base' ? { arch: context.arch } : {}
    const inputs: KeyInputs = { engine: engineVersion, ...arch, ...(await standsOn(parent)), ...root, ...more }
    const known = parent?.key !== noKey && lacks === undefined
    steps.push({ name, layer, inputs, key: known ? keyOf(inputs) : noKey, ...(lacks === undefined ? {} : { lacks }) })
  }
  const [first] = layers
  const baseLayer = first?.kind === 'build-base' ? first : undefined
  const rest = baseLayer ? layers.slice(1) : layers
  const addLayer = async (layer: Layer) => {
    const lacks = context.look ? missingValue(declaredValues(layer, config, context.env)) : undefined
    const env = lacks === undefined ? environmentOf(layer, config, context.env) : {}
    const inputs = {
      kind: layer.kind,
      tree: layer.tree,
      ...(Object.keys(env).length > 0 ? { env } : {}),
      ...includesOf(layer),
    }
    await add(layer.name, layer, inputs, lacks)
  }
  if (baseLayer) await addLayer(baseLayer)
  if (config.disk.size !== undefined) await add(diskStep, undefined, { kind: 'disk', size: config.disk.size })
  for (const layer of rest) await addLayer(layer)
  return steps
}

function includesOf(layer: Layer): Pick<KeyInputs, 'includes'> {
  const entries = Object.entries(layer.includes).map(([path, entry]) => [path, `${entry.mode} ${entry.oid}`])
  return entries.length === 0 ? {} : { includes: Object.fromEntries(entries) }
}

/** Refuses secrets that no layer declares, and layers that are to be built without a secret they declare. */
export function checkSecrets(layers: readonly Layer[], given: ReadonlySet<string>): void {
  const declared = new Set(layers.flatMap((layer) => layer.directives.secrets))
  const stray = [...given].find((id) => !declared.has(id))
  if (stray === undefined) return
  throw new VlbError('VLB_SECRET', `no layer declares the secret ${stray}`, {
    hint:
      declared.size > 0
        ? `declared: ${[...declared].sort().join(', ')}`
        : `declare it in a layer's script: # vlb: secret ${stray}`,
  })
}

/** The secrets a layer that is to be built gets. */
export function secretsOf(layer: Layer, given: ReadonlyMap<string, Buffer>): Map<string, Buffer> {
  const secrets = new Map<string, Buffer>()
  for (const id of layer.directives.secrets) {
    const value = given.get(id)
    if (!value) {
      throw new VlbError('VLB_SECRET', `${layer.name} needs the secret ${id}`, {
        hint: `git vlb build --secret id=${id},src=FILE, or --secret id=${id},env=NAME`,
      })
    }
    secrets.set(id, value)
  }
  return secrets
}
