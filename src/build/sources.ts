// The files of layers, written out of git to scratch folders before a script runs.
import { join } from 'node:path'
import type { Step } from '../core/plan.ts'
import { materialise, materialiseEntry } from '../git/materialise.ts'
import type { BuildContext } from './context.ts'
import type { LoadedSource } from './project.ts'
import { writeSourceList } from './source-list.ts'

/** The files of all steps that may have to be built, written before the first of them runs: what was hashed is built. */
export class StepSources {
  readonly #context: BuildContext
  readonly #source: LoadedSource
  readonly #folders = new Map<string, string>()

  constructor(context: BuildContext, source: LoadedSource) {
    this.#context = context
    this.#source = source
  }

  async write(steps: readonly Step[]): Promise<void> {
    for (const step of steps) await this.folder(step)
  }

  /** The scratch folder of a step, with its files. */
  async folder(step: Step): Promise<string> {
    const known = this.#folders.get(step.name)
    if (known !== undefined) return known
    const folder = await this.#context.store.scratch.folder()
    this.#folders.set(step.name, folder)
    await this.writeStep(step, folder)
    return folder
  }

  /** Writes the files of one step to a scratch folder of it. */
  async writeStep({ layer, inner }: Step, work: string): Promise<void> {
    if (!layer) return
    const { objects, env } = this.#source
    const { project, signal } = this.#context
    if (layer.dirty) await writeSourceList(objects, layer.tree, work)
    if (inner) return
    const git = { repo: project.repo, objects, env, signal }
    await materialise(git, layer.tree, join(work, 'src'), layer.name)
    for (const [path, entry] of Object.entries(layer.includes)) {
      await materialiseEntry(git, entry, join(work, 'include', path), path)
    }
  }
}
