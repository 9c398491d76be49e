// `git vlb rollup`: several layers become one, in the repository and in the store. All that takes time comes first, and
// leaves nothing but snapshots; the repository changes at the end, at once.
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { type Layer, stepsFolder } from '../core/layer.ts'
import type { MergedStep } from '../core/manifest.ts'
import { checkEnvironment, checkSecrets, type Step } from '../core/plan.ts'
import type { RollupResult } from '../core/results-build.ts'
import { splitLog, stepPath } from '../core/rolled-up.ts'
import { checkRollable, type Move, parseRange, planRollup, type RollupPlan, rollupMessage } from '../core/rollup.ts'
import {
  changedPaths,
  checkIdle,
  commitsOf,
  commitTree,
  type MovedTree,
  moveInIndex,
  refreshIndex,
  writeTree,
} from '../git/moves.ts'
import { currentBranch } from '../git/repo.ts'
import { switchTo } from '../git/switch.ts'
import { writeAtomic } from '../host/files.ts'
import { type Chain, planChain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { type LoadedSource, loadTree, loadWorkingTree, type Project, together } from './project.ts'
import type { KnownSteps } from './rolled-up.ts'
import { buildChain } from './walk.ts'

export interface RollupRequest {
  /** FROM..TO. */
  range: string
  name: string | undefined
  message: string | undefined
  dryRun: boolean
  commit: boolean
  env: Record<string, string>
  secrets: ReadonlyMap<string, Buffer>
}

/** Commits that the message names for each layer. */
const shownCommits = 20

export async function rollup(context: BuildContext, request: RollupRequest): Promise<RollupResult> {
  const started = Date.now()
  const { project } = context
  if (project.repo.worktree !== undefined) await checkIdle(project.repo)
  const source = await loadWorkingTree(project)
  try {
    const { commit } = source
    if (commit === undefined)
      throw new VlbError('VLB_REV', 'this repository has no commits yet', { hint: 'git add . && git commit' })
    checkEnvironment(source.layers, request.env)
    checkSecrets(source.layers, new Set(request.secrets.keys()))
    const plan = await makePlan(context, source, request)
    const job = { request, source, commit, plan }
    const result = request.dryRun ? await dryRun(context, job) : await perform(context, job)
    return { ...result, seconds: (Date.now() - started) / 1000 }
  } finally {
    await source.objects.close()
  }
}

interface Job {
  request: RollupRequest
  source: LoadedSource
  /** What HEAD is. */
  commit: string
  plan: RollupPlan
}

async function makePlan({ project }: BuildContext, source: LoadedSource, request: RollupRequest): Promise<RollupPlan> {
  const { layers, config } = source
  const range = parseRange(request.range, layers)
  checkRollable(range, layers, config.base?.from === 'path' ? config.base.path : undefined)
  const plan = planRollup(range, layers, request.name)
  await together([checkClean(project, layers), checkFolders(project.folder, plan)])
  return plan
}

async function checkClean(project: Project, layers: readonly Layer[]): Promise<void> {
  const changed = await changedPaths(
    project.repo,
    layers.map(({ name }) => join(project.prefix, name)),
  )
  if (changed.length === 0) return
  const shown = changed.slice(0, 10).map((path) => printable(path))
  const more = changed.length > shown.length ? ` and ${changed.length - shown.length} more` : ''
  throw new VlbError('VLB_DIRTY', `not committed: ${shown.join(', ')}${more}`, {
    hint: 'git commit, or git stash --include-untracked, and git stash pop afterwards',
  })
}

/** Folders move whole, with what git ignores in them. What lies beside the steps of a rolled-up layer would be left over. */
async function checkFolders(folder: string, { name, range, emptied }: RollupPlan): Promise<void> {
  const taken = range.every((layer) => layer.name !== name) && (await lstat(join(folder, name)).catch(() => undefined))
  if (taken) throw new VlbError('VLB_EXISTS', `${name} is there already`, { hint: 'give another name: --name NAME' })
  for (const path of emptied) {
    const layer = range.find((one) => one.name === path.split('/')[0])
    const expected = path.endsWith(`/${stepsFolder}`) ? layer?.steps?.map((step) => step.name) : [stepsFolder]
    const stray = (await readdir(join(folder, path))).find((entry) => !expected?.includes(entry))
    if (stray === undefined) continue
    throw new VlbError('VLB_ROLLUP', `${path} holds ${printable(stray)}, for which the new layer has no place`, {
      hint: `move it into one of its layers, or remove it: ${printable(`${path}/${stray}`)}`,
    })
  }
}

/** The project as it will be. */
async function moved(context: BuildContext, job: Job): Promise<{ tree: MovedTree; source: LoadedSource }> {
  const tree = await movedTree(context, job.plan)
  const source = await loadTree(context.project, { name: '', commit: job.commit, tree: tree.tree }, tree.env)
  return { tree, source }
}

/** Trees that are new are in scratch, unless something else is wanted of them. */
async function movedTree({ project, store }: BuildContext, plan: RollupPlan): Promise<MovedTree> {
  const inRepository = (path: string) => join(project.prefix, path)
  const moves: Move[] = plan.moves.map(({ from, to }) => ({ from: inRepository(from), to: inRepository(to) }))
  return await moveInIndex(project.repo, moves, await store.scratch.folder())
}

async function dryRun(context: BuildContext, job: Job): Promise<RollupResult> {
  const { source, request, plan } = job
  const { project } = context
  const before = await planChain(context, source, source.layers, request.env)
  const after = await moved(context, job)
  try {
    const chain = await planChain(context, after.source, after.source.layers, request.env, await stepsIn(before))
    return await describe(context, job, before, chain, await historyOf(project, plan))
  } finally {
    await after.source.objects.close()
  }
}

async function perform(context: BuildContext, job: Job): Promise<RollupResult> {
  const { source, request, plan } = job
  const { project } = context
  await context.store.prepare()
  // git looks it up while the snapshots are merged.
  const history = historyOf(project, plan)
  history.catch(() => {})
  const before = await planChain(context, source, source.layers, request.env)
  const options = {
    env: request.env,
    secrets: request.secrets,
    rebuild: new Set<string>(),
    frozen: false,
    dryRun: false,
    keepFailed: false,
    since: Date.now(),
  }
  const built = await buildChain(context, source, { ...options, last: plan.range.at(-1)?.name })
  if (built.failed) throw built.failed.error
  const fresh = built.layers.some(({ result }) => result === 'built')
  const now = fresh ? await planChain(context, source, source.layers, request.env) : before
  const after = await moved(context, job)
  try {
    const merged = await buildChain(context, after.source, { ...options, last: plan.name, known: await stepsIn(now) })
    if (merged.failed) throw merged.failed.error
    const chain = await planChain(context, after.source, after.source.layers, request.env)
    const result = await describe(context, job, now, chain, await history)
    const states = result.layers.map((layer, i) => ({ ...layer, state: stateOf(before, plan.range[i]?.name) }))
    const commit = await changeRepository(context, job, after.tree, result.message)
    return { ...result, layers: states, commit }
  } finally {
    await after.source.objects.close()
  }
}

/** What the rolled-up layers of a chain were merged from: that may be gone, and what they are made of is not. */
async function stepsIn(chain: Chain): Promise<KnownSteps> {
  const known = new Map<string, MergedStep & { log: string | undefined }>()
  for (const there of chain.found) {
    const { steps, layer } = there?.manifest ?? {}
    if (!there || !steps) continue
    const paths = steps.map((step) => stepPath(layer ?? '', step.layer))
    const logs = splitLog(await readFile(there.log, 'utf8'), paths)
    for (const [i, step] of steps.entries()) known.set(step.key, { ...step, log: logs.get(paths[i] ?? '') })
  }
  return known
}

/** Until the last call here nothing of the repository has changed but for objects that nothing names. */
async function changeRepository(
  context: BuildContext,
  job: Job,
  planned: MovedTree,
  message: string,
): Promise<string | null> {
  const { plan, commit: old, request, source } = job
  const { project } = context
  const { repo } = project
  const [last] = await together([
    movedTree(context, plan),
    checkIdle(repo),
    checkFolders(project.folder, plan),
    checkClean(project, source.layers),
  ])
  if (last.tree !== planned.tree) {
    throw new VlbError('VLB_BUSY', 'the index changed meanwhile', {
      hint: 'nothing was changed; run the command again',
    })
  }
  const scratch = await context.store.scratch.folder()
  const tree = await writeTree(repo, { GIT_INDEX_FILE: last.index })
  const commit = request.commit ? await commitTree(repo, tree, old, message, scratch) : undefined
  context.signal.throwIfAborted()
  await switchTo(
    repo,
    {
      folder: project.folder,
      moves: plan.moves,
      name: plan.name,
      emptied: plan.emptied,
      index: last.index,
      before: last.before,
      old,
      commit,
      message: `rollup: ${message.split('\n')[0]}`,
    },
    scratch,
  )
  // git-commit(1) begins with what it finds there.
  if (!commit) {
    const path = join(repo.gitDir, 'MERGE_MSG')
    await writeAtomic(path, message, context.store.scratch.beside(path))
  }
  await refreshIndex(repo)
  return commit ?? null
}

function stateOf(chain: Chain, layer: string | undefined): 'cached' | 'missing' {
  return chain.found[chain.steps.findIndex(({ name }) => name === layer)] ? 'cached' : 'missing'
}

type History = Awaited<ReturnType<typeof commitsOf>>

/** Of each layer of the range. */
async function historyOf({ repo, prefix }: Project, { range }: RollupPlan): Promise<History[]> {
  return await Promise.all(range.map(({ name }) => commitsOf(repo, join(prefix, name), shownCommits)))
}

/** `before` and `chain`: the project as it is, and as it will be. */
async function describe(
  { project }: BuildContext,
  { plan, request }: Job,
  before: Chain,
  chain: Chain,
  history: readonly History[],
): Promise<RollupResult> {
  const layers = plan.range.map(({ name }) => {
    const at = before.steps.findIndex((step) => step.name === name)
    const [{ key }, manifest] = [before.steps[at] as Step, before.found[at]?.manifest]
    const state = manifest ? ('cached' as const) : ('missing' as const)
    return { name, key, contentId: manifest?.contentId ?? null, state, bytes: manifest?.bytes ?? 0 }
  })
  const at = chain.steps.findIndex(({ name }) => name === plan.name)
  const [step, manifest] = [chain.steps[at] as Step, chain.found[at]?.manifest]
  // What later layers overwrote is not in it twice.
  const bytes = manifest?.bytes ?? layers.reduce((sum, layer) => sum + layer.bytes, 0)
  const into = { name: plan.name, key: step.key, contentId: manifest?.contentId ?? null, bytes }
  const above = chain.steps.slice(at + 1).map(({ name, key }, i) => ({
    name,
    key,
    state: chain.found[at + 1 + i] ? ('cached' as const) : ('missing' as const),
  }))
  const told = layers.map(({ name, key }, i) => ({ name, key, commits: [], more: 0, ...history[i] }))
  const message = rollupMessage(request.message, told, { ...into, contentId: into.contentId ?? step.content })
  const branch = (await currentBranch(project.repo)) ?? 'HEAD'
  const { moves } = plan
  return { ok: true, dryRun: request.dryRun, layers, into, moves, above, message, commit: null, branch, seconds: 0 }
}
