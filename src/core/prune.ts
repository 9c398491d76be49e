// Which snapshots of a remote go: those that nothing of a repository would find, but for what was pushed a short time ago.
import { engineVersion } from './key.ts'
import type { Manifest } from './manifest.ts'
import type { Blob, SharedSnapshot } from './oci.ts'

/** A snapshot under its tag. */
export interface Tagged {
  key: string
  /** Of its manifest. */
  digest: string
  /** In milliseconds; undefined where it does not say. */
  pushedAt: number | undefined
  snapshot: SharedSnapshot
  /** All that its manifest names. */
  blobs: readonly Blob[]
}

export interface Pruning {
  /** Keys that something needs. */
  needed: ReadonlySet<string>
  /** Digests of manifests that have other tags as well. */
  named: ReadonlySet<string>
  /** In milliseconds: what was pushed since then stays. */
  before: number
}

export interface Choice {
  /** In this order: wherever it ends, no snapshot is without those below it. */
  victims: Tagged[]
  needed: Tagged[]
  /** What is kept besides: it is new, has another tag, or is below one that is. */
  spared: Tagged[]
}

export function choosePruned(all: readonly Tagged[], { needed, named, before }: Pruning): Choice {
  const isKept = ({ key, digest, pushedAt }: Tagged) =>
    needed.has(key) || named.has(digest) || pushedAt === undefined || pushedAt >= before
  // Who pulls one asks for the lowest that it lacks, and has no more of the rest if that is gone.
  const kept = new Set(
    all.filter(isKept).flatMap(({ snapshot }) => snapshot.layers.map(({ manifest }) => manifest.key)),
  )
  const victims = all.filter((one) => !kept.has(one.snapshot.key))
  return {
    victims: victims.sort((a, b) => b.snapshot.layers.length - a.snapshot.layers.length),
    needed: all.filter(({ key }) => needed.has(key)),
    spared: all.filter(({ key, snapshot }) => !needed.has(key) && kept.has(snapshot.key)),
  }
}

/** What nothing that stays names any more. The registry gives it back when it next collects garbage. */
export function bytesFreed(victims: readonly Tagged[], all: readonly Tagged[]): number {
  const gone = new Set(victims)
  const left = new Set(all.filter((one) => !gone.has(one)).flatMap(({ blobs }) => blobs.map(({ digest }) => digest)))
  const freed = new Map(
    victims.flatMap(({ blobs }) => blobs.map(({ digest, size }): [string, number] => [digest, size])),
  )
  return [...freed].reduce((sum, [digest, size]) => (left.has(digest) ? sum : sum + size), 0)
}

/**
 * What a walk over revisions needs of them: each layer that one lists, under its key. Those of another version of the
 * engine are found as well, for somebody may have that.
 */
export function stepsOf(all: readonly Tagged[]): Pick<Manifest, 'key' | 'contentId' | 'inputs'>[] {
  const found = new Map<string, Pick<Manifest, 'key' | 'contentId' | 'inputs'>>()
  for (const { snapshot } of all)
    for (const { manifest } of snapshot.layers) {
      const { key, contentId, inputs } = manifest
      found.set(`${key} ${contentId}`, { key, contentId, inputs: { ...inputs, engine: engineVersion } })
    }
  return [...found.values()]
}

/** Bytes of the layer itself. */
export function ownBytes({ snapshot }: Tagged): number {
  const top = snapshot.layers.at(-1)
  return top ? top.file.size + top.details.size : 0
}
