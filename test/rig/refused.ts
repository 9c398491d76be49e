// What every refusal has to be: a message that says what and where, a hint, an exit status, and nothing done.
import { existsSync, readdirSync } from 'node:fs'
import { expect } from 'vitest'
import type { Ran, Rig, RunOptions } from './rig.ts'

export interface Expected extends RunOptions {
  /** Default: 2. */
  status?: number
  /** Parts of the message. */
  says: string | string[]
  /** Parts of the hint. */
  hint: string | string[]
}

const listing = (folder: string) => (existsSync(folder) ? readdirSync(folder, { recursive: true }).sort() : [])

/** All of a project that a refused command could have changed. */
function state(rig: Rig): unknown {
  return {
    tree: rig.git('status', '--porcelain=v2', '--branch', '--untracked-files=all', '--ignored'),
    refs: rig.git('for-each-ref'),
    stash: rig.git('stash', 'list'),
    snapshots: listing(rig.store('snapshots')),
    images: listing(rig.path('build')),
  }
}

/** Runs a command that must be refused, in a repository with a working tree, and checks all that a refusal has to be. */
export async function refused(rig: Rig, args: string[], expected: Expected): Promise<Ran> {
  const before = state(rig)
  const ran = await rig.vlb(args, expected)
  complains(ran, expected)
  expect(state(rig), 'something was done').toEqual(before)
  return ran
}

/** The message alone, for repositories without a working tree. */
export function complains(ran: Ran, expected: Expected): void {
  expect(ran.code, ran.all).toBe(expected.status ?? 2)
  expect(ran.stderr).not.toMatch(/^ {4}at /m)
  const [, message = '', hint = ''] = /(?:^|\n)error: ([\s\S]*?)\nhint: ([\s\S]*)$/.exec(ran.stderr) ?? []
  expect(hint, `no error with a hint, but:\n${ran.all}`).not.toBe('')
  for (const part of [expected.says].flat()) expect(message).toContain(part)
  for (const part of [expected.hint].flat()) expect(hint).toContain(part)
}
