// Who needs what of a store: branches, tags, working trees, stashes and records of all projects that it is used for.
import { dirname, join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { type SnapshotId, treeId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import { Reach, type Shape } from '../core/reach.ts'
import { parseRecords } from '../core/record.ts'
import { MergedTrees } from '../git/merged-trees.ts'
import { notesRef } from '../git/notes.ts'
import { type Objects, openObjectsOfGit } from '../git/objects.ts'
import { type LinkedWorktree, listNotes, listRefs, listStashes, listWorktrees } from '../git/refs.ts'
import { openRepository, type Repository } from '../git/repo.ts'
import { ToolError } from '../host/run.ts'
import type { LocalStore } from '../store/local.ts'
import { type RegisteredProject, registered } from '../store/registry.ts'
import type { BuildContext } from './context.ts'
import { loadWorkingTree } from './project.ts'
import { type KnownBase, type ShapeContext, Shapes } from './shapes.ts'

/** Somebody who may need a snapshot. */
export interface Tip {
  kind: 'branch' | 'remote' | 'tag' | 'worktree' | 'stash' | 'record' | 'image' | 'unreadable'
  /** For people. */
  name: string
  /** The repository's git folder, and the project's folder in it. */
  repository: string
  prefix: string
}

export interface Wanted {
  tips: Tip[]
  /** By snapshot: numbers of tips. */
  needed: Map<SnapshotId, Set<number>>
  /** Recorded for commits that are no tips (any more). */
  recorded: Set<SnapshotId>
  /** Digests of bases that a tip names. */
  bases: Set<string>
}

export interface Stock {
  manifests: readonly Manifest[]
  /** The snapshots that their keys name now. */
  current: ReadonlySet<SnapshotId>
  bases: readonly KnownBase[]
}

/** Git fetches nothing for this, whatever a partial clone lacks. */
const offline = { GIT_ALLOW_PROTOCOL: 'none' }

export async function findWanted(context: BuildContext, stock: Stock): Promise<Wanted> {
  const search = new Search(context, stock)
  for (const project of await registered(context.store.root, false)) await search.project(project)
  return search.end()
}

class Search {
  readonly #context: BuildContext
  readonly #stock: Stock
  readonly #reach: Reach
  readonly #tips: Tip[] = []
  readonly #recorded = new Set<SnapshotId>()
  readonly #records = new Map<SnapshotId, Set<number>>()
  readonly #bases = new Set<string>()
  /** Folders of projects that could be looked at. */
  readonly #folders: string[] = []
  readonly #unreadable: RegisteredProject[] = []
  /** By key and content id. */
  readonly #built = new Map<string, SnapshotId[]>()

  constructor(context: BuildContext, stock: Stock) {
    this.#context = context
    this.#stock = stock
    this.#reach = new Reach(stock.manifests.filter(({ id }) => stock.current.has(id)))
    for (const { id, key, contentId } of stock.manifests) {
      const name = `${key} ${contentId}`
      this.#built.set(name, [...(this.#built.get(name) ?? []), id])
    }
  }

  async project(project: RegisteredProject): Promise<void> {
    try {
      const repo = await openRepository(project.commonDir)
      await new ProjectSearch(this.#context, this.#stock, project, repo, {
        tip: (kind, name) => this.#tip(kind, name, project),
        follow: (shape, tip) => this.#follow(shape, tip),
        record: (key, contentId, tip) => this.#record(key, contentId, tip),
        folder: (path) => void this.#folders.push(path),
      }).run()
    } catch (error) {
      // Another user's, or damaged: what was built for it is left to those who can read it.
      if (!(error instanceof VlbError) && !(error instanceof ToolError)) throw error
      if (!(error instanceof VlbError && error.code === 'VLB_NOT_A_REPOSITORY')) this.#unreadable.push(project)
    }
  }

  #tip(kind: Tip['kind'], name: string, { commonDir, prefix }: RegisteredProject): number {
    return this.#tips.push({ kind, name, repository: commonDir, prefix }) - 1
  }

  #follow(shape: Shape, tip: number): void {
    for (const base of shape.bases) this.#bases.add(base)
    this.#reach.follow(shape, tip)
  }

  #record(key: string, contentId: string, tip: number | undefined): void {
    for (const id of this.#built.get(`${key} ${contentId}`) ?? []) {
      if (tip === undefined) this.#recorded.add(id)
      else this.#records.set(id, (this.#records.get(id) ?? new Set()).add(tip))
    }
  }

  end(): Wanted {
    const needed = this.#reach.needed()
    for (const [id, tips] of this.#records) needed.set(id, new Set([...(needed.get(id) ?? []), ...tips]))
    for (const project of this.#unreadable) {
      const tip = this.#tip('unreadable', project.commonDir, project)
      for (const { id, project: folder } of this.#stock.manifests) {
        if (this.#folders.some((known) => `${folder}/`.startsWith(`${known}/`))) continue
        needed.set(id, (needed.get(id) ?? new Set()).add(tip))
      }
    }
    return { tips: this.#tips, needed, recorded: this.#recorded, bases: this.#bases }
  }
}

export interface Found {
  tip: (kind: Tip['kind'], name: string) => number
  follow: (shape: Shape, tip: number) => void
  record: (key: string, contentId: string, tip: number | undefined) => void
  folder: (path: string) => void
  /** A tip that cannot be followed to its end. */
  unreadable?: (kind: Tip['kind'], name: string, what: string) => void
}

/** One project of one repository. */
export class ProjectSearch {
  readonly #store: LocalStore
  readonly #context: BuildContext
  readonly #stock: Pick<Stock, 'bases'>
  readonly #project: RegisteredProject
  readonly #repo: Repository
  readonly #found: Found
  /** By commit, a name of it. */
  readonly #commits = new Map<string, string>()
  /** By root tree. */
  readonly #shapes = new Map<string, Promise<Shape | undefined>>()

  constructor(
    context: BuildContext,
    stock: Pick<Stock, 'bases'>,
    project: RegisteredProject,
    repo: Repository,
    found: Found,
  ) {
    this.#context = context
    this.#store = context.store
    this.#stock = stock
    this.#project = project
    this.#repo = repo
    this.#found = found
  }

  /** `here`: whether an untracked base is the one that lies here, rather than any. */
  async run({ here = true } = {}): Promise<void> {
    const [refs, worktrees, stashes, notes] = await Promise.all([
      listRefs(this.#repo),
      listWorktrees(this.#repo),
      listStashes(this.#repo),
      listNotes(this.#repo, notesRef),
    ])
    const folders = worktrees.filter(({ there }) => there).map(({ path }) => join(path, this.#project.prefix))
    for (const folder of [this.#repo.commonDir, ...folders]) this.#found.folder(folder)
    const { prefix } = this.#project
    const about: ShapeContext = { store: this.#store, prefix, folders: here ? folders : [], bases: this.#stock.bases }
    const shapes = new Shapes(about)
    const objects = openObjectsOfGit(this.#repo, offline, this.#context.signal)
    try {
      for (const { kind, name, commit, tree } of refs) {
        this.#commits.set(commit, `${kind} ${name}`)
        await this.#tree(shapes, objects, tree, kind, name)
      }
      for (const worktree of worktrees) await this.#worktree(shapes, objects, worktree)
      const merged = new MergedTrees(objects, this.#repo.objectFormat)
      for (const { name, commit, tree, untracked } of stashes) {
        this.#commits.set(commit, `stash ${name}`)
        const more = untracked === undefined ? undefined : await objects.treeOf(untracked)
        const whole = more === undefined ? treeId(tree) : await merged.merge(treeId(tree), more)
        await this.#tree(shapes, merged.objects, whole, 'stash', name)
      }
      await this.#notes(objects, notes)
    } finally {
      await objects.close()
    }
  }

  async #tree(shapes: Shapes, objects: Objects, tree: string, kind: Tip['kind'], name: string): Promise<void> {
    const known = this.#shapes.get(tree) ?? shapes.ofTree(objects, treeId(tree))
    this.#shapes.set(tree, known)
    const shape = await known
    if (shape) this.#found.follow(shape, this.#found.tip(kind, name))
    if (shape?.unreadable !== undefined) this.#found.unreadable?.(kind, name, shape.unreadable)
  }

  /** What is checked out, and what was changed of it since. */
  async #worktree(shapes: Shapes, objects: Objects, { path, commit, there }: LinkedWorktree): Promise<void> {
    if (commit !== undefined) {
      if (!this.#commits.has(commit)) this.#commits.set(commit, `worktree ${path}`)
      await this.#tree(shapes, objects, await objects.treeOf(commit), 'worktree', path)
    }
    if (!there) return
    const { prefix } = this.#project
    const folder = join(path, prefix)
    try {
      const repo = await openRepository(folder)
      const { signal } = this.#context
      const source = await loadWorkingTree({ repo, folder, prefix, settings: new Map(), store: this.#store, signal })
      try {
        if (source.clean) return
        const shape = await shapes.ofLayers(source.objects, source.tree, source.config, source.layers)
        this.#found.follow(shape, this.#found.tip('worktree', path))
      } finally {
        await source.objects.close()
      }
    } catch (error) {
      // Not there in what is checked out, or in a state that could not be built: its commit counts.
      if (!(error instanceof VlbError)) throw error
      this.#context.signal.throwIfAborted()
    }
  }

  async #notes(objects: Objects, notes: ReadonlyMap<string, string>): Promise<void> {
    for (const [commit, note] of notes) {
      const name = this.#commits.get(commit)
      const records = parseRecords((await objects.blob(note)).toString('utf8'))
      const tip = name === undefined || records.length === 0 ? undefined : this.#found.tip('record', name)
      for (const { layers } of records) for (const one of layers) this.#found.record(one.key, one.contentId, tip)
    }
  }
}

/** Whose repository that is, for people: its working tree's folder. */
export function repositoryName({ repository }: Tip): string {
  return repository.endsWith('/.git') ? dirname(repository) : repository
}
