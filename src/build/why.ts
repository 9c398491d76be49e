// Why layers are not in the store: their last snapshots, found, and what differs, looked up in files and history.
import { VlbError } from '../core/errors.ts'
import { treeId } from '../core/ids.ts'
import type { Manifest } from '../core/manifest.ts'
import type { Step } from '../core/plan.ts'
import type { ChangeOrigin, LayerStatus, Why } from '../core/results-status.ts'
import { changedFiles, differences, inWords, lastSnapshot } from '../core/why.ts'
import { lastCommit } from '../git/history.ts'
import { listTree } from '../git/listing.ts'
import { lookup } from '../git/objects.ts'
import type { Chain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { readSourceList } from './source-list.ts'

/** Files that are named; the rest is counted. */
const shownFiles = 100

export type Explanation = Pick<LayerStatus, 'reason' | 'why' | 'last'>

/** Explains the misses of one chain. Reads nothing before it is asked. */
export class Explainer {
  readonly #context: BuildContext
  readonly #chain: Chain
  #all: Manifest[] | undefined

  constructor(context: BuildContext, chain: Chain) {
    this.#context = context
    this.#chain = chain
  }

  /** What differs at step `at` from its last snapshot. `below`: the layer below it that has to be built. */
  async explain(at: number, below: string | undefined): Promise<Explanation> {
    const step = this.#chain.steps[at] as Step
    const { folder, repo } = this.#context.project
    this.#all ??= await this.#context.store.list()
    const last = lastSnapshot(step, this.#all, { folder, worktree: repo.worktree })
    const found = last ? differences(last, this.#chain.steps, at, this.#all) : []
    const why = last ? await Promise.all(found.map((one) => this.#detail(one, step, last))) : []
    const reason = last ? inWords(why) || 'its snapshot is gone' : 'never built'
    if (below !== undefined && !why.some(({ input }) => ['parent', 'size', 'base'].includes(input)))
      why.push({ input: 'parent', layer: below, change: 'missing', inputs: [] })
    return { reason, why, last: last ? { layer: last.layer, key: last.key, builtAt: last.builtAt } : null }
  }

  async #detail(one: Why, step: Step, last: Manifest): Promise<Why> {
    if (one.input === 'include') return { ...one, ...(await this.#origin(one.path, last.inputs.includes?.[one.path])) }
    if (one.input !== 'tree') return one
    const [files, origin] = await Promise.all([this.#files(one.after, last), this.#origin(step.name, one.before)])
    const shown = files?.slice(0, shownFiles) ?? null
    return { ...one, files: shown, more: (files?.length ?? 0) - (shown?.length ?? 0), ...origin }
  }

  /** Undefined where one side is not known any more. */
  async #files(after: string, last: Manifest) {
    const { objects } = this.#chain.source
    try {
      const before =
        (await readSourceList(this.#context.store.path('snapshots', last.id))) ??
        (await listTree(objects, last.inputs.tree ?? ''))
      const now = before && (await listTree(objects, after))
      return now && changedFiles(before, now)
    } catch (error) {
      // Its commit was never fetched, or is not kept any more.
      if (error instanceof VlbError && error.code === 'VLB_GIT') return undefined
      throw error
    }
  }

  /** Which commit brought the change at `path`; `before` is what the last snapshot had there. */
  async #origin(path: string, before: string | undefined): Promise<ChangeOrigin> {
    const { source } = this.#chain
    const { repo, folder, prefix } = this.#context.project
    const committed =
      source.commit && (await lookup(source.objects, await source.objects.treeOf(source.commit), prefix))
    const there = committed && (await lookup(source.objects, treeId(committed.oid), path))
    const now = source.tree && (await lookup(source.objects, source.tree, path))
    const uncommitted = now?.oid !== (there ? there.oid : undefined) || now?.mode !== (there ? there.mode : undefined)
    if (!source.commit || !there || before?.split(' ').at(-1) === there.oid) return { commit: null, uncommitted }
    return { commit: await lastCommit(repo, folder, source.commit, path), uncommitted }
  }
}
