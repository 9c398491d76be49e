// git vlb cache ls, du, verify, rm
import type { BuildContext } from '../build/context.ts'
import { printable, VlbError } from '../core/errors.ts'
import { nearest } from '../core/nearest.ts'
import type { CommandResult } from '../core/results.ts'
import type { CacheResult } from '../core/results-store.ts'
import { type CommandContext, withProject } from './context.ts'
import type { Options } from './table.ts'

const actions = ['ls', 'du', 'verify', 'rm'] as const
type Action = (typeof actions)[number]

/** Which options belong to which action. */
const options: Record<string, readonly Action[]> = {
  why: ['ls'],
  quick: ['verify'],
  dryRun: ['verify', 'rm'],
  all: ['rm'],
  failed: ['rm'],
}

export async function cache(
  context: CommandContext,
  [word = '', ...names]: string[],
  given: Options,
): Promise<CommandResult> {
  const action = actionOf(word)
  check(action, names, given)
  return { kind: 'cache', data: await withProject(context, (project) => act(project, action, names, given)) }
}

function actionOf(word: string): Action {
  const action = actions.find((one) => one === word)
  if (action) return action
  const meant = nearest(word, actions)
  throw new VlbError('VLB_USAGE', `cache takes ls, du, verify or rm, not "${printable(word)}"`, {
    hint: `git vlb cache ${meant ?? 'ls'}`,
  })
}

function check(action: Action, names: readonly string[], given: Options): void {
  const stray = Object.keys(options).find((name) => given[name] === true && !options[name]?.includes(action))
  if (stray !== undefined) {
    const flag = stray.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
    throw new VlbError('VLB_USAGE', `--${flag} is for git vlb cache ${options[stray]?.join(' and ')}`, {
      hint: 'see: git vlb cache -h',
    })
  }
  if (names.length > 0 && (action === 'du' || action === 'verify')) {
    throw new VlbError('VLB_USAGE', `cache ${action} takes no names: it looks at all of the store`, {
      hint: `git vlb cache ${action}`,
    })
  }
  if (action !== 'rm') return
  const { all, failed } = given
  if (names.length === 0 && !all && !failed) {
    throw new VlbError('VLB_USAGE', 'cache rm takes keys or layers, --failed or --all', {
      hint: 'git vlb cache ls shows them; git vlb gc drops what nothing needs',
    })
  }
  if (names.length > 0 && all) {
    throw new VlbError('VLB_USAGE', '--all removes everything: not with names', { hint: 'leave one of the two out' })
  }
}

async function act(
  project: BuildContext,
  action: Action,
  names: readonly string[],
  given: Options,
): Promise<CacheResult> {
  const dryRun = given['dryRun'] === true
  if (action === 'verify') {
    const { verifyStore } = await import('../build/verify.ts')
    return await verifyStore(project, { quick: given['quick'] === true, dryRun })
  }
  const { diskUsage, listStore, removeFromStore } = await import('../build/cache.ts')
  if (action === 'ls') return await listStore(project, names, given['why'] === true)
  if (action === 'du') return await diskUsage(project)
  return await removeFromStore(project, {
    names,
    all: given['all'] === true,
    failed: given['failed'] === true,
    dryRun,
  })
}
