// What a command gets, and how it opens a project.
import { totalmem } from 'node:os'
import type { BuildContext } from '../build/context.ts'
import { type Attach, parseAttach, parseDevice } from '../core/attach.ts'
import { printable, VlbError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { parseBudget } from '../core/gc.ts'
import { parseMemory } from '../core/memory.ts'
import { nearest } from '../core/nearest.ts'
import type { Options } from './table.ts'

export interface CommandContext {
  cwd: string
  emit: Emit
  signal: AbortSignal
  /** The result goes out as JSON, for a program. */
  json: boolean
}

export interface Opening {
  /** The nbd device to use, instead of what vlb.attach says. */
  device?: Attach | undefined
  /** Loads what `work` will need, while git tells of the repository. */
  preload?: () => Promise<unknown>
}

/** Opens the project, runs `work`, and removes every temporary file afterwards. */
export async function withProject<T>(
  context: CommandContext,
  work: (build: BuildContext) => Promise<T>,
  { device, preload }: Opening = {},
): Promise<T> {
  const [{ openProject }, { hostArchitecture }, { isSpaceError, spaceError }] = await Promise.all([
    import('../build/project.ts'),
    import('../build/context.ts'),
    import('../host/space.ts'),
  ])
  const opening = openProject(context.cwd, context.signal)
  await Promise.allSettled([opening, preload?.()])
  const project = await opening
  if (project.recovered) {
    const done = project.recovered === 'back' ? 'undone' : 'brought to its end'
    context.emit({ type: 'warning', text: `a rollup was cut off in its last step here; it was ${done}` })
  }
  try {
    const budget = project.settings.get('budget')
    if (budget !== undefined) parseBudget(budget, 'vlb.budget')
    const build: BuildContext = {
      project,
      store: project.store,
      emit: context.emit,
      signal: context.signal,
      arch: hostArchitecture(),
      memory: parseMemory(project.settings.get('memory'), totalmem()),
      attach: device ?? parseAttach(project.settings.get('attach')),
    }
    const done = await work(build)
    if (project.store.grown) await (await import('../build/gc.ts')).collectAfter(build)
    return done
  } catch (error) {
    // Wherever nothing more is known of it: most that is written goes to the store.
    throw isSpaceError(error) ? spaceError(project.store.root, { cause: error }) : error
  } finally {
    await project.store.scratch.close()
    await project.store.lease.release()
  }
}

export function text(options: Options, name: string): string | undefined {
  const value = options[name]
  return typeof value === 'string' ? value : undefined
}

/** The device that `--nbd` names. */
export function nbdDevice(options: Options): Attach | undefined {
  const device = text(options, 'nbd')
  return device === undefined ? undefined : parseDevice(device)
}

export function list(options: Options, name: string): string[] {
  const value = options[name]
  return Array.isArray(value) ? value : []
}

/** Refuses options that mean something together with `other` only. */
export function onlyWith(options: Options, other: string, names: readonly string[]): void {
  const alone = names.find((name) => options[name] !== undefined)
  if (alone !== undefined)
    throw new VlbError('VLB_USAGE', `--${alone} is for --${other}`, { hint: `add --${other}, or leave --${alone} out` })
}

/** One of a fixed set of words, or undefined if the option was not given. */
export function choice<Word extends string>(options: Options, name: string, words: readonly Word[]): Word | undefined {
  const value = text(options, name)
  return value === undefined ? undefined : oneOf(name, value, words)
}

/** The value of the option `name` as one of these words. */
export function oneOf<Word extends string>(name: string, value: string, words: readonly Word[]): Word {
  const word = words.find((w) => w === value)
  if (word) return word
  const meant = nearest(value, words)
  throw new VlbError('VLB_USAGE', `--${name} takes one of ${words.join(', ')}, not "${printable(value)}"`, {
    hint: meant ? `did you mean ${meant}?` : 'see -h for all options',
  })
}

/** Another environment variable of ours, read in this one place. */
export function cacheFolder(): string {
  return process.env['XDG_CACHE_HOME'] || `${process.env['HOME'] ?? '/root'}/.cache`
}

/** A variable of our own environment that the user named. */
export function environmentValue(name: string): string | undefined {
  return process.env[name]
}
