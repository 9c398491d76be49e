// The working tree as git would commit it: which layer folders differ from HEAD, and the tree ids they would have. The
// user's index and object store are only read: new objects and the index go to a scratch folder.
import { copyFile, mkdir, readdir, stat, utimes } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { configFile } from '../core/config.ts'
import { hasErrorCode, printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { isLayerName } from '../core/layer.ts'
import type { Environment } from '../host/env.ts'
import { ToolError } from '../host/run.ts'
import { gitPath, gitRead, type Repository, said } from './repo.ts'
import { parseStatusLine } from './status-lines.ts'

export interface WorkingTree {
  /** Commit that HEAD names; undefined before the first commit. */
  commit: string | undefined
  /** Branch that HEAD names; undefined when it is detached. */
  branch: string | undefined
  /** Tree of the whole repository with the layer folders as they are now; undefined where that is the commit's own. */
  tree: TreeId | undefined
  /** Which of the paths looked at differ from HEAD. */
  dirty: ReadonlySet<string>
  /** vlb.yaml differs from HEAD. */
  configDirty: boolean
  /** Environment with which git sees the new objects; empty when nothing is dirty. */
  env: Environment
}

/** Names of the layer folders in a project's folder. */
export async function layerFolders(project: string): Promise<string[]> {
  const names: string[] = []
  for (const entry of await readdir(project, { withFileTypes: true })) {
    if (!(entry.isDirectory() || entry.isSymbolicLink()) || !isLayerName(entry.name)) continue
    if (entry.isSymbolicLink()) throw symlinkedLayer(entry.name)
    names.push(entry.name)
  }
  return names
}

export function symlinkedLayer(name: string): VlbError {
  return new VlbError(
    'VLB_LAYER_SYMLINK',
    `layer ${name} is a symlink, and git holds only the link, not what it points to`,
    {
      hint: 'copy the folder, or move what is shared into a folder of its own and read it from both layers',
    },
  )
}

/**
 * Reads the working tree of the project at `project`. `scratch` gives a folder for new objects, asked for only when a
 * layer is dirty; it must live as long as the objects are read. `more` are other paths to look at.
 */
export async function readWorkingTree(
  repo: Repository,
  project: string,
  scratch: () => Promise<string>,
  more: readonly string[] = [],
): Promise<WorkingTree> {
  const paths = [...(await layerFolders(project)), ...more]
  const found = await readStatus(repo, project, paths)
  const { commit, dirty } = found
  if (paths.length === 0 || (dirty.size === 0 && commit)) return { ...found, tree: undefined, env: {} }
  const env = await temporaryIndex(repo, await scratch())
  if (dirty.size > 0) await addFolders(project, [...dirty], env)
  const tree = await gitRead(project, ['-c', 'core.splitIndex=false', 'write-tree', '--missing-ok'], env)
  return { ...found, tree: treeId(tree.trim()), env }
}

/** `git status`, porcelain format 2 (git-status(1)), limited to `paths`; it writes nothing, not even the index. */
async function readStatus(
  repo: Repository,
  project: string,
  paths: readonly string[],
): Promise<Omit<WorkingTree, 'tree' | 'env'>> {
  const dirty = new Set<string>()
  const args = [
    '--literal-pathspecs',
    '-c',
    'core.fsmonitor=false',
    'status',
    '--porcelain=v2',
    '--branch',
    // How far the branch is from its upstream takes a walk through the history.
    '--no-ahead-behind',
    '-z',
    '--untracked-files=all',
    '--no-renames',
    '--',
  ]
  const answer = await gitRead(project, [...args, configFile, ...paths], {
    GIT_OPTIONAL_LOCKS: '0',
  })
  // Paths are named from the working tree's top.
  const above = relative(repo.worktree ?? project, project)
  const skipped = above === '' ? 0 : above.length + 1
  let commit: string | undefined
  let branch: string | undefined
  let configDirty = false
  for (const line of answer.split('\0')) {
    if (line.startsWith('# branch.oid ')) commit = line.slice(13) === '(initial)' ? undefined : line.slice(13)
    if (line.startsWith('# branch.head ')) branch = line.slice(14) === '(detached)' ? undefined : line.slice(14)
    const { kind, path } = parseStatusLine(line) ?? {}
    if (path === undefined) continue
    const below = path.slice(skipped)
    if (below === configFile) {
      configDirty = true
      continue
    }
    if (kind === 'u') {
      throw new VlbError('VLB_LAYER_CONFLICT', `${printable(path)} has a merge conflict`, {
        hint: 'resolve it and git add it, or abort the merge',
      })
    }
    const matched = paths.find((one) => below === one || below.startsWith(`${one}/`))
    if (matched !== undefined) dirty.add(matched)
  }
  return { commit, branch, dirty, configDirty }
}

/** A copy of the user's index, and a folder for new objects: the environment in which git uses both. */
export async function temporaryIndex(repo: Repository, scratch: string): Promise<Environment> {
  const index = join(scratch, 'index')
  const objects = join(scratch, 'objects')
  await mkdir(objects, { recursive: true })
  try {
    // With a copy of the user's index git reads again only what changed since.
    const original = await gitPath(repo, 'index')
    const seconds = Math.floor((await stat(original)).mtimeMs / 1000)
    await copyFile(original, index)
    // git trusts what the index says of a file only if the file is older than the index (racy-git, gitformat-index(5)):
    // a copy that looked newer would hide edits of the last moment.
    await utimes(index, seconds, seconds)
  } catch (error) {
    if (!hasErrorCode(error, 'ENOENT')) throw error
  }
  return {
    GIT_INDEX_FILE: index,
    GIT_OBJECT_DIRECTORY: objects,
    GIT_ALTERNATE_OBJECT_DIRECTORIES: quoteAlternate(join(repo.commonDir, 'objects')),
  }
}

/** The variable is a list with ':' between; a path with one is written in double quotes (git(1)). */
function quoteAlternate(path: string): string {
  return /[:"]/.test(path) ? `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"` : path
}

async function addFolders(project: string, layers: readonly string[], env: Environment): Promise<void> {
  const settings = [
    'core.fsmonitor=false',
    'core.splitIndex=false',
    'core.looseCompression=0',
    'core.safecrlf=false',
    'advice.addEmbeddedRepo=false',
  ]
  try {
    await gitRead(
      project,
      ['--literal-pathspecs', ...settings.flatMap((s) => ['-c', s]), 'add', '--all', '--', ...layers],
      env,
    )
  } catch (error) {
    if (!(error instanceof ToolError)) throw error
    throw new VlbError('VLB_GIT', `git cannot read the layer folders: ${said(error)}`, {
      hint: 'see what git says to: git add --dry-run --all .',
    })
  }
}
