// What a round of chaos works with: the commands that it runs, each with a look at what came of it.
import { expect } from 'vitest'
import { expectedNow, type Random, restOf } from './chaos-model.ts'
import { contents } from './contents.ts'
import type { Ran, Rig } from './rig.ts'
import type { SmallDisk } from './small-disk.ts'

/** The size of the disk under the store, unless it is to be full. */
export const roomy = 'size=512M'

export interface Chaos {
  rig: Rig
  disk: SmallDisk
  /** Of this round. */
  dice: Random
  round: number
  /** What was done, for who has to find out why. */
  said: string[]
  /** What all images hold besides the files of scripts. */
  rest?: string
  /** How long each command took when it was left alone, in milliseconds. */
  times: Map<string, number>
  counts: Map<string, number>
}

export function say(chaos: Chaos, text: string): void {
  chaos.said.push(`${chaos.round}: ${text}`)
}

/** Runs a command that ends with one of these statuses. */
export async function run(chaos: Chaos, args: string[], allowed: readonly number[] = [0]): Promise<Ran> {
  const started = Date.now()
  const ran = await chaos.rig.vlb(args)
  say(chaos, `${args.join(' ')}: ${ran.code}`)
  expect(allowed, `git vlb ${args.join(' ')}: ${ran.code ?? ran.signal}\n${ran.all}`).toContain(ran.code)
  if (ran.code === 0) chaos.times.set(args[0] ?? '', Date.now() - started)
  return ran
}

export function isRight(chaos: Chaos, image: string, expected: ReadonlyMap<string, string>): void {
  const rest = restOf(contents(chaos.rig, image), expected)
  chaos.rest ??= rest
  expect(rest === chaos.rest, 'what the base brought is as it was').toBe(true)
}

/** All that scripts leave follows from these. */
export const told = (expected: ReadonlyMap<string, string>): string =>
  `${[...expected.keys()].join(' ')}\n${expected.get('log')}`

export const output = (rig: Rig) => rig.path('build/image.qcow2')

export async function build(chaos: Chaos, ...args: string[]): Promise<void> {
  await run(chaos, ['build', ...args])
  isRight(chaos, output(chaos.rig), expectedNow(chaos.rig))
}

/** The first look drops what is damaged, the second finds nothing. */
export async function verified(chaos: Chaos): Promise<void> {
  await run(chaos, ['cache', 'verify'])
  expect((await run(chaos, ['cache', 'verify'])).stdout).toContain('all sound')
}

/** Nothing is left, or at work in the background; the disk under the store is the test's own. */
export async function isTidy({ rig }: Chaos): Promise<void> {
  let left: string[] = []
  for (let i = 0; i < 4; i++) {
    left = (await rig.leaks()).filter((line) => !line.startsWith('mount: ') || !line.includes(' tmpfs vlb-test '))
    if (left.length === 0) return
  }
  expect(left, 'left behind').toEqual([])
}
