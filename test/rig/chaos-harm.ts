// The harm that chaos does: kills, a full disk, damage in the store; and that the next command knows how to go on.
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { build, type Chaos, isTidy, roomy, run, say, told, verified } from './chaos.ts'
import { edit, gcArguments, rollupArguments } from './chaos-edits.ts'
import { expectedNow } from './chaos-model.ts'
import type { Ran, Running } from './rig.ts'

function killPids(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ended meanwhile.
    }
  }
}

/** With one child gone the command ends by itself: as it likes, but as one that knows what happened. */
async function killChild(chaos: Chaos, running: Running): Promise<Ran> {
  const children = running.descendants()
  if (children.length > 0) killPids([chaos.dice.pick(children)])
  const ran = await running.ended
  expect([0, 1, 2, 3, 4], `a child was killed\n${ran.all}`).toContain(ran.code)
  return ran
}

/** Runs the command and kills it somewhere in the time that it needs: it alone, it and all below it, or a child of it. */
async function runKilled(chaos: Chaos, args: string[], whom: 'alone' | 'all' | 'child'): Promise<void> {
  const { rig, dice, times } = chaos
  const pause = Math.round(dice.next() * 1.1 * (times.get(args[0] ?? '') ?? 1500))
  const running = rig.start(args)
  await delay(pause)
  if (whom !== 'child') {
    const children = whom === 'all' ? running.descendants() : []
    running.kill('SIGKILL')
    killPids(children)
  }
  const ran = await (whom === 'child' ? killChild(chaos, running) : running.ended)
  say(chaos, `${args.join(' ')}, killed ${whom} after ${pause} ms: ${ran.code ?? ran.signal}`)
  // Left alone, the last step of a rollup comes to its end without us.
  for (let i = 0; i < 200 && whom === 'alone' && existsSync(rig.path('.git/vlb-rollup')); i++) await delay(50)
}

function killedArguments(chaos: Chaos, what: 'build' | 'rollup' | 'gc'): string[] {
  if (what === 'rollup') return rollupArguments(chaos)
  if (what === 'gc') return gcArguments(chaos)
  return chaos.dice.pick([['build'], ['build', '--no-flatten']])
}

export async function kill(chaos: Chaos): Promise<void> {
  const { rig, dice } = chaos
  const what = dice.pick(['build', 'build', 'rollup', 'gc'] as const)
  const whom = dice.pick(['alone', 'alone', 'all', 'all', 'child'] as const)
  if (what === 'build') edit(chaos)
  const args = killedArguments(chaos, what)
  const before = told(expectedNow(rig))
  await runKilled(chaos, args, whom)
  await run(chaos, ['status'])
  expect(told(expectedNow(rig)), 'the working tree is whole').toBe(before)
  if (what === 'rollup') expect(rig.git('status', '--porcelain'), 'all of a rollup, or nothing').toBe('')
  await build(chaos)
}

export async function fullDisk(chaos: Chaos): Promise<void> {
  const { rig, dice, disk } = chaos
  edit(chaos)
  const args = dice.next() < 0.7 ? ['build'] : rollupArguments(chaos)
  // Nothing may be at work in there while its size is computed.
  await isTidy(chaos)
  const used = Number(rig.tool('df', '--output=used', '--block-size=1', disk.path).split('\n')[1])
  disk.resize(`size=${used + dice.below(dice.pick([2 ** 16, 2 ** 20, 2 ** 23]))}`)
  try {
    await run(chaos, args, [0, 3])
  } finally {
    disk.resize(roomy)
  }
  await run(chaos, ['status'])
  await build(chaos)
}

/** A file of the store to damage, and where in it. */
function target({ rig, dice }: Chaos): string | undefined {
  const files = ['snapshots', 'bases'].flatMap((folder) =>
    existsSync(rig.store(folder))
      ? readdirSync(rig.store(folder)).flatMap((id) =>
          ['layer.qcow2', 'manifest.json', 'disk.raw'].map((name) => rig.store(folder, id, name)),
        )
      : [],
  )
  const there = files.filter((file) => existsSync(file))
  return there.length > 0 ? dice.pick(there) : undefined
}

export async function damage(chaos: Chaos): Promise<void> {
  const { dice, rig } = chaos
  // A background gc may be about to remove what we choose.
  await isTidy(chaos)
  const file = target(chaos)
  if (!file) return
  chmodSync(file, 0o644)
  const { size } = statSync(file)
  const cut = dice.next() < 0.3
  // The first bytes of a disk say what it is, and manifests have a digest: those are found without being told to look.
  const head = !cut && dice.next() < 0.4
  const at = cut ? dice.below(size) : dice.below(head ? Math.min(size, 104) : size)
  if (cut) truncateSync(file, at)
  else flip(file, at, 1 << dice.below(8))
  say(chaos, `${cut ? 'cut' : 'flipped'} at ${at} of ${size}: ${file.slice(rig.store().length)}`)
  const foundOnUse = cut || head || file.endsWith('.json')
  if (!foundOnUse || dice.next() < 0.4) await verified(chaos)
  await build(chaos)
  await verified(chaos)
}

function flip(file: string, at: number, bit: number): void {
  const fd = openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, at)
  writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ bit]), 0, 1, at)
  closeSync(fd)
}
