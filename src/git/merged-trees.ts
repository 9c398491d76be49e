// Trees that git does not hold: of a stash, what was tracked and what was not lie in two commits, and a layer was built of
// both. Made here as git would make them, with the ids that they would have.
import { createHash } from 'node:crypto'
import { type TreeId, treeId } from '../core/ids.ts'
import type { TreeEntry } from '../core/layer.ts'
import type { Objects } from './objects.ts'

export class MergedTrees {
  readonly #objects: Objects
  readonly #format: string
  readonly #made = new Map<TreeId, TreeEntry[]>()

  constructor(objects: Objects, objectFormat: string) {
    this.#objects = objects
    this.#format = objectFormat === 'sha256' ? 'sha256' : 'sha1'
  }

  /** The objects of the repository, and what was made here. */
  get objects(): Objects {
    const { tree, blob, treeOf, close } = this.#objects
    return {
      tree: async (id) => this.#made.get(id) ?? (await tree(id)),
      blob,
      treeOf,
      close,
    }
  }

  /** All of both, `over` where both have a file. */
  async merge(under: TreeId, over: TreeId): Promise<TreeId> {
    const entries = new Map((await this.objects.tree(under)).map((entry) => [entry.name, entry]))
    for (const entry of await this.objects.tree(over)) {
      const other = entries.get(entry.name)
      const both = other?.mode === '40000' && entry.mode === '40000'
      const oid = both ? await this.merge(treeId(other.oid), treeId(entry.oid)) : entry.oid
      entries.set(entry.name, { ...entry, oid })
    }
    const sorted = [...entries.values()].sort((a, b) => Buffer.compare(sortName(a), sortName(b)))
    const id = this.#idOf(sorted)
    this.#made.set(id, sorted)
    return id
  }

  /** As in git's tree.c: `MODE NAME NUL ID`, the id in bytes. */
  #idOf(entries: readonly TreeEntry[]): TreeId {
    const content = Buffer.concat(
      entries.flatMap(({ mode, name, oid }) => [Buffer.from(`${mode} ${name}\0`), Buffer.from(oid, 'hex')]),
    )
    return treeId(createHash(this.#format).update(`tree ${content.length}\0`).update(content).digest('hex'))
  }
}

/** git sorts folders as if their names ended in a slash. */
function sortName({ name, mode }: TreeEntry): Buffer {
  return Buffer.from(mode === '40000' ? `${name}/` : name)
}
