// The plan of a build: what the chain of a revision is made of, and the key of each step.
import type { Config } from './config.ts'
import { printable, VlbError } from './errors.ts'
import { type ContentId, type Digest, type LayerKey, layerKey } from './ids.ts'
import { engineVersion, firstContentId, type KeyInputs, keyOf } from './key.ts'
import { compareLayerNames, type Layer } from './layer.ts'
import { stepPath } from './rolled-up.ts'

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
  /** What its snapshot is, or will be if it is built as things stand. */
  content: ContentId
  /** The declared value that nobody gave. */
  lacks?: string
  /** Of a rolled-up layer: its layers as steps of their own, with the keys that they would have outside of it. */
  inner?: Step[]
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
  const above = (): Ground | undefined => standsOn(steps.at(-1), context.base ? { base: context.base } : {})
  const addLayer = async (layer: Layer) => {
    const on = above()
    const step = await planStep(source, layer.name, layer, on, ownInputs(source, layer, context), context)
    steps.push(layer.steps ? await rolledUp(source, step, on, layer.steps, context) : step)
  }
  const [first] = layers
  const baseLayer = first?.kind === 'build-base' ? first : undefined
  const rest = baseLayer ? layers.slice(1) : layers
  if (baseLayer) await addLayer(baseLayer)
  const { size } = config.disk
  if (size !== undefined)
    steps.push(await planStep(source, diskStep, undefined, above(), { inputs: { kind: 'disk', size } }, context))
  for (const layer of rest) await addLayer(layer)
  return steps
}

type Ground = Pick<KeyInputs, 'parent' | 'base'>

/** What a step is made from, but for what it stands on. */
interface Own {
  inputs: Partial<KeyInputs> & Pick<KeyInputs, 'kind'>
  lacks?: string
}

/** What comes after `below` stands on; undefined where that cannot be known. */
function standsOn(below: Step | undefined, ground: Ground | undefined): Ground | undefined {
  if (!below) return ground
  return below.key === noKey ? undefined : { parent: below.content }
}

async function planStep(
  { config }: Source,
  name: string,
  layer: Layer | undefined,
  on: Ground | undefined,
  own: Own,
  context: KeyContext,
): Promise<Step> {
  const root = config.disk.root === undefined ? {} : { root: config.disk.root }
  const arch = own.inputs.kind === 'build-base' ? { arch: context.arch } : {}
  const inputs: KeyInputs = { engine: engineVersion, ...arch, ...on, ...root, ...own.inputs }
  const key = on && own.lacks === undefined ? keyOf(inputs) : noKey
  const content = (key === noKey ? undefined : await context.contentOf(key)) ?? firstContentId(key)
  return { name, layer, inputs, key, content, ...(own.lacks === undefined ? {} : { lacks: own.lacks }) }
}

function ownInputs({ config }: Source, layer: Layer, context: KeyContext): Own {
  const lacks = context.look ? missingValue(declaredValues(layer, config, context.env)) : undefined
  const env = lacks === undefined ? valuesOf(layer, config, context) : {}
  const values = Object.keys(env).length > 0 ? { env } : {}
  const inputs = { kind: layer.kind, tree: layer.tree, ...values, ...includesOf(layer) }
  return lacks === undefined ? { inputs } : { inputs, lacks }
}

/** Two steps of a rolled-up layer may have different defaults for one name, so there the step is part of the name. */
function valuesOf(layer: Layer, config: Config, context: KeyContext): Record<string, string> {
  if (!layer.steps) return environmentOf(layer, config, context.env)
  const each = layer.steps.map((step) =>
    Object.entries(environmentOf(step, config, context.env)).map(([name, value]) => [`${step.name}/${name}`, value]),
  )
  return Object.fromEntries(each.flat())
}

/**
 * A rolled-up layer is what its last step is: so what stands on it has the same keys as before it was rolled up, in every
 * clone, whether or not the steps were ever built there.
 */
async function rolledUp(
  source: Source,
  step: Step,
  on: Ground | undefined,
  layers: readonly Layer[],
  context: KeyContext,
): Promise<Step> {
  const known = step.key === noKey ? undefined : await context.contentOf(step.key)
  // Where the whole is there, its steps need not be, and are not looked for.
  const inner = await planInner(source, step.name, on, layers, {
    ...context,
    contentOf: known ? async () => undefined : context.contentOf,
  })
  return { ...step, inner, content: known ?? inner.at(-1)?.content ?? step.content }
}

/** The steps of the rolled-up layer `name`, which stands on `on`. */
export async function planInner(
  source: Source,
  name: string,
  on: Ground | undefined,
  layers: readonly Layer[],
  context: KeyContext,
): Promise<Step[]> {
  const steps: Step[] = []
  for (const layer of layers) {
    const ground = standsOn(steps.at(-1), on)
    const own = ownInputs(source, layer, context)
    steps.push(await planStep(source, stepPath(name, layer.name), layer, ground, own, context))
  }
  return steps
}

/** The steps that have scripts of their own, or none to run at all: those of a rolled-up layer in its place. */
export function leaves(steps: readonly Step[]): Step[] {
  return steps.flatMap((step) => step.inner ?? [step])
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
