// A revision as the changelog sees it: its layers and files, read from git alone. Unlike a build it takes what it finds: an
// old revision that could not be built any more can still be compared.
import { basename } from 'node:path'
import type { LayerSide, LayerStep } from '../core/changelog.ts'
import { type Config, configFile } from '../core/config.ts'
import { parseConfig } from '../core/config-file.ts'
import { printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { compareLayerNames, readScript, type TreeEntry } from '../core/layer.ts'
import { lookup, type Objects } from '../git/objects.ts'
import { resolveRevision } from '../git/repo.ts'
import type { Project } from './project.ts'

export interface Side {
  rev: string
  commit: string
  /** Tree of the project's folder. */
  tree: TreeId
  layers: LayerSide[]
  /** vlb.yaml's blob. */
  configEntry: TreeEntry
  /** Undefined where it is not valid. */
  config: Config | undefined
}

const layerLike = /^[0-9]{2,}_[A-Za-z0-9._-]+$/

export function isLayerLike(name: string): boolean {
  return layerLike.test(name)
}

export async function readSide(project: Project, objects: Objects, rev: string): Promise<Side> {
  const { commit, tree } = await resolveRevision(project.repo, rev)
  const top = await lookup(objects, tree, project.prefix)
  const entries = top?.mode === '40000' ? await objects.tree(treeId(top.oid)) : []
  const configEntry = entries.find(({ name, mode }) => name === configFile && mode.startsWith('100'))
  if (!top || !configEntry) {
    const file = project.prefix === '' ? configFile : `${project.prefix}/${configFile}`
    throw new VlbError('VLB_NO_PROJECT', `the project is not in ${printable(rev)}: no ${printable(file)} there`, {
      hint: `name revisions that have it; see: git log --oneline -- :/${printable(file)}`,
    })
  }
  const at = treeId(top.oid)
  const layers: LayerSide[] = []
  for (const entry of layersIn(entries)) layers.push(await readLayerSide(objects, at, entry))
  const config = await readConfig(project, objects, configEntry)
  return { rev, commit, tree: at, layers, configEntry, config }
}

function layersIn(entries: readonly TreeEntry[]): TreeEntry[] {
  return entries
    .filter(({ name, mode }) => mode === '40000' && isLayerLike(name))
    .sort((a, b) => compareLayerNames(a.name, b.name))
}

async function readConfig(project: Project, objects: Objects, entry: TreeEntry): Promise<Config | undefined> {
  try {
    const text = (await objects.blob(entry.oid)).toString('utf8')
    return parseConfig(text, configFile, basename(project.folder).replace(/\.git$/, ''))
  } catch (error) {
    if (error instanceof VlbError) return undefined
    throw error
  }
}

const kinds = ['build-base', 'build-layer', 'modify-disk']

async function readLayerSide(objects: Objects, root: TreeId, entry: TreeEntry): Promise<LayerSide> {
  const entries = await objects.tree(treeId(entry.oid))
  const script = entries.find(({ name }) => kinds.includes(name))
  const rolled = entries.find(({ name, mode }) => name === 'layers' && mode === '40000')
  if (script || !rolled) {
    const steps = [await readStep(objects, root, entry, entry.name, script)]
    return { name: entry.name, kind: script?.name ?? '', steps }
  }
  return { name: entry.name, kind: 'layers', steps: await stepsIn(objects, root, rolled, `${entry.name}/layers`) }
}

async function stepsIn(objects: Objects, root: TreeId, folder: TreeEntry, path: string): Promise<LayerStep[]> {
  const steps: LayerStep[] = []
  for (const entry of layersIn(await objects.tree(treeId(folder.oid)))) {
    const entries = await objects.tree(treeId(entry.oid))
    const script = entries.find(({ name }) => kinds.includes(name))
    steps.push(await readStep(objects, root, entry, `${path}/${entry.name}`, script))
  }
  return steps
}

async function readStep(
  objects: Objects,
  root: TreeId,
  entry: TreeEntry,
  path: string,
  script: TreeEntry | undefined,
): Promise<LayerStep> {
  const includes: LayerStep['includes'] = {}
  for (const name of script ? await includesOf(objects, script) : []) {
    const found = await lookup(objects, root, name)
    if (found) includes[name] = `${found.mode} ${found.oid}`
  }
  return { path, name: entry.name, tree: entry.oid, includes }
}

async function includesOf(objects: Objects, script: TreeEntry): Promise<string[]> {
  if (!script.mode.startsWith('100')) return []
  try {
    return readScript(await objects.blob(script.oid), script.name).directives.includes
  } catch (error) {
    if (error instanceof VlbError) return []
    throw error
  }
}

export interface TreeFile {
  mode: string
  oid: string
}

/** Files below a tree, by path; symlinks count as files of their target's name. */
export async function filesOf(objects: Objects, tree: TreeId, under = ''): Promise<Map<string, TreeFile>> {
  const files = new Map<string, TreeFile>()
  for (const { name, mode, oid } of await objects.tree(tree)) {
    if (mode !== '40000') files.set(`${under}${name}`, { mode, oid })
    else for (const [path, file] of await filesOf(objects, treeId(oid), `${under}${name}/`)) files.set(path, file)
  }
  return files
}
