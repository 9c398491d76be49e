// Chaos: random edits, commits, branches, builds, rollups, gc, kills, full disks and damage, against a model that knows what each
// image must hold. VLB_CHAOS_ROUNDS says for how many rounds, VLB_CHAOS_SEED repeats the choices of a run (but for the moments
// of kills, which are the host's).
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { build, type Chaos, isRight, isTidy, output, roomy, run, say, told } from '../rig/chaos.ts'
import {
  branches,
  checkout,
  commit,
  edit,
  freeNumber,
  gcArguments,
  rename,
  reshape,
  rollupArguments,
} from '../rig/chaos-edits.ts'
import { damage, fullDisk, kill } from '../rig/chaos-harm.ts'
import { expectedNow, expectedOf, layersNow, type Random, random, script } from '../rig/chaos-model.ts'
import { contents } from '../rig/contents.ts'
import { rigTest } from '../rig/rig.ts'
import { withSmallDisk } from '../rig/small-disk.ts'

const rounds = Number(process.env['VLB_CHAOS_ROUNDS'] ?? 200)
const seed = process.env['VLB_CHAOS_SEED'] ?? String(Date.now() % 1_000_000)

async function buildRevision(chaos: Chaos): Promise<void> {
  const { rig, dice } = chaos
  const rev = dice.pick(branches(rig))
  const image = join(rig.folder, 'revision.qcow2')
  await run(chaos, ['build', rev, '-o', image])
  isRight(chaos, image, expectedOf(rig, rev))
  rmSync(image)
}

async function rollup(chaos: Chaos): Promise<void> {
  const { rig } = chaos
  const args = rollupArguments(chaos)
  const [before, count] = [expectedNow(rig), layersNow(rig).length]
  await run(chaos, args)
  expect(told(expectedNow(rig)), 'a rollup changes nothing in the image').toBe(told(before))
  expect(layersNow(rig).length).toBeLessThan(count)
  expect(rig.git('status', '--porcelain')).toBe('')
  if (chaos.dice.next() < 0.3) rig.git('reset', '--quiet', '--keep', 'HEAD~1')
}

async function gc(chaos: Chaos): Promise<void> {
  await run(chaos, gcArguments(chaos))
}

async function failing(chaos: Chaos): Promise<void> {
  const { rig, dice } = chaos
  const layer = `${freeNumber(rig, dice)}_fails`
  rig.layer(layer, 'echo half > /log\nexit 7')
  await run(chaos, ['build'], [1])
  rmSync(rig.path(layer), { recursive: true })
}

async function atOnce(chaos: Chaos): Promise<void> {
  const { rig, dice } = chaos
  edit(chaos)
  const image = join(rig.folder, 'revision.qcow2')
  const rev = dice.pick(branches(rig))
  await Promise.all([
    run(chaos, ['build']),
    run(chaos, ['build', rev, '-o', image]),
    run(chaos, gcArguments(chaos)),
    run(chaos, ['cache', 'verify', '--quick']),
  ])
  isRight(chaos, output(rig), expectedNow(rig))
  isRight(chaos, image, expectedOf(rig, rev))
  rmSync(image)
}

const operations: [weight: number, name: string, operation: (chaos: Chaos) => void | Promise<void>][] = [
  [14, 'edit', edit],
  [9, 'add or remove', reshape],
  [5, 'rename', rename],
  [7, 'commit', commit],
  [9, 'checkout', checkout],
  [14, 'build', (chaos) => build(chaos)],
  [4, 'build --no-flatten', (chaos) => build(chaos, '--no-flatten')],
  [5, 'build of a revision', buildRevision],
  [7, 'rollup', rollup],
  [6, 'gc', gc],
  [3, 'a script that fails', failing],
  [4, 'at once', atOnce],
  [12, 'kill', kill],
  [6, 'full disk', fullDisk],
  [8, 'damage', damage],
]

function choose(dice: Random): (typeof operations)[number] {
  let left = dice.below(operations.reduce((sum, [weight]) => sum + weight, 0))
  for (const one of operations) {
    left -= one[0]
    if (left < 0) return one
  }
  throw new Error('unreachable')
}

async function isSound(chaos: Chaos): Promise<void> {
  await build(chaos)
  await isTidy(chaos)
  chaos.rig.git('fsck', '--strict', '--no-dangling')
}

/** The image of each branch, as the store gives it and as an empty one does. */
async function sameFromNothing(chaos: Chaos): Promise<void> {
  const { rig } = chaos
  commit(chaos)
  const image = join(rig.folder, 'branch.qcow2')
  const before = new Map<string, string>()
  for (const branch of branches(rig)) {
    await run(chaos, ['build', branch, '-o', image])
    isRight(chaos, image, expectedOf(rig, branch))
    before.set(branch, contents(rig, image))
  }
  expect((await run(chaos, ['cache', 'verify'])).stdout).toContain('all sound')
  await isTidy(chaos)
  for (const name of readdirSync(rig.store())) rmSync(rig.store(name), { recursive: true })
  for (const branch of branches(rig)) {
    await run(chaos, ['build', branch, '-o', image])
    expect(contents(rig, image) === before.get(branch), `${branch} from an empty store is the same`).toBe(true)
  }
  expect((await run(chaos, ['cache', 'verify'])).stdout).toContain('all sound')
}

async function playRounds(chaos: Chaos): Promise<void> {
  await build(chaos)
  for (chaos.round = 1; chaos.round <= rounds; chaos.round++) {
    // Each round has dice of its own: how one ended does not change what the others throw.
    chaos.dice = random(`${seed} ${chaos.round}`)
    const [, name, operation] = choose(chaos.dice)
    say(chaos, name)
    chaos.counts.set(name, (chaos.counts.get(name) ?? 0) + 1)
    await operation(chaos)
    if (chaos.round % 20 === 0) await isSound(chaos)
  }
  await isSound(chaos)
  await sameFromNothing(chaos)
  await isTidy(chaos)
}

/** With what it takes to find out why. */
function explained({ round, said }: Chaos, error: unknown): Error {
  const last = said.slice(-25).join('\n')
  return new Error(`VLB_CHAOS_SEED=${seed}, round ${round} of ${rounds}: ${error}\nBefore that:\n${last}`, {
    cause: error,
  })
}

rigTest(
  `${rounds} rounds of anything: every image is as the model says`,
  async (rig) => {
    console.log(`VLB_CHAOS_SEED=${seed} VLB_CHAOS_ROUNDS=${rounds}`)
    // Not sealed, so that an image that is not flattened holds the same as one that is.
    rig.project({ '20_a': script(1, 1), '40_b': script(2, 2), '60_c': script(3, 3) }, 'seal: false\n')
    rig.commit()
    await withSmallDisk(rig, rig.store(), roomy, async (disk) => {
      const chaos: Chaos = { rig, disk, dice: random(seed), round: 0, said: [], times: new Map(), counts: new Map() }
      await playRounds(chaos).catch((error: unknown) => {
        throw explained(chaos, error)
      })
      console.log([...chaos.counts].map(([name, count]) => `${name} ${count}`).join(', '))
    })
  },
  undefined,
  600_000 + rounds * 20_000,
)
