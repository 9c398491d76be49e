// `git vlb build`: the working tree or any revisions, each to its image.
import { resolve } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { checkEnvironment, checkSecrets, findLayer, upTo } from '../core/plan.ts'
import type { BuildError, BuildResult, BuiltImage, BuiltLayer, BuiltSbom } from '../core/results-build.ts'
import type { Snapshot } from '../store/store.ts'
import type { Ahead } from './ahead.ts'
import type { ChainOptions } from './chain.ts'
import { writeSums } from './checksums.ts'
import type { BuildContext } from './context.ts'
import { SnapshotGone } from './damage.ts'
import { checkOutput, makeImages, startAhead } from './flatten.ts'
import { inParallel } from './parallel.ts'
import { askToMakeWay } from './prebuild-state.ts'
import { type LoadedSource, loadRevision, loadWorkingTree } from './project.ts'
import { keepRecord } from './record.ts'
import { type SbomRequest, writeSbom } from './sbom.ts'
import { leaseSeconds, pullerFor, pushBuilt, pushesAlways, turnsFor } from './sharing.ts'
import { sumsFor, type TargetOptions, targetsFor } from './targets.ts'
import { buildChain, type ChainResult } from './walk.ts'

export interface BuildOptions
  extends Omit<ChainOptions, 'rebuild' | 'since' | 'beforeBuild' | 'pull' | 'turns'>,
    TargetOptions {
  revisions: string[]
  /** Layers to rebuild, by name or number. */
  rebuild: string[]
  /** How many revisions are built at once. */
  jobs: number
  /** Whether the image's SHA-256 is wanted. */
  digest: boolean
  sbom?: SbomRequest | undefined
  /** Whether snapshots are shared through the project's remote. */
  remote: boolean
}

interface RevisionResult {
  chain: ChainResult
  images: BuiltImage[]
  /** Where their checksums go. */
  sums: string | undefined
  sbom?: BuiltSbom
}

export async function build(context: BuildContext, options: BuildOptions): Promise<BuildResult> {
  const started = Date.now()
  if (options.output !== undefined && options.revisions.length > 1) {
    throw new VlbError('VLB_USAGE', '-o names one file, but several revisions are to be built', {
      hint: 'leave -o out: each image gets its revision into its name',
    })
  }
  if (options.sbom !== undefined && options.revisions.length > 1) {
    throw new VlbError('VLB_USAGE', '--sbom names one file, but several revisions are to be built', {
      hint: 'build them one by one; what is in the store is not built again',
    })
  }
  // Everything is read and checked before anything is built: a mistake in the last revision shows at once.
  const sources = await loadAll(context, options.revisions)
  try {
    for (const source of sources) checkOptions(context, source, options)
    if (options.remote && pushesAlways(context)) leaseSeconds(context)
    if (!options.dryRun) await context.store.prepare()
    const results = await inParallel(context, sources, options.jobs, (inner, source) =>
      buildSurely(inner, source, options, started),
    )
    await sumUp(context, results)
    return summarise(results, sources, options, (Date.now() - started) / 1000)
  } finally {
    for (const source of sources) await source.objects.close()
  }
}

async function loadAll(context: BuildContext, revisions: string[]): Promise<LoadedSource[]> {
  if (revisions.length === 0) return [await loadWorkingTree(context.project)]
  const sources: LoadedSource[] = []
  try {
    for (const name of new Set(revisions)) sources.push(await loadRevision(context.project, name))
    return sources
  } catch (error) {
    for (const source of sources) await source.objects.close()
    throw error
  }
}

function checkOptions(context: BuildContext, source: LoadedSource, options: BuildOptions): void {
  checkEnvironment(source.layers, options.env)
  checkSecrets(source.layers, new Set(options.secrets.keys()))
  upTo(source.layers, options.last)
  for (const wanted of options.rebuild) findLayer(source.layers, wanted)
  const targets = targetsFor(context.project.folder, source, options)
  const sums = sumsFor(source, targets)
  if (options.sbom && [...targets.map(({ path }) => path), sums].includes(options.sbom.path)) {
    throw new VlbError('VLB_USAGE', `--sbom names a file that the build writes anyway, ${options.sbom.path}`, {
      hint: 'give it another name',
    })
  }
}

/** Once more where what was all there was dropped before an image of it was begun. */
async function buildSurely(...args: Parameters<typeof buildRevision>): Promise<RevisionResult> {
  for (;;) {
    try {
      return await buildRevision(...args)
    } catch (error) {
      if (!(error instanceof SnapshotGone)) throw error
    }
  }
}

async function buildRevision(
  context: BuildContext,
  source: LoadedSource,
  options: BuildOptions,
  since: number,
): Promise<RevisionResult> {
  const rebuild = new Set(options.rebuild.map((wanted) => findLayer(source.layers, wanted).name))
  const { folder } = context.project
  const { name, base, boot } = source.config
  const targets = targetsFor(folder, source, options)
  const sums = sumsFor(source, targets)
  for (const { path } of targets) checkOutput(path, base?.from === 'path' ? resolve(folder, base.path) : undefined)
  let ahead: Promise<Ahead | undefined> | undefined
  let kept: Promise<void> | undefined
  const onlyLast = (below: Snapshot) => {
    ahead = startAhead(context, below, targets)
  }
  try {
    const beforeBuild = () => askToMakeWay(context.project)
    const wish = { ...options, rebuild, since, beforeBuild, lazy: true, ...(options.flatten ? { onlyLast } : {}) }
    const pull = options.remote ? pullerFor(context, source, wish) : undefined
    const turns = options.remote && !options.dryRun ? turnsFor(context, source, wish) : undefined
    const chain = await buildChain(context, source, { ...wish, pull, turns }).finally(() => turns?.end())
    // What succeeded below a layer that failed is of use to others, too.
    if (options.remote && !options.dryRun) await pushBuilt(context, source, options.env)
    if (!chain.top || options.dryRun) return { chain, images: [], sums: undefined }
    const given = options.formats.length > 0 || options.compress !== undefined || options.output !== undefined
    const digest = options.digest || sums !== undefined
    const keep = async (image: BuiltImage | undefined) => {
      if (!chain.complete) return
      const ofConfig = options.flatten && !given ? image : undefined
      await keepRecord(context, source, { chain: chain.complete, env: options.env, image: ofConfig })
    }
    // A record names an image by its digest. Of a new one that has none, there is nothing to wait for.
    const isNew = chain.layers.some(({ result }) => result === 'built')
    if (isNew && !digest) kept = keep(undefined)
    kept?.catch(() => {})
    const images = await makeImages(context, {
      top: chain.top,
      targets,
      flatten: options.flatten,
      seal: source.config.seal,
      label: source.label,
      digest,
      machine: { name, cpus: boot.cpus, memory: boot.memory, arch: context.arch },
      sums,
      ahead: await ahead,
    })
    await (kept ?? keep(images[0]))
    if (!options.sbom) return { chain, images, sums }
    return { chain, images, sums, sbom: await writeSbom(context, options.sbom, name, chain.top) }
  } finally {
    // It would go on writing to a store that nobody looks after any more.
    await kept?.catch(() => {})
    await (await ahead)?.cancel()
  }
}

/** Several revisions' images lie in one folder, and so have one file of checksums. */
async function sumUp(context: BuildContext, results: readonly RevisionResult[]): Promise<void> {
  for (const path of new Set(results.map(({ sums }) => sums))) {
    if (path === undefined) continue
    const images = results.flatMap((result) => (result.sums === path ? result.images : []))
    await writeSums(context, path, images)
  }
}

function summarise(
  results: RevisionResult[],
  sources: LoadedSource[],
  options: BuildOptions,
  seconds: number,
): BuildResult {
  const named = options.revisions.length > 0
  const layers: BuiltLayer[] = results.flatMap(({ chain }, i) =>
    chain.layers.map((layer) => (named ? { ...layer, rev: sources[i]?.label ?? '' } : layer)),
  )
  const images: BuiltImage[] = results.flatMap((result, i) =>
    result.images.map((image) => (named ? { ...image, rev: sources[i]?.label ?? '' } : image)),
  )
  const failed = results.find(({ chain }) => chain.failed)?.chain.failed
  const error: BuildError | undefined = failed && {
    code: failed.error.code,
    message: failed.error.message,
    ...(failed.error.hint === undefined ? {} : { hint: failed.error.hint }),
    layer: failed.failure.layer,
    log: failed.failure.log,
    lastLines: failed.lastLines,
  }
  const sbom = results.find((result) => result.sbom)?.sbom
  const made = { image: images[0] ?? null, images, ...(sbom ? { sbom } : {}) }
  const base = { ok: !failed, dryRun: options.dryRun, layers, ...made, seconds }
  return error ? { ...base, error, exitStatus: failed?.error.exitStatus ?? 1 } : { ...base, exitStatus: 0 }
}
