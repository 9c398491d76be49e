// What the chaos test knows by itself: random numbers that a seed repeats, layers whose scripts it can foresee, and the
// files that an image of them must hold.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Rig } from './rig.ts'

export interface Random {
  /** 0 ≤ n < 1 */
  next(): number
  /** 0 ≤ n < limit, whole */
  below(limit: number): number
  pick<T>(from: readonly T[]): T
}

/** The same numbers for the same text. */
export function random(seed: string): Random {
  let state = createHash('sha256').update(seed).digest().readUInt32LE(0)
  // mulberry32: small, and good enough to choose by.
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    next,
    below,
    pick: (from) => {
      if (from.length === 0) throw new Error('nothing to pick from')
      return from[below(from.length)] as (typeof from)[number]
    },
  }
}

/**
 * A script that depends on all below it: it adds its word to /log and a digest of that to /chain, writes a file of its own,
 * and removes the one of another.
 */
export function script(word: number, slot: number): string {
  return [
    `echo ${word} >> /log`,
    'md5sum < /log >> /chain',
    `mkdir -p /files && seq ${word} ${word + 400} > /files/${slot}`,
    `rm -f /files/${(slot + word) % 7 === slot ? 7 : (slot + word) % 7}`,
  ].join('\n')
}

/** Paths and contents of what the scripts leave, run in this order. */
export function filesOf(scripts: readonly string[]): Map<string, string> {
  const files = new Map<string, string>()
  let [log, chain] = ['', '']
  for (const text of scripts) {
    const [, word, slot, gone] = /echo (\d+)[\s\S]*files\/(\d+)\nrm -f \/files\/(\d+)/.exec(text) ?? []
    if (word === undefined) throw new Error(`not a script of the model: ${text}`)
    log += `${word}\n`
    chain += `${createHash('md5').update(log).digest('hex')}  -\n`
    files.set(`files/${slot}`, Array.from({ length: 401 }, (_, i) => `${Number(word) + i}\n`).join(''))
    files.delete(`files/${gone}`)
  }
  return files.set('log', log).set('chain', chain)
}

/** Ten steps and more have numbers of three digits, all of them. */
const isLayer = (name: string) => /^\d+_/.test(name)

/** Layers of the working tree, lowest first. */
export function layersNow(rig: Rig): string[] {
  return readdirSync(rig.repo).filter(isLayer).sort()
}

/** The scripts of a layer of the working tree, more than one if it is rolled up. */
export function scriptsNow(rig: Rig, layer: string): string[] {
  const steps = join(layer, 'layers')
  if (!rig.exists(steps)) return [join(layer, 'build-layer')]
  return readdirSync(rig.path(steps))
    .filter(isLayer)
    .sort()
    .map((step) => join(steps, step, 'build-layer'))
}

/** What an image of the working tree holds. */
export function expectedNow(rig: Rig): Map<string, string> {
  return filesOf(
    layersNow(rig).flatMap((layer) => scriptsNow(rig, layer).map((path) => readFileSync(rig.path(path), 'utf8'))),
  )
}

/** What an image of a revision holds; a step's path sorts as its layer does. */
export function expectedOf(rig: Rig, rev: string): Map<string, string> {
  const paths = rig
    .git('ls-tree', '-r', '--name-only', rev)
    .split('\n')
    .filter((path) => path.endsWith('/build-layer'))
  return filesOf(paths.sort().map((path) => rig.git('show', `${rev}:${path}`)))
}

const ours = / \.?\/?(log|chain|files(\/\d+)?)( |$)/

/** What `contents` says of an image, without the files of the scripts; throws unless those are exactly the expected ones. */
export function restOf(text: string, expected: ReadonlyMap<string, string>): string {
  const lines = text.split('\n')
  const found = lines.filter((line) => /^[0-9a-f]{64} /.test(line) && ours.test(line)).sort()
  const digest = (content: string) => createHash('sha256').update(content).digest('hex')
  const right = [...expected].map(([path, content]) => `${digest(content)}  ./${path}`).sort()
  if (found.join('\n') !== right.join('\n'))
    throw new Error(`a wrong image: it holds\n${found.join('\n')}\nand should hold\n${right.join('\n')}`)
  return lines.filter((line) => !ours.test(line)).join('\n')
}
