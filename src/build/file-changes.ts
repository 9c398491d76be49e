// The files that differ between two states of a layer, each with its difference: scripts, what lies beside them, what they
// include, and vlb.yaml.
import type { FileChange, LayerStep } from '../core/changelog.ts'
import { treeId } from '../core/ids.ts'
import { unifiedDiff } from '../core/patch.ts'
import type { Objects } from '../git/objects.ts'
import { filesOf, type TreeFile } from './sides.ts'

/** Characters of all patches together: what is beyond only swells the page. */
const totalLimit = 2 ** 20

/** Compares files, and stops to show differences when there were enough. */
export class FileComparer {
  readonly #objects: Objects
  #shown = 0
  /** Included files, which several layers may share. */
  readonly #told = new Map<string, string>()

  constructor(objects: Objects) {
    this.#objects = objects
  }

  async steps(from: LayerStep | undefined, to: LayerStep | undefined, layer: string): Promise<FileChange[]> {
    const [before, after] = [await this.#files(from?.tree), await this.#files(to?.tree)]
    const changes: FileChange[] = []
    for (const name of [...new Set([...before.keys(), ...after.keys()])].sort()) {
      const path = `${(to ?? from)?.path}/${name}`
      const was = from && to && from.path !== to.path && before.has(name) ? { was: `${from.path}/${name}` } : {}
      const change = await this.file(path, before.get(name), after.get(name))
      if (change) changes.push({ ...change, ...was })
    }
    return [...changes, ...(await this.#includes(from, to, layer))]
  }

  async #files(tree: string | undefined): Promise<Map<string, TreeFile>> {
    return tree === undefined ? new Map() : await filesOf(this.#objects, treeId(tree))
  }

  async #includes(from: LayerStep | undefined, to: LayerStep | undefined, layer: string): Promise<FileChange[]> {
    // What an added layer includes may be as old as the hills.
    if (!from || !to) return []
    const changes: FileChange[] = []
    for (const path of Object.keys({ ...from.includes, ...to.includes }).sort()) {
      const [old, fresh] = [from.includes[path], to.includes[path]]
      if (old === fresh) continue
      const [before, after] = [await this.#included(path, old), await this.#included(path, fresh)]
      for (const name of [...new Set([...before.keys(), ...after.keys()])].sort()) {
        const [one, other] = [before.get(name), after.get(name)]
        const known = this.#told.get(`${name}\0${one?.oid}\0${other?.oid}`)
        const change = known
          ? await this.#without(name, one, other, `included, the same as in ${known}`)
          : await this.file(name, one, other)
        this.#told.set(`${name}\0${one?.oid}\0${other?.oid}`, known ?? layer)
        if (change) changes.push(change)
      }
    }
    return changes
  }

  async #included(path: string, entry: string | undefined): Promise<Map<string, TreeFile>> {
    const [mode = '', oid = ''] = entry?.split(' ') ?? []
    if (mode === '40000') return await filesOf(this.#objects, treeId(oid), `${path}/`)
    return entry === undefined ? new Map() : new Map([[path, { mode, oid }]])
  }

  /** Undefined if nothing differs. */
  async file(path: string, from: TreeFile | undefined, to: TreeFile | undefined): Promise<FileChange | undefined> {
    if (from?.mode === to?.mode && from?.oid === to?.oid) return undefined
    const head = headOf(path, from, to)
    if (from?.oid === to?.oid) return { ...head, added: 0, removed: 0 }
    // That it is gone is all there is to say.
    if (!to) return { ...head, added: 0, removed: 0 }
    if (from?.mode === '160000' || to.mode === '160000') return { ...head, added: 0, removed: 0, cut: 'a submodule' }
    if (this.#shown >= totalLimit) return { ...head, added: 0, removed: 0, cut: 'not shown: there is too much in all' }
    const { text, ...rest } = await unifiedDiff(await this.#blob(from), await this.#blob(to))
    this.#shown += text.length
    return { ...head, ...rest, ...(text === '' ? {} : { patch: text }) }
  }

  async #without(path: string, from: TreeFile | undefined, to: TreeFile | undefined, cut: string) {
    return from?.mode === to?.mode && from?.oid === to?.oid
      ? undefined
      : { ...headOf(path, from, to), added: 0, removed: 0, cut }
  }

  async #blob(file: TreeFile | undefined): Promise<Buffer> {
    return file === undefined ? Buffer.alloc(0) : await this.#objects.blob(file.oid)
  }
}

function headOf(path: string, from: TreeFile | undefined, to: TreeFile | undefined) {
  const change: FileChange['change'] = !from ? 'added' : !to ? 'removed' : 'changed'
  const mode = from && to && from.mode !== to.mode ? { mode: { from: from.mode, to: to.mode } } : {}
  return { path, change, ...mode }
}
