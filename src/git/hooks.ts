// Installs hooks beside whatever is there, and takes them out again to the last byte. Every change is one rename, so that
// a hook is never missing or half written.
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import {
  type BlockFlag,
  besideEnding,
  findBlock,
  firstLine,
  type HookName,
  type HookParts,
  hookBlock,
  hookNames,
  keptFolder,
  kindOf,
  replaceFirstLine,
  sameBlock,
  unwrappedLine,
  withBlock,
  withoutBlock,
  wrappedLine,
} from '../core/hooks.ts'
import type { HookStatus } from '../core/results.ts'
import { moveInto, sync } from '../host/files.ts'
import { ask } from '../host/run.ts'
import { gitRead, type Repository } from './repo.ts'

/** Where git looks for hooks: the folder that linked worktrees share, or what core.hooksPath says. */
export async function hooksFolder(repo: Repository): Promise<string> {
  if (repo.worktree === undefined) {
    throw new VlbError('VLB_BARE', 'this is a bare repository: nothing is checked out here, so no hook would run', {
      hint: 'install the hooks in a clone or in a linked worktree of it',
    })
  }
  // From the top: there a relative core.hooksPath starts, since there git runs hooks.
  const folder = resolve(
    repo.worktree,
    (await gitRead(repo.worktree, ['rev-parse', '--git-path', 'hooks'])).replace(/\n$/, ''),
  )
  const found = (await stat(folder).catch(absent)) ?? (await lstat(folder).catch(absent))
  if (found && !found.isDirectory()) {
    throw new VlbError('VLB_HOOKS', `git looks for hooks in ${folder}, which is no folder`, {
      hint: 'see who says so: git config --show-origin core.hooksPath',
    })
  }
  return folder
}

interface Existing {
  path: string
  /** One character a byte. */
  content: string
  mode: number
  owner: { uid: number; gid: number }
  link: boolean
}

async function readHook(path: string): Promise<Existing | undefined> {
  const found = await lstat(path).catch(absent)
  if (!found) return undefined
  if (!found.isFile() && !found.isSymbolicLink()) {
    throw new VlbError('VLB_HOOKS', `${path} is neither a file nor a link`, { hint: 'move it away' })
  }
  const link = found.isSymbolicLink()
  return {
    path,
    content: link ? '' : await readFile(path, 'latin1'),
    mode: found.mode & 0o7777,
    owner: { uid: found.uid, gid: found.gid },
    link,
  }
}

function absent(error: unknown): undefined {
  if (!hasErrorCode(error, 'ENOENT', 'ENOTDIR')) throw error
}

/** Installs all hooks, or brings those of an older git vlb up to date. */
export async function installHooks(folder: string, parts: HookParts): Promise<void> {
  // Everything is read first: what is in the way shows before anything is changed.
  const hooks = await Promise.all(hookNames.map(async (name) => ({ name, there: await readState(folder, name) })))
  const made = await explain(folder, mkdir(folder, { recursive: true }))
  for (const { name, there } of hooks) {
    const projects = [...new Set([...there.projects, ...parts.projects])].sort()
    const makeBlock = (flags: readonly BlockFlag[]) => hookBlock(name, { ...parts, projects }, flags)
    await explain(folder, installHook(folder, name, there, made === undefined ? [] : ['new-folder'], makeBlock))
  }
}

interface HookState {
  hook: Existing | undefined
  how: HookStatus['how']
  block: ReturnType<typeof findBlock>
  projects: string[]
}

/** What is there, and how we are in it already. */
async function readState(folder: string, name: HookName): Promise<HookState> {
  const path = join(folder, name)
  const hook = await readHook(path)
  if (hook && !hook.link) {
    const block = findBlock(hook.content, path)
    if (block) {
      const how = block.flags.includes('kept') ? 'kept' : block.flags.includes('new-file') ? 'alone' : 'block'
      return { hook, how, block, projects: block.projects }
    }
    if (unwrappedLine(hook.content.split('\n', 1)[0] ?? '') !== undefined) {
      const beside = await readHook(path + besideEnding)
      const inside = beside && findBlock(beside.content, beside.path)
      return { hook, how: 'first-line', block: inside, projects: inside?.projects ?? [] }
    }
  }
  return { hook, how: null, block: undefined, projects: [] }
}

async function installHook(
  folder: string,
  name: HookName,
  { hook, how, block }: HookState,
  flags: readonly BlockFlag[],
  makeBlock: (flags: readonly BlockFlag[]) => string,
): Promise<void> {
  const path = join(folder, name)
  const own = (more: readonly BlockFlag[]) => firstLine + makeBlock(more)
  if (!hook) return await replace(path, own(['new-file', ...flags]))
  if (how === 'first-line') return await replace(path + besideEnding, own([]))
  if (block)
    return await replace(
      path,
      hook.content.replace(block.text, () => makeBlock(block.flags)),
      hook,
    )
  const kind = hook.link || !(hook.mode & 0o111) ? 'other' : kindOf(hook.content)
  if (kind === 'shell') return await replace(path, withBlock(hook.content, makeBlock), hook)
  const line = kind === 'script' ? wrappedLine(hook.content.split('\n', 1)[0] ?? '') : undefined
  if (line !== undefined && (await envSplits())) {
    await replace(path + besideEnding, own([]))
    return await replace(path, replaceFirstLine(hook.content, line), hook)
  }
  await keepAside(path, hook)
  await replace(path, own(['kept']))
}

/** Whether this host's env(1) splits the rest of a first line into words. */
async function envSplits(): Promise<boolean> {
  return (await ask('env', ['-S', "sh -c 'exit 7'"], { ok: [0, 1, 7, 125] })).exitCode === 7
}

function keptPath(path: string): string {
  return join(dirname(path), keptFolder, path.slice(dirname(path).length + 1))
}

/** Under its own name, by which programs that serve several hooks know what to do. */
async function keepAside(path: string, hook: Existing): Promise<void> {
  const kept = keptPath(path)
  await mkdir(dirname(kept), { recursive: true })
  await rm(kept, { force: true })
  if (!hook.link) {
    await link(path, kept)
    return await sync(dirname(kept))
  }
  const target = await readlink(path)
  await symlink(target.startsWith('/') ? target : `../${target}`, kept)
  await sync(dirname(kept))
}

/** Back to its place, as it was. */
async function putBack(path: string): Promise<void> {
  const kept = keptPath(path)
  const found = await lstat(kept).catch(absent)
  if (!found) {
    throw new VlbError('VLB_HOOKS', `${kept} is gone: it was the hook ${path} before git vlb's was installed`, {
      hint: `put it back, or delete ${path} yourself`,
    })
  }
  if (found.isSymbolicLink()) {
    const target = await readlink(kept)
    await symlink(target.startsWith('/') ? target : target.slice(3), temporary(path))
    await rename(temporary(path), path)
    await rm(kept)
  } else await rename(kept, path)
  await rmdir(dirname(kept)).catch(() => {})
}

const temporary = (path: string) => `${path}.git-vlb-tmp`

/** Writes a hook in one step, with mode and owner of the one it replaces. */
async function replace(path: string, content: string, like?: Existing): Promise<void> {
  const next = temporary(path)
  await rm(next, { force: true })
  try {
    await writeFile(next, content, { encoding: 'latin1', flag: 'wx' })
    if (like && process.getuid?.() === 0) await chown(next, like.owner.uid, like.owner.gid)
    await chmod(next, like?.mode ?? 0o755)
    await moveInto(next, path)
  } catch (error) {
    await rm(next, { force: true })
    throw error
  }
}

async function explain<T>(folder: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    if (!hasErrorCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'EXDEV', 'EMLINK')) throw error
    throw new VlbError('VLB_HOOKS_WRITE', `cannot write to the folder of the hooks: ${(error as Error).message}`, {
      hint: `give this user the right to write to ${folder}, or name another folder: git config core.hooksPath`,
      cause: error,
    })
  }
}

/** Takes all hooks out; true if there were any. */
export async function uninstallHooks(folder: string): Promise<boolean> {
  const hooks = await Promise.all(hookNames.map(async (name) => ({ name, there: await readState(folder, name) })))
  const installed = hooks.filter(({ there }) => there.how !== null)
  for (const { name, there } of installed) await explain(folder, uninstallHook(join(folder, name), there))
  const newFolder = installed.some(({ there }) => there.block?.flags.includes('new-folder'))
  if (newFolder && (await readdir(folder)).length === 0) await rmdir(folder)
  return installed.length > 0
}

async function uninstallHook(path: string, { hook, how, block }: HookState): Promise<void> {
  if (!hook) return
  if (how === 'first-line') {
    const line = unwrappedLine(hook.content.split('\n', 1)[0] ?? '') ?? ''
    await replace(path, replaceFirstLine(hook.content, line), hook)
    return await rm(path + besideEnding, { force: true })
  }
  if (!block) return
  const rest = withoutBlock(hook.content, block)
  if (how !== 'kept') return rest === undefined ? await rm(path) : await replace(path, rest, hook)
  if (rest === undefined) return await putBack(path)
  throw new VlbError('VLB_HOOKS', `somebody added lines to ${path}, which stands for the hook ${keptPath(path)}`, {
    hint: 'move those lines elsewhere, then run the command again',
  })
}

/** How each hook is installed; installs nothing. */
export async function hookStates(folder: string, parts: HookParts): Promise<HookStatus[]> {
  return await Promise.all(
    hookNames.map(async (name) => {
      const { hook, how, block, projects } = await readState(folder, name)
      const path = join(folder, name)
      if (how === null) return { name, path, state: 'missing' as const, how, other: hook !== undefined, projects }
      const wanted = block && hookBlock(name, { ...parts, projects }, block.flags)
      const current = wanted !== undefined && sameBlock(wanted, block?.text ?? '')
      const here = parts.projects.every((project) => projects.includes(project))
      const state = current && here ? ('installed' as const) : ('outdated' as const)
      return { name, path, state, how, other: how !== 'alone', projects }
    }),
  )
}

/** Hooks of the folder that git holds, so that everybody's copy would get ours. */
export async function trackedHooks(repo: Repository, folder: string): Promise<string[]> {
  if (repo.worktree === undefined || !`${folder}/`.startsWith(`${repo.worktree}/`)) return []
  const paths = hookNames.map((name) => join(folder, name))
  const { stdout } = await ask('git', ['ls-files', '--', ...paths], { cwd: repo.worktree, ok: [0, 128] })
  return stdout.split('\n').filter(Boolean)
}
