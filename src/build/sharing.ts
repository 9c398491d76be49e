// What a build does with a remote, if the project has one: only then is loaded what talks to one.
import { VlbError } from '../core/errors.ts'
import type { ChainOptions } from './chain.ts'
import type { BuildContext } from './context.ts'
import type { PullWish } from './offers.ts'
import type { LoadedSource } from './project.ts'

function hasRemote({ project }: BuildContext, { config }: LoadedSource): boolean {
  return Boolean(project.settings.get('remote') ?? config.remote)
}

/** Brings what is missing of a chain from the remote. */
export function pullerFor(context: BuildContext, source: LoadedSource, wish: PullWish): ChainOptions['pull'] {
  if (!hasRemote(context, source)) return undefined
  return async (chain) => (await import('./pull.ts')).pullForBuild(context, chain, wish)
}

/** Pushes what was built, where `vlb.push` says so. */
export async function pushBuilt(
  context: BuildContext,
  source: LoadedSource,
  env: Record<string, string>,
): Promise<void> {
  if (!pushesAlways(context) || !hasRemote(context, source)) return
  await (await import('./push.ts')).pushAfterBuild(context, source, env)
}

/** Throws for a setting that means nothing, before anything is built. */
export function pushesAlways({ project }: BuildContext): boolean {
  const setting = project.settings.get('push') ?? 'never'
  if (setting === 'auto' || setting === 'never') return setting === 'auto'
  throw new VlbError('VLB_CONFIG', `vlb.push is auto or never, not "${setting}"`, { hint: 'git config vlb.push auto' })
}
