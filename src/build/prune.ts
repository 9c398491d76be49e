// `git vlb prune`: what of the project's remote nothing of this repository would find goes, as gc does it with a store.
import { dirname } from 'node:path'
import { configFile } from '../core/config.ts'
import { VlbError } from '../core/errors.ts'
import { layerKey, snapshotId } from '../core/ids.ts'
import { isLeft, leasedKey, parseLease } from '../core/lease.ts'
import { blobOf, configLimit, parseOciManifest, parseSnapshot, summaryOf } from '../core/oci.ts'
import { bytesFreed, choosePruned, ownBytes, stepsOf, type Tagged } from '../core/prune.ts'
import { Reach } from '../core/reach.ts'
import type { PruneResult } from '../core/results-remote.ts'
import { completenessOf } from '../git/completeness.ts'
import { ask, ToolError } from '../host/run.ts'
import type { Registry } from '../store/oci.ts'
import { registered } from '../store/registry.ts'
import type { BuildContext } from './context.ts'
import { inParallel } from './parallel.ts'
import { loadWorkingTree } from './project.ts'
import { isRemoteError, needRemote } from './remote.ts'
import { ProjectSearch } from './wanted.ts'

export interface PruneOptions {
  /** What was pushed in so many days before the last fetch stays. */
  keepDays: number
  dryRun: boolean
  /** Also where not all branches can be read. */
  force: boolean
}

const atOnce = 6

export async function prune(context: BuildContext, options: PruneOptions): Promise<PruneResult> {
  const { fetched, lacks } = await completenessOf(context.project.repo)
  if (lacks && !options.force) throw refusal(lacks.what, lacks.hint)
  const source = await loadWorkingTree(context.project)
  try {
    const registry = await needRemote(context, source.config)
    try {
      const tags = await registry.tags()
      const all = await readTagged(context, registry, tags)
      const needed = await findNeeded(context, all, options)
      const before = Math.min(Date.now(), fetched ?? Date.now()) - options.keepDays * 86_400_000
      const named = await digestsOf(
        context,
        registry,
        tags.filter((tag) => !isKey(tag) && !leasedKey(tag)),
      )
      const { victims, ...kept } = choosePruned(all, { needed, named, before })
      if (!options.dryRun) for (const { digest } of victims) await remove(registry, digest)
      const removed = victims.map((one) => ({
        layer: one.snapshot.layers.at(-1)?.manifest.layer ?? '',
        key: one.key,
        bytes: ownBytes(one),
        pushedAt: one.pushedAt === undefined ? null : new Date(one.pushedAt).toISOString(),
      }))
      return {
        ok: true,
        dryRun: options.dryRun,
        remote: registry.name,
        removed,
        leases: await pruneLeases(context, registry, tags, options),
        needed: kept.needed.length,
        spared: kept.spared.length,
        freedBytes: bytesFreed(victims, all),
        before: new Date(before).toISOString(),
      }
    } finally {
      registry.close()
    }
  } finally {
    await source.objects.close()
  }
}

const isKey = (tag: string): boolean => /^[0-9a-f]{64}$/.test(tag)

function refusal(what: string, hint: string): VlbError {
  return new VlbError('VLB_PRUNE', `${what}: what others need would be removed from the remote`, {
    hint: `${hint}; or, if that is not so: git vlb prune --force`,
  })
}

/** Snapshots by their tags. What is none of ours, or is damaged, is left alone. */
async function readTagged(context: BuildContext, registry: Registry, tags: readonly string[]): Promise<Tagged[]> {
  const found = await inParallel(context, tags.filter(isKey), atOnce, async (inner, tag): Promise<Tagged[]> => {
    const here = registry.within(inner.signal)
    const text = await here.manifest(tag)
    const manifest = text === undefined ? 'it is gone' : parseOciManifest(text)
    if (text === undefined || typeof manifest === 'string') return []
    try {
      const config = (await here.blob(manifest.config, configLimit)).toString('utf8')
      const snapshot = parseSnapshot(config, layerKey(tag), manifest.blobs)
      if (typeof snapshot === 'string') return []
      const pushedAt = Date.parse(summaryOf(text)?.pushedAt ?? '')
      const blobs = [...manifest.blobs, manifest.config]
      const time = Number.isNaN(pushedAt) ? undefined : pushedAt
      return [{ key: tag, digest: blobOf(text).digest, pushedAt: time, snapshot, blobs }]
    } catch (error) {
      if (!isRemoteError(error) || error.code !== 'VLB_REMOTE_DAMAGED') throw error
      context.emit({ type: 'warning', text: `${error.message}; it is left there` })
      return []
    }
  })
  return found.flat()
}

/** Keys that branches, tags, working trees, stashes or records of this repository would find. */
async function findNeeded(
  context: BuildContext,
  all: readonly Tagged[],
  { force }: PruneOptions,
): Promise<ReadonlySet<string>> {
  const { repo } = context.project
  const steps = stepsOf(all)
  const reach = new Reach(steps.map(({ key, contentId, inputs }) => ({ id: snapshotId(key), contentId, inputs })))
  const recorded = new Set<string>()
  const unreadable: string[] = []
  // By its name alone no base is told from another: others may have had another file of that name.
  const bases = [...new Set(steps.flatMap(({ inputs }) => inputs.base ?? []))].map((digest) => ({ digest, source: '' }))
  for (const prefix of await prefixesOf(context)) {
    let tips = 0
    const search = new ProjectSearch(context, { bases }, { commonDir: repo.commonDir, prefix }, repo, {
      tip: () => tips++,
      follow: (shape, tip) => reach.follow(shape, tip),
      record: (key, _, tip) => void (tip === undefined || recorded.add(key)),
      folder: () => {},
      unreadable: (kind, name, what) => void unreadable.push(`${what} of the ${kind} ${name}`),
    })
    await search.run({ here: false }).catch((error: unknown) => {
      context.signal.throwIfAborted()
      if (!(error instanceof VlbError) && !(error instanceof ToolError)) throw error
      throw refusal(`what this repository needs cannot be read (${error.message.split('\n')[0]})`, 'git fetch --all')
    })
  }
  if (unreadable.length > 0 && !force) {
    const more = unreadable.length > 1 ? `, and ${unreadable.length - 1} more` : ''
    throw refusal(`${unreadable[0]} cannot be read${more}`, 'correct it, or delete what has it')
  }
  return new Set([...reach.needed().keys(), ...recorded])
}

/** Folders of all projects of the repository, for several may share a remote. */
async function prefixesOf({ project, store }: BuildContext): Promise<Set<string>> {
  const { repo, prefix } = project
  const others = (await registered(store.root, false)).filter(({ commonDir }) => commonDir === repo.commonDir)
  // Of any commit: another branch or tag may have it in another folder. `--all`: also of worktrees and stashes.
  const args = ['log', '--all', '--format=', '--name-only', '--no-renames', '-z', '--', `:(top,glob)**/${configFile}`]
  const { stdout } = await ask('git', args, { cwd: repo.cwd })
  const committed = [...new Set(stdout.split('\0').map((path) => path.trim()))].filter(Boolean).map(dirname)
  return new Set([prefix, ...others.map((one) => one.prefix), ...committed.map((path) => (path === '.' ? '' : path))])
}

/** To delete a manifest takes away all of its tags: what has one that is not ours stays. */
async function digestsOf(context: BuildContext, registry: Registry, tags: readonly string[]): Promise<Set<string>> {
  const digests = await inParallel(context, tags, atOnce, async (inner, tag) => {
    return (await registry.within(inner.signal).digestOf(tag)) ?? ''
  })
  return new Set(digests)
}

/** Leases that ended or ran out. One whose age nobody knows may be alive. */
async function pruneLeases(
  context: BuildContext,
  registry: Registry,
  tags: readonly string[],
  { dryRun }: PruneOptions,
): Promise<number> {
  const removed = await inParallel(context, tags.filter(leasedKey), atOnce, async (inner, tag) => {
    const here = registry.within(inner.signal)
    const { text = '', time } = await here.manifestAt(tag)
    const lease = parseLease(text)
    if (!lease || !(lease.ended || isLeft(lease, time))) return false
    if (!dryRun) await remove(here, blobOf(text).digest)
    return true
  })
  return removed.filter(Boolean).length
}

async function remove(registry: Registry, digest: string): Promise<void> {
  if (await registry.deleteManifest(digest)) return
  throw new VlbError('VLB_REMOTE', `the registry of ${registry.name} lets nobody delete`, {
    hint: 'allow it there: docker-registry has REGISTRY_STORAGE_DELETE_ENABLED=true for that, in its environment; others have rules of their own for old tags',
  })
}
