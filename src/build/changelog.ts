// `git vlb changelog`: what changed between two revisions, from git, and from what is known of their images.
import {
  type Changelog,
  type ChangelogCommit,
  type ChangelogEnd,
  type ChangelogLayer,
  compareLayers,
  type LayerChange,
  type LayerStep,
} from '../core/changelog.ts'
import { changelogHtml } from '../core/changelog-html.ts'
import { changelogMarkdown } from '../core/changelog-markdown.ts'
import { configFile } from '../core/config.ts'
import { printable, VlbError } from '../core/errors.ts'
import { type ListedFile, listedFiles } from '../core/file-list.ts'
import { treeId } from '../core/ids.ts'
import { comparePackages } from '../core/package-changes.ts'
import { commitDate, commitsBetween, isAncestor, previousTag, tagsAt } from '../git/commits.ts'
import { type Objects, openObjects } from '../git/objects.ts'
import { resolveRevision } from '../git/repo.ts'
import { attribute } from './attribution.ts'
import type { BuildContext } from './context.ts'
import { FileComparer } from './file-changes.ts'
import type { SideOptions } from './operands.ts'
import { type Known, knownOf } from './recorded.ts'
import { filesOf, readSide, type Side } from './sides.ts'

export const changelogFormats = ['md', 'json', 'html'] as const
export type ChangelogFormat = (typeof changelogFormats)[number]

export interface ChangelogOptions {
  /** Compare the files of the two images; with these, what is missing of them is built. */
  files?: Pick<SideOptions, 'env' | 'secrets'> | undefined
}

/** What changed between the ends that `range` names. */
export async function changelog(
  context: BuildContext,
  range: string | undefined,
  options: ChangelogOptions = {},
): Promise<Changelog> {
  const { project } = context
  const [older, newer] = await endsOf(context, range)
  const objects = await openObjects(project.repo)
  try {
    const from = await readSide(project, objects, older)
    const to = await readSide(project, objects, newer)
    // What is built for that is known afterwards.
    const files = options.files && (await changedFiles(context, from, to, options.files))
    return { ...(await compare(context, objects, from, to)), ...(files ? { files } : {}) }
  } finally {
    await objects.close()
  }
}

async function changedFiles(
  context: BuildContext,
  from: Side,
  to: Side,
  options: Pick<SideOptions, 'env' | 'secrets'>,
): Promise<ListedFile[]> {
  const [{ diffTrees }, { openSides }] = await Promise.all([import('./diff.ts'), import('./operands.ts')])
  await context.store.prepare()
  const top = ({ commit, layers, rev }: Side) => {
    const last = layers.at(-1)
    if (last) return `${commit}:${last.name}`
    throw new VlbError('VLB_NO_LAYERS', `${printable(rev)} has no layers whose files could be compared`, {
      hint: 'leave --files out',
    })
  }
  const [a, b] = await openSides(context, [top(from), top(to)], { ...options, cwd: context.project.folder })
  return listedFiles((await diffTrees(context, a, b)).changes)
}

/** `A..B`, where an end left out is HEAD; a revision alone begins at the last tag before it. */
async function endsOf(context: BuildContext, range: string | undefined): Promise<[from: string, to: string]> {
  const { repo } = context.project
  if (range?.includes('...')) {
    throw new VlbError('VLB_USAGE', `a changelog has two ends, which "${printable(range)}" does not name`, {
      hint: 'git vlb changelog A..B; of branches that parted, what only A has is listed, too',
    })
  }
  const at = range?.indexOf('..') ?? -1
  if (range !== undefined && at >= 0) return [range.slice(0, at) || 'HEAD', range.slice(at + 2) || 'HEAD']
  const { commit } = await resolveRevision(repo, range ?? 'HEAD')
  const tags = await tagsAt(repo, commit)
  // What was released is called by its name.
  const newer = range ?? tags.at(-1) ?? 'HEAD'
  return [await previousTag(repo, newer, commit, tags), newer]
}

async function compare(context: BuildContext, objects: Objects, from: Side, to: Side): Promise<Changelog> {
  const { repo, prefix } = context.project
  const [linear, history, older, newer] = await Promise.all([
    isAncestor(repo, from.commit, to.commit),
    commitsBetween(repo, from.commit, to.commit, prefix),
    knownOf(context, from.commit),
    knownOf(context, to.commit),
  ])
  const changes = compareLayers(from.layers, to.layers, await similarity(objects, from, to))
  const commits = attribute(history, prefix, changes)
  const comparer = new FileComparer(objects)
  const config = await comparer.file(configFile, from.configEntry, to.configEntry)
  const layers: ChangelogLayer[] = []
  for (const change of changes)
    layers.push(await describeLayer(comparer, change, { from, to, older, newer }, [...commits.to, ...commits.from]))
  const { packages, notes } = await packageChanges({ from, to, older, newer })
  if (!linear)
    notes.unshift(
      `${printable(from.rev)} is not an ancestor of ${printable(to.rev)}: what only ${printable(from.rev)} has is listed by itself.`,
    )
  return {
    project: to.config?.name ?? older?.record.project ?? (prefix || 'project'),
    from: await describeEnd(context, from, older),
    to: await describeEnd(context, to, newer),
    linear,
    layers,
    commits: commits.to,
    missing: commits.from,
    packages,
    config: config ?? null,
    notes,
  }
}

interface Ends {
  from: Side
  to: Side
  older: Known | undefined
  newer: Known | undefined
}

/** A renamed layer that was edited, too, still has most of its files. */
async function similarity(objects: Objects, from: Side, to: Side): Promise<(a: LayerStep, b: LayerStep) => boolean> {
  const contents = new Map<string, Set<string>>()
  for (const { tree } of [...from.layers, ...to.layers].flatMap(({ steps }) => steps)) {
    if (contents.has(tree)) continue
    contents.set(tree, new Set([...(await filesOf(objects, treeId(tree))).values()].map(({ oid }) => oid)))
  }
  return (a, b) => {
    const [one, other] = [contents.get(a.tree), contents.get(b.tree)]
    if (!one || !other || one.size === 0 || other.size === 0) return false
    const common = [...one].filter((oid) => other.has(oid)).length
    return common * 2 >= Math.max(one.size, other.size)
  }
}

async function describeLayer(
  comparer: FileComparer,
  { pairs, ...change }: LayerChange,
  { from, to, older, newer }: Ends,
  commits: readonly ChangelogCommit[],
): Promise<ChangelogLayer> {
  const files: ChangelogLayer['files'] = []
  for (const { from: a, to: b } of pairs) files.push(...(await comparer.steps(a, b, change.name)))
  const gone = change.change === 'removed'
  const before = change.was.length > 0 ? change.was : change.change === 'added' ? [] : [change.name]
  const [old, fresh] = [recorded(older, before), recorded(newer, gone ? [] : [change.name])]
  const side = gone ? from : to
  return {
    ...change,
    kind: side.layers.find(({ name }) => name === change.name)?.kind ?? 'build-layer',
    bytes: { from: bytesOf(old), to: bytesOf(fresh) },
    rebuilt:
      !change.edited &&
      old.length === 1 &&
      fresh.length === 1 &&
      old[0]?.key === fresh[0]?.key &&
      old[0]?.contentId !== fresh[0]?.contentId,
    commits: commits.filter(({ touched }) => touched.includes(change.name)).map(({ commit }) => commit),
    files,
  }
}

function recorded(known: Known | undefined, names: readonly string[]) {
  return known?.record.layers.filter(({ name }) => names.includes(name)) ?? []
}

function bytesOf(layers: readonly { bytes: number }[]): number | null {
  return layers.length === 0 ? null : layers.reduce((sum, { bytes }) => sum + bytes, 0)
}

async function describeEnd(context: BuildContext, side: Side, known: Known | undefined): Promise<ChangelogEnd> {
  return {
    rev: side.rev,
    commit: side.commit,
    date: await commitDate(context.project.repo, side.commit),
    record: known?.from ?? null,
    bytes: known ? bytesOf(known.record.layers) : null,
    base: known?.record.base ?? null,
    image: known?.record.image ?? null,
  }
}

async function packageChanges({ from, to, older, newer }: Ends): Promise<Pick<Changelog, 'packages' | 'notes'>> {
  const [before, after] = [await older?.packages(), await newer?.packages()]
  const notes: string[] = []
  const unknown = [before ? [] : printable(from.rev), after ? [] : printable(to.rev)].flat()
  if (unknown.length > 0) {
    const builds = `git vlb build ${unknown.join(' ')}`
    notes.push(
      `The packages of ${unknown.join(' and ')} are not known here. If another clone built it: \`git fetch origin refs/notes/vlb:refs/notes/vlb\`; else: \`${builds}\`.`,
    )
  }
  for (const [side, list] of [
    [from, before],
    [to, after],
  ] as const) {
    if (list?.problem !== undefined)
      notes.push(`The packages of ${printable(side.rev)} may be incomplete: ${wordsOnly(list.problem)}.`)
  }
  if (!before || !after) {
    const none = { added: [], removed: [], upgraded: [], major: [] }
    return { packages: { known: false, manager: (after ?? before)?.manager ?? null, ...none }, notes }
  }
  const wanted = to.config?.changelog.packages ?? []
  const manager = after.manager ?? before.manager
  return { packages: { known: true, manager, ...comparePackages(before, after, wanted) }, notes }
}

/** Without what would make code of it. */
function wordsOnly(text: unknown): string {
  return printable(String(text)).replaceAll('`', "'")
}

export function changelogText(data: Changelog, format: ChangelogFormat): string {
  if (format === 'json') return `${JSON.stringify(data, null, 2)}\n`
  return format === 'html' ? changelogHtml(data) : changelogMarkdown(data)
}
