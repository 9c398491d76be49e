// The image of what is there already, written while the one layer that is missing is being built: when that is done, what
// it changed is written over it. A layer mostly waits for its script and its disk, an image is mostly copied: together
// they take little longer than the longer of the two.
import { rm, stat } from 'node:fs/promises'
import { dataExtents, type Extent, freedExtents, overlap, parseMap } from '../core/disk-map.ts'
import { run } from '../host/run.ts'
import { type Conversion, convertArguments, deltaArguments, mapImage } from '../image/qcow2.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'

/** Space that is freed in a written image stays in its file: up to so much, rather than to write it all anew. */
const bearable = (bytes: number) => Math.max(2 ** 20, bytes / 64)

/** The layer takes longer, and the image waits for it: for that its script should have the processors to itself (nice(1)). */
const givesWay = ['nice', '-n', '10']

/** Where it is written, and how; not compressed, for that cannot be written over. */
export type AheadTarget = Pick<Conversion, 'to' | 'compat'> & {
  format: 'qcow2' | 'raw'
  /** Where it goes in the end. */
  place: string
}

export class Ahead {
  readonly target: AheadTarget
  readonly #below: Snapshot
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  /** Where what was written ahead lies. */
  #data: Extent[] = []
  /** Whether it went well. Never rejects: what went wrong will show again, and be told, when the image is written whole. */
  readonly #written: Promise<boolean>

  /** Starts to write the disk of `below`. The temporary file is watched over by the caller. */
  constructor(context: BuildContext, below: Snapshot, target: AheadTarget) {
    this.target = target
    this.#below = below
    this.#signal = AbortSignal.any([context.signal, this.#stop.signal])
    this.#written = this.#write()
  }

  /**
   * Writes what the overlays changed, each backed by the one before, the first by what was written ahead. False if the
   * image has to be written whole: `top` stands on another disk, or much was freed, or something failed.
   */
  async finish(top: Snapshot, overlays: readonly string[]): Promise<boolean> {
    if (top.manifest.parent !== this.#below.manifest.id || top.manifest.parentNonce !== this.#below.manifest.nonce)
      return false
    if (!(await this.#written)) return false
    let backing = this.#below.file
    for (const overlay of overlays) {
      const [written, lean] = await Promise.all([
        this.#try(deltaArguments({ overlay, backing, ...this.target })),
        this.#isLean(overlay),
      ])
      if (!written || !lean) return false
      backing = overlay
    }
    return true
  }

  /** Ends it, and takes away what it wrote. */
  async cancel(): Promise<void> {
    this.#stop.abort()
    await this.#written
    await rm(this.target.to, { force: true })
  }

  async #write(): Promise<boolean> {
    const from = { path: this.#below.file, format: 'qcow2' } as const
    if (!(await this.#try(convertArguments({ ...this.target, from, compress: 'none' }), givesWay))) return false
    // What is written over it may free some of it.
    const map = await mapImage(this.target.to, this.#signal, this.target.format).catch(() => undefined)
    if (map !== undefined) this.#data = dataExtents(parseMap(map))
    return map !== undefined
  }

  async #try(args: readonly string[], wrapper: readonly string[] = []): Promise<boolean> {
    const [tool = '', ...all] = [...wrapper, 'qemu-img', ...args]
    return await run(tool, all, { signal: this.#signal }).then(
      () => true,
      () => false,
    )
  }

  /** Whether little of what was written is free in the overlay. */
  async #isLean(overlay: string): Promise<boolean> {
    try {
      const freed = freedExtents(parseMap(await mapImage(overlay, this.#signal)))
      return overlap(freed, this.#data) <= bearable((await stat(this.target.to)).size)
    } catch {
      return false
    }
  }
}
