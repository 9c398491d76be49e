// Revisions as core/reach.ts follows them, read from git objects. Each tree is read once, however many branches have it;
// and what cannot be built is followed as far as it can.
import { stat } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { type BaseSource, type Config, configFile } from '../core/config.ts'
import { parseConfig } from '../core/config-file.ts'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { compareLayerNames, type Layer, type TreeEntry } from '../core/layer.ts'
import type { Part, Shape } from '../core/reach.ts'
import { lookup, type Objects } from '../git/objects.ts'
import type { LocalStore } from '../store/local.ts'
import { baseFileIdentity, blobIdentity, knownDigest } from './base-digests.ts'
import { readLayer } from './layers.ts'
import { isLayerLike } from './sides.ts'

/** A base of the store, as its record tells of it. */
export interface KnownBase {
  digest: string
  source: string
}

export interface ShapeContext {
  store: LocalStore
  /** Folder of the project below the repository's top. */
  prefix: string
  /**
   * Where it lies in working trees: a base that git does not hold is beside one of them. Without any, that may be whatever
   * base there is: what lies there now need not be what others have built on.
   */
  folders: readonly string[]
  /** All that the store has. */
  bases: readonly KnownBase[]
}

export class Shapes {
  readonly #context: ShapeContext
  readonly #configs = new Map<string, Config | undefined>()
  readonly #layers = new Map<string, Layer | undefined>()
  readonly #parts = new Map<string, Part>()
  readonly #files = new Map<string, Promise<string[]>>()

  constructor(context: ShapeContext) {
    this.#context = context
  }

  /** Undefined where the project is not in that tree. */
  async ofTree(objects: Objects, root: TreeId): Promise<Shape | undefined> {
    const top = await lookup(objects, root, this.#context.prefix)
    if (top?.mode !== '40000') return undefined
    const project = treeId(top.oid)
    const entries = await objects.tree(project)
    const blob = entries.find(({ name, mode }) => name === configFile && mode.startsWith('100'))
    const config = blob && (await this.#config(objects, blob.oid))
    if (!blob) return undefined
    if (!config) return { bases: [], size: undefined, root: undefined, layers: [], unreadable: configFile }
    const layers: Layer[] = []
    let unreadable: string | undefined
    for (const entry of layersIn(entries)) {
      const layer = await this.#layer(objects, entry)
      if (!layer) {
        unreadable = entry.name
        break
      }
      layers.push(layer)
    }
    const shape = await this.ofLayers(objects, project, config, layers)
    return unreadable === undefined ? shape : { ...shape, unreadable }
  }

  /** Of what was read already; stops at a layer that includes what is not there. */
  async ofLayers(
    objects: Objects,
    project: TreeId | undefined,
    config: Config,
    layers: readonly Layer[],
  ): Promise<Shape> {
    const { size, root } = config.disk
    const parts: Part[] = []
    for (const layer of layers) {
      const part = await this.#part(objects, project, layer)
      if (!part) break
      parts.push(part)
    }
    const bases = config.base ? await this.#bases(objects, project, config.base) : []
    return { bases, size, root, layers: parts }
  }

  async #config(objects: Objects, oid: string): Promise<Config | undefined> {
    if (!this.#configs.has(oid)) {
      const { folders } = this.#context
      const text = (await objects.blob(oid)).toString('utf8')
      this.#configs.set(
        oid,
        unlessInvalid(() => parseConfig(text, configFile, basename(folders[0] ?? 'project'))),
      )
    }
    return this.#configs.get(oid)
  }

  async #layer(objects: Objects, entry: TreeEntry): Promise<Layer | undefined> {
    if (!this.#layers.has(entry.oid)) {
      const layer = await readLayer(objects, entry, async () => false).catch(expected)
      this.#layers.set(entry.oid, layer)
    }
    return this.#layers.get(entry.oid)
  }

  async #part(objects: Objects, project: TreeId | undefined, layer: Layer): Promise<Part | undefined> {
    const includes: Record<string, string> = {}
    for (const path of layer.directives.includes) {
      const entry = project && (await lookup(objects, project, path))
      if (!entry) return undefined
      includes[path] = `${entry.mode} ${entry.oid}`
    }
    // One object for what is the same, by which the walk knows it again.
    const name = JSON.stringify([layer.tree, layer.kind, includes])
    const known = this.#parts.get(name)
    if (known) return known
    const steps: Part[] = []
    for (const step of layer.steps ?? []) {
      const part = await this.#part(objects, project, step)
      if (!part) return undefined
      steps.push(part)
    }
    const part = { kind: layer.kind, tree: layer.tree, includes, ...(layer.steps ? { steps } : {}) }
    this.#parts.set(name, part)
    return part
  }

  /**
   * The digests that a base may have. One without a digest in vlb.yaml is a file whose digest may not be known: it is not
   * read for that, and whatever came from a file of that name is taken for it.
   */
  async #bases(objects: Objects, project: TreeId | undefined, base: BaseSource): Promise<string[]> {
    if (base.digest) return [`${base.digest.algorithm}:${base.digest.hex}`]
    if (base.from === 'url') return []
    const { store, bases } = this.#context
    const tracked = project && !base.path.startsWith('/') ? await lookup(objects, project, base.path) : undefined
    const blob = tracked?.mode.startsWith('100') ? await knownDigest(store, blobIdentity(tracked.oid)) : undefined
    const found = blob === undefined ? await this.#baseFiles(base.path) : [`sha256:${blob}`]
    if (found.length > 0) return found
    const named = bases.filter(({ source }) => source === base.path)
    return (named.length > 0 ? named : bases).map(({ digest }) => digest)
  }

  async #baseFiles(path: string): Promise<string[]> {
    const known = this.#files.get(path) ?? this.#findBaseFiles(path)
    this.#files.set(path, known)
    return await known
  }

  async #findBaseFiles(path: string): Promise<string[]> {
    const found = new Set<string>()
    for (const folder of this.#context.folders) {
      try {
        const file = resolve(folder, path)
        if (!(await stat(file)).isFile()) continue
        const hex = await knownDigest(this.#context.store, await baseFileIdentity(file))
        if (hex !== undefined) found.add(`sha256:${hex}`)
      } catch (error) {
        if (!hasErrorCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error
      }
    }
    return [...found]
  }
}

function layersIn(entries: readonly TreeEntry[]): TreeEntry[] {
  return entries
    .filter(({ name, mode }) => mode === '40000' && isLayerLike(name))
    .sort((a, b) => compareLayerNames(a.name, b.name))
}

function expected(error: unknown): undefined {
  if (!(error instanceof VlbError)) throw error
}

function unlessInvalid<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    return expected(error)
  }
}
