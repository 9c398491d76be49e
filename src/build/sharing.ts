// What a build does with a remote, if the project has one: only then is loaded what talks to one.
import { VlbError } from '../core/errors.ts'
import { leaseLimits } from '../core/lease.ts'
import { parseDuration } from '../core/units.ts'
import type { ChainOptions, Turns } from './chain.ts'
import type { BuildContext } from './context.ts'
import type { KeyLeases } from './leases.ts'
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

/** Whose turn it is to build, where what is built is pushed: only what is missing costs the remote a question. */
export function turnsFor(
  context: BuildContext,
  source: LoadedSource,
  { rebuild }: Pick<PullWish, 'rebuild'>,
): (Turns & { end: () => Promise<void> }) | undefined {
  if (!pushesAlways(context) || !hasRemote(context, source)) return undefined
  const seconds = leaseSeconds(context)
  if (seconds === undefined) return undefined
  let leases: KeyLeases | undefined
  return {
    turn: async (chain, at) => {
      leases ??= await (await import('./leases.ts')).openLeases(context, source.config, { seconds, rebuild })
      return await leases.turn(chain, at)
    },
    ended: (step, snapshots) => leases?.ended(step, snapshots),
    end: async () => await leases?.end(),
  }
}

/** For how long others wait for one that shows no sign of life; undefined: machines do not wait for each other. */
export function leaseSeconds({ project }: BuildContext): number | undefined {
  const setting = project.settings.get('lease') ?? '90s'
  if (setting === 'never') return undefined
  const seconds = parseDuration(setting)
  if (seconds !== undefined && seconds >= leaseLimits.least && seconds <= leaseLimits.most) return seconds
  throw new VlbError('VLB_CONFIG', `vlb.lease is never, or a time from 1s to 1h, not "${setting}"`, {
    hint: 'git config vlb.lease 90s',
  })
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
