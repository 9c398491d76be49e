// What chaos does to a project: edits, commits, branches; and the command lines that it chooses for it.
import { renameSync, rmSync } from 'node:fs'
import { type Chaos, say } from './chaos.ts'
import { layersNow, type Random, script, scriptsNow } from './chaos-model.ts'
import type { Rig } from './rig.ts'

export function edit({ rig, dice, round }: Chaos): void {
  const path = dice.pick(scriptsNow(rig, dice.pick(layersNow(rig))))
  rig.write({ [path]: `#!/bin/sh\n${script(1000 + round, dice.below(7))}\n` })
}

export const freeNumber = (rig: Rig, dice: Random): string =>
  dice.pick(
    Array.from({ length: 90 }, (_, i) => String(10 + i)).filter(
      (n) => !layersNow(rig).some((name) => name.startsWith(n)),
    ),
  )

function steps(rig: Rig): number {
  return layersNow(rig).flatMap((layer) => scriptsNow(rig, layer)).length
}

function add({ rig, dice, round }: Chaos): void {
  rig.layer(`${freeNumber(rig, dice)}_l${round}`, script(1000 + round, dice.below(7)))
}

function remove({ rig, dice }: Chaos): void {
  rmSync(rig.path(dice.pick(layersNow(rig))), { recursive: true })
}

/** Few layers, but some. */
export function reshape(chaos: Chaos): void {
  const layers = layersNow(chaos.rig).length
  if (layers > 1 && (steps(chaos.rig) > 5 || (layers > 2 && chaos.dice.next() < 0.3))) remove(chaos)
  else add(chaos)
}

export function rename({ rig, dice, round }: Chaos): void {
  renameSync(rig.path(dice.pick(layersNow(rig))), rig.path(`${freeNumber(rig, dice)}_n${round}`))
}

export const branches = (rig: Rig): string[] => rig.git('branch', '--format=%(refname:short)').trim().split('\n')

export function commit({ rig, round }: Chaos): void {
  rig.commit(`round ${round}`)
}

export function checkout(chaos: Chaos): void {
  const { rig, dice, round } = chaos
  commit(chaos)
  const all = branches(rig)
  if (all.length < 4 && dice.next() < 0.5) rig.git('checkout', '--quiet', '-b', `b${round}`, dice.pick(all))
  else rig.git('checkout', '--quiet', dice.pick(all))
  say(chaos, `on ${rig.git('branch', '--show-current').trim()}`)
}

/** The command line of a rollup that nothing forbids; adds layers if there are too few. */
export function rollupArguments(chaos: Chaos): string[] {
  const { rig, dice, round } = chaos
  while (layersNow(rig).length < 2) rig.layer(`${freeNumber(rig, dice)}_m${round}`, script(3000 + round, dice.below(7)))
  commit(chaos)
  const names = layersNow(rig)
  const from = dice.below(names.length - 1)
  const to = from + 1 + dice.below(names.length - 1 - from)
  return ['rollup', `${names[from]}..${names[to]}`, '--name', `r${round}`]
}

export const gcArguments = ({ dice }: Chaos): string[] =>
  dice.pick([
    ['gc'],
    ['gc', '--dry-run'],
    ['gc', '--prune'],
    ['gc', '--budget', '0'],
    ['gc', '--budget', `${1 + dice.below(20)}M`],
    ['gc', '--prune', '--budget', 'none'],
  ])
