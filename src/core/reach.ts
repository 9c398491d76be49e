// What of a store a revision needs: the snapshots that a build of it would find. Found without keys of its own, by
// following its layers through what the manifests say their keys were made from. So a declared value does not matter: what
// was built with `--env` is found as well as what vlb.yaml says. And layers that nobody built cost nothing: the walk ends
// where the store does.
import type { SnapshotId } from './ids.ts'
import { engineVersion, type KeyInputs, type StepKind } from './key.ts'
import type { Manifest } from './manifest.ts'

/** A layer, as far as it matters here. */
export interface Part {
  kind: StepKind
  tree: string
  /** Objects by path, as `MODE ID`. */
  includes: Record<string, string>
  /** Of a rolled-up layer. */
  steps?: readonly Part[]
}

/** A revision of a project. */
export interface Shape {
  /** Digests that its base may have; none where its first layer makes one. */
  bases: readonly string[]
  size: number | undefined
  root: string | undefined
  layers: readonly Part[]
  /** What of it could not be read, and so is not followed. */
  unreadable?: string
}

/** What stands where in the walk: revisions with the same layers share it. */
interface Place {
  /** What the next layer may stand on. */
  grounds: ReadonlySet<string>
  needed: readonly SnapshotId[]
  next: Map<string, Place>
  /** Who came by, by number. */
  tips: number[]
}

type Found = Pick<Manifest, 'id' | 'contentId'>

export class Reach {
  /** By what it stands on, and by what else its key was made from. */
  readonly #known = new Map<string, Map<string, Found[]>>()
  readonly #starts = new Map<string, Place>()
  readonly #places: Place[] = []
  readonly #texts = new WeakMap<Part, string>()

  /** `manifests` are those of the snapshots that their keys name now. */
  constructor(manifests: readonly Pick<Manifest, 'id' | 'contentId' | 'inputs'>[]) {
    for (const { id, contentId, inputs } of manifests) {
      const ground = groundOf(inputs)
      const here = this.#known.get(ground) ?? new Map<string, Found[]>()
      this.#known.set(ground, here)
      const text = textOf(inputs.kind, inputs.tree, inputs.includes, inputs.size, inputs.root, inputs.engine)
      here.set(text, [...(here.get(text) ?? []), { id, contentId }])
    }
  }

  /** Follows the layers of a revision; `tip` is its number. */
  follow({ bases, size, root, layers }: Shape, tip: number): void {
    const [first] = layers
    const rest = first?.kind === 'build-base' ? layers.slice(1) : layers
    let place = this.#start(first?.kind === 'build-base' ? [''] : bases.map((base) => `base ${base}`))
    place.tips.push(tip)
    const steps: [string, Part | undefined][] = []
    if (first?.kind === 'build-base') steps.push([this.#text(first, root), first])
    if (size !== undefined) steps.push([textOf('disk', undefined, undefined, size, root), undefined])
    for (const part of rest) steps.push([this.#text(part, root), part])
    for (const [text, part] of steps) {
      if (place.grounds.size === 0) return
      place = this.#step(place, text, part, root)
      place.tips.push(tip)
    }
  }

  /** By snapshot: the numbers of those who need it. */
  needed(): Map<SnapshotId, Set<number>> {
    const needed = new Map<SnapshotId, Set<number>>()
    for (const { needed: ids, tips } of this.#places) {
      for (const id of ids) {
        const known = needed.get(id) ?? new Set<number>()
        needed.set(id, known)
        for (const tip of tips) known.add(tip)
      }
    }
    return needed
  }

  #start(grounds: readonly string[]): Place {
    const name = grounds.join('\n')
    const known = this.#starts.get(name)
    if (known) return known
    const place = this.#place(new Set(grounds), [])
    this.#starts.set(name, place)
    return place
  }

  #place(grounds: ReadonlySet<string>, needed: readonly SnapshotId[]): Place {
    const place = { grounds, needed, next: new Map<string, Place>(), tips: [] }
    this.#places.push(place)
    return place
  }

  #step(from: Place, text: string, part: Part | undefined, root: string | undefined): Place {
    const known = from.next.get(text)
    if (known) return known
    const found = this.#find(from.grounds, text)
    const inner = part?.steps ? this.#inner(from.grounds, part.steps, root) : { grounds: [], needed: [] }
    const grounds = new Set([...found.map(({ contentId }) => `parent ${contentId}`), ...inner.grounds])
    // Once they are merged into one, the snapshots of its steps are needed no more.
    const needed = found.length > 0 ? found.map(({ id }) => id) : inner.needed
    const place = this.#place(grounds, needed)
    from.next.set(text, place)
    return place
  }

  /** Steps of a rolled-up layer: what the last one left is what stands for the whole. */
  #inner(start: ReadonlySet<string>, steps: readonly Part[], root: string | undefined) {
    let grounds = [...start]
    const needed: SnapshotId[] = []
    for (const step of steps) {
      const found = this.#find(grounds, this.#text(step, root))
      needed.push(...found.map(({ id }) => id))
      grounds = found.map(({ contentId }) => `parent ${contentId}`)
    }
    return { grounds, needed }
  }

  #find(grounds: Iterable<string>, text: string): Found[] {
    return [...grounds].flatMap((ground) => this.#known.get(ground)?.get(text) ?? [])
  }

  #text(part: Part, root: string | undefined): string {
    if (root !== undefined) return textOf(part.kind, part.tree, part.includes, undefined, root)
    const text = this.#texts.get(part) ?? textOf(part.kind, part.tree, part.includes)
    this.#texts.set(part, text)
    return text
  }
}

function groundOf({ parent, base }: KeyInputs): string {
  if (parent !== undefined) return `parent ${parent}`
  return base === undefined ? '' : `base ${base}`
}

/** All that a key is made from but what it stands on, the values, and the host's architecture. */
function textOf(
  kind: StepKind,
  tree?: string,
  includes: Record<string, string> = {},
  size?: number,
  root?: string,
  engine: number = engineVersion,
): string {
  const sorted = Object.entries(includes).sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify([kind, engine, tree ?? '', size ?? 0, root ?? '', sorted])
}
