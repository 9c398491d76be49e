// A project opened: its folder, its repository, its store, and what a revision of it holds.
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { checksFolder } from '../core/checks.ts'
import { type Config, configFile } from '../core/config.ts'
import { hasErrorCode, printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { isLayerName, type Layer, type TreeEntry } from '../core/layer.ts'
import { checkLayers, type Source } from '../core/plan.ts'
import { lookup, type Objects, openObjects, openObjectsOfGit } from '../git/objects.ts'
import { openRepository, type Repository, type Revision, readSettings, resolveRevision } from '../git/repo.ts'
import { recoverSwitch } from '../git/switch.ts'
import { layerFolders, readWorkingTree, type WorkingTree } from '../git/worktree.ts'
import type { Environment } from '../host/env.ts'
import { LocalStore } from '../store/local.ts'
import { readLayer, withIncludes } from './layers.ts'

export interface Project {
  repo: Repository
  /** Absolute path of the folder with vlb.yaml; in a bare repository, of the repository. */
  folder: string
  /** Path of that folder below the repository's top, '' for the top itself. */
  prefix: string
  settings: Map<string, string>
  store: LocalStore
  /** Ends what reads objects of it. */
  signal: AbortSignal
  /** What was done about a rollup that was cut off in its last step. */
  recovered?: 'back' | 'forth' | undefined
}

/** A revision with what is needed to build it. */
export interface LoadedSource extends Source {
  objects: Objects
  /** Where git finds objects of a dirty working tree. */
  env: Environment
  /** Tree of the project's folder. */
  tree: TreeId | undefined
  /** Tree of the folder with the checks. */
  checks: TreeId | undefined
  /** That folder differs from the commit. */
  checksDirty: boolean
  /** What people call it: a revision as given; of the working tree its branch, else its commit. */
  name: string
  /** The commit alone makes it up: neither a layer, nor what they include, nor vlb.yaml differs from it. */
  clean: boolean
}

const configReader = () => import('../core/config-file.ts')

/** Opens the project that `cwd` lies in. */
export async function openProject(cwd: string, signal: AbortSignal): Promise<Project> {
  // What reads vlb.yaml is loaded while git is at work.
  const [repo, settings] = await together([openRepository(cwd), readSettings(cwd), configReader()])
  const recovered = repo.worktree === undefined ? undefined : await recoverSwitch(repo)
  // Folders have moved, and `cwd` may be one of them.
  if (recovered) return { ...(await openProject(cwd, signal)), recovered }
  const folder = repo.worktree === undefined ? repo.cwd : await findProject(repo.cwd, repo.worktree)
  const configured = settings.get('store')
  const root = configured
    ? resolve(repo.worktree ?? repo.commonDir, expandHome(configured))
    : join(repo.commonDir, 'vlb')
  if (/\p{Cc}/u.test(root)) {
    throw new VlbError('VLB_USAGE', `the path of the store holds control characters: ${printable(root)}`, {
      hint: 'rename that folder, or use another store: git config vlb.store PATH',
    })
  }
  const prefix = relative(repo.worktree ?? folder, folder)
  const store = new LocalStore(root, { commonDir: repo.commonDir, prefix })
  return { repo, folder, prefix, settings, store, signal, recovered }
}

function expandHome(path: string): string {
  return path.startsWith('~/') ? join(process.env['HOME'] ?? '/', path.slice(2)) : path
}

/** Up from `from` to the repository's top; where no vlb.yaml is found, `from` itself, for there may be one in a revision. */
async function findProject(from: string, top: string): Promise<string> {
  for (let folder = from; ; folder = dirname(folder)) {
    if (await isFile(join(folder, configFile))) return folder
    if (folder === top || folder === dirname(folder)) return from
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false
}

/** The working tree as it is now, committed or not. New objects go to a scratch folder of the store. */
export async function loadWorkingTree(project: Project): Promise<LoadedSource> {
  if (project.repo.worktree === undefined) {
    throw new VlbError('VLB_BARE', 'this is a bare repository: it has no working tree to build', {
      hint: 'name a revision: git vlb build main',
    })
  }
  const first = await readWorkingSource(project, [])
  const included = [...new Set(first.layers.flatMap((layer) => layer.directives.includes))]
  if (included.length === 0) return first
  // Only the scripts tell what else is to be looked at.
  await first.objects.close()
  const second = await readWorkingSource(project, included)
  return await withObjects(second.objects, async () => ({
    ...second,
    layers: await withIncludes(second, second.layers),
  }))
}

async function readWorkingSource(project: Project, included: readonly string[]): Promise<LoadedSource> {
  const [config, names, working] = await together([
    readConfig(project.folder),
    layerFolders(project.folder),
    readWorkingTree(project.repo, project.folder, () => project.store.scratch.folder(), [checksFolder, ...included]),
  ])
  return await withObjects(openObjectsOfGit(project.repo, working.env, project.signal), (objects) =>
    readWorkingLayers(project, config, names, working, objects),
  )
}

/** Closes the objects if reading them fails: the git that reads them would keep this process alive. */
async function withObjects<T>(objects: Objects, read: (objects: Objects) => Promise<T>): Promise<T> {
  try {
    return await read(objects)
  } catch (error) {
    await objects.close()
    throw error
  }
}

async function readWorkingLayers(
  project: Project,
  config: Config,
  names: readonly string[],
  working: WorkingTree,
  objects: Objects,
): Promise<LoadedSource> {
  const tree = working.tree ?? (working.commit && (await objects.treeOf(working.commit)))
  const top = tree ? await lookup(objects, treeId(tree), project.prefix) : undefined
  const entries = top ? await objects.tree(treeId(top.oid)) : []
  const committed = working.commit && working.dirty.size > 0 ? await objects.treeOf(working.commit) : undefined
  const differs = async (path: string, oid: string): Promise<boolean> => {
    const [name = '', step] = path.split('/')
    if (!working.dirty.has(name) || step === undefined) return working.dirty.has(name)
    return !committed || (await lookup(objects, committed, join(project.prefix, path)))?.oid !== oid
  }
  const layers: Layer[] = []
  for (const name of names) {
    const entry = entries.find((e) => e.name === name)
    if (!entry) {
      throw new VlbError('VLB_LAYER_KIND', `${name} holds nothing that git would store, so no script`, {
        hint: `add an executable ${name}/build-layer (is it ignored? git check-ignore -v ${name}/build-layer), or remove the folder`,
      })
    }
    layers.push(await readLayer(objects, entry, differs))
  }
  return {
    label: '',
    commit: working.commit,
    name: working.branch ?? working.commit?.slice(0, 12) ?? 'HEAD',
    config,
    layers: checkLayers(layers, config, configFile),
    objects,
    env: working.env,
    tree: top ? treeId(top.oid) : undefined,
    checks: checksIn(entries),
    checksDirty: working.dirty.has(checksFolder),
    clean: working.commit !== undefined && isClean(working, entries, names),
  }
}

/** A layer folder that is missing here differs from the commit, too; so does a vlb.yaml that git was told to ignore. */
function isClean(working: WorkingTree, entries: readonly TreeEntry[], names: readonly string[]): boolean {
  // Checks change no image.
  const dirty = [...working.dirty].filter((path) => path !== checksFolder)
  if (dirty.length > 0 || working.configDirty) return false
  const committed = entries.filter(({ name, mode }) => mode === '40000' && isLayerName(name))
  return committed.length === names.length && entries.some(({ name }) => name === configFile)
}

function checksIn(entries: readonly TreeEntry[]): TreeId | undefined {
  const entry = entries.find(({ name, mode }) => name === checksFolder && mode === '40000')
  return entry && treeId(entry.oid)
}

/** Waits for all, even if one fails: nothing may run on behind an error. Then throws the first error in their order. */
export async function together<Results extends unknown[]>(
  work: { [I in keyof Results]: Promise<Results[I]> },
): Promise<Results> {
  await Promise.allSettled(work)
  return (await Promise.all(work)) as Results
}

async function readConfig(folder: string): Promise<Config> {
  const { parseConfig } = await configReader()
  try {
    return parseConfig(await readFile(join(folder, configFile), 'utf8'), configFile, basename(folder))
  } catch (error) {
    if (!hasErrorCode(error, 'ENOENT', 'EISDIR')) throw error
    throw new VlbError('VLB_NO_PROJECT', `no ${configFile} in ${folder} or above it`, {
      hint: 'start a project here: git vlb init',
    })
  }
}

/** A revision, without checking it out. */
export async function loadRevision(project: Project, name: string): Promise<LoadedSource> {
  const revision = await resolveRevision(project.repo, name)
  return await withObjects(await openObjects(project.repo), (objects) => readRevision(project, revision, objects))
}

/** A tree that is in no commit of its own yet, as a revision; `env` tells git where its objects are. */
export async function loadTree(project: Project, revision: Revision, env: Environment): Promise<LoadedSource> {
  const objects = openObjectsOfGit(project.repo, env, project.signal)
  return { ...(await withObjects(objects, () => readRevision(project, revision, objects))), env, clean: false }
}

async function readRevision(project: Project, revision: Revision, objects: Objects): Promise<LoadedSource> {
  const { name } = revision
  const top = await lookup(objects, revision.tree, project.prefix)
  const entries = top?.mode === '40000' ? await objects.tree(treeId(top.oid)) : []
  const file = `${name}:${project.prefix ? `${project.prefix}/` : ''}${configFile}`
  const blob = entries.find((e) => e.name === configFile && e.mode.startsWith('100'))
  if (!top || !blob) {
    throw new VlbError('VLB_NO_PROJECT', `no ${file}`, {
      hint: "name a revision that has it, or go to the project's folder: -C DIR",
    })
  }
  const { parseConfig } = await configReader()
  const config = parseConfig(
    (await objects.blob(blob.oid)).toString('utf8'),
    file,
    basename(project.folder).replace(/\.git$/, ''),
  )
  const layers: Layer[] = []
  for (const entry of entries) {
    if (!['40000', '120000', '160000'].includes(entry.mode) || !isLayerName(entry.name)) continue
    layers.push(await readLayer(objects, entry, async () => false))
  }
  const tree = treeId(top.oid)
  const complete = await withIncludes({ objects, tree }, checkLayers(layers, config, file))
  return {
    label: name,
    name,
    commit: revision.commit,
    config,
    layers: complete,
    objects,
    env: {},
    tree,
    checks: checksIn(entries),
    checksDirty: false,
    clean: true,
  }
}
