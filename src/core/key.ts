// The key of a layer: a digest of all that can change its result, and of nothing else.
//
// Encoding, version 1: the text `git-vlb key 1\n`, then each field as two netstrings (`LENGTH:BYTES,` for its name
// and its value, lengths in bytes), fields sorted by the bytes of their names. Length prefixes make it impossible
// for two different sets of fields to give one text. test/unit/core/key.test.ts pins it with golden vectors.
import { createHash } from 'node:crypto'
import { type ContentId, contentId, type Digest, type LayerKey, layerKey, type TreeId } from './ids.ts'

export type StepKind = 'build-base' | 'disk' | 'build-layer' | 'modify-disk' | 'layers'

export interface KeyInputs {
  kind: StepKind
  /**
   * Of this host as `uname -m` names it, for a build-base script: on another kind of machine it makes another base. What
   * stands on a base has its architecture through the base.
   */
  arch?: string
  /** What the layer stands on: the content id of its parent's snapshot, or the digest of the base disk. */
  parent?: ContentId
  base?: Digest
  /** The layer folder: its names, modes and contents. */
  tree?: TreeId
  /** Trees or blobs of `# vlb: include` paths, by path. */
  includes?: Record<string, string>
  /**
   * Declared values, by name. Those of a rolled-up layer by `STEP/NAME`: two of its steps may have different defaults.
   */
  env?: Record<string, string>
  /** Disk size in bytes: another size, another file system. */
  size?: number
  /** Which partition is the root, if the user said so: another root, another result. */
  root?: string
  /** Directives whose effect lies outside the tree they stand in are in the tree already; this is for engine
   * changes that alter results: bumped by us, never by users. */
  engine: number
}

/** Version of what the engine does to an image; part of every key. */
export const engineVersion = 1

type Field = readonly [name: string, value: string]

function fieldsOf(inputs: KeyInputs): Field[] {
  const fields: Field[] = [
    ['kind', inputs.kind],
    ['engine', String(inputs.engine)],
  ]
  if (inputs.arch !== undefined) fields.push(['arch', inputs.arch])
  if (inputs.parent !== undefined) fields.push(['parent', inputs.parent])
  if (inputs.base !== undefined) fields.push(['base', inputs.base])
  if (inputs.tree !== undefined) fields.push(['tree', inputs.tree])
  if (inputs.size !== undefined) fields.push(['size', String(inputs.size)])
  if (inputs.root !== undefined) fields.push(['root', inputs.root])
  for (const [path, id] of Object.entries(inputs.includes ?? {})) fields.push([`include:${path}`, id])
  for (const [name, value] of Object.entries(inputs.env ?? {})) fields.push([`env:${name}`, value])
  // Byte order, not locale order: the same on every machine.
  return fields.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

function netstring(text: string): string {
  return `${Buffer.byteLength(text)}:${text},`
}

export function encodeKey(inputs: KeyInputs): string {
  return `git-vlb key 1\n${fieldsOf(inputs)
    .map(([name, value]) => netstring(name) + netstring(value))
    .join('')}`
}

/** SHA-256 of the encoding, 64 hex digits. */
export function keyOf(inputs: KeyInputs): LayerKey {
  return layerKey(createHash('sha256').update(encodeKey(inputs)).digest('hex'))
}

/** The content id that a snapshot first built under `key` gets. */
export function firstContentId(key: LayerKey): ContentId {
  return contentId(key)
}

/** In which inputs two keys differ, in words: for `status`. */
export function differingInputs(before: KeyInputs, after: KeyInputs): string[] {
  const a = new Map(fieldsOf(before))
  const b = new Map(fieldsOf(after))
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => a.get(name) !== b.get(name))
}
