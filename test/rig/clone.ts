// Another clone of a rig's repository, with a store of its own: another machine.
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import type { Ran, Rig } from './rig.ts'

export class Clone {
  readonly folder: string
  readonly #rig: Rig
  env: Record<string, string> = {}

  /** `base`: also what git does not hold, the file of the base. */
  constructor(rig: Rig, name: string, { base = true } = {}) {
    this.#rig = rig
    this.folder = join(rig.folder, name)
    rig.git('clone', '--quiet', rig.repo, this.folder)
    if (base) copyFileSync(rig.path('tiny.raw'), join(this.folder, 'tiny.raw'))
  }

  get image(): string {
    return join(this.folder, 'build/image.qcow2')
  }

  store(...parts: string[]): string {
    return join(this.folder, '.git/vlb', ...parts)
  }

  git(...args: string[]): string {
    return this.#rig.git('-C', this.folder, ...args)
  }

  layer(name: string, script: string): void {
    const file = join(this.folder, name, 'build-layer')
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, `#!/bin/sh\n${script}\n`)
    chmodSync(file, 0o755)
  }

  async vlb(...args: string[]): Promise<Ran> {
    return await this.#rig.vlb(args, { cwd: this.folder, env: this.env })
  }

  async ok(...args: string[]): Promise<Ran> {
    const ran = await this.vlb(...args)
    expect(ran.code, `git vlb ${args.join(' ')}\n${ran.all}`).toBe(0)
    return ran
  }

  /** `build`, as a list of "layer result". */
  async build(...args: string[]): Promise<string[]> {
    return (await this.told(...args)).layers
  }

  /** The same, with what was said besides. */
  async told(...args: string[]): Promise<{ layers: string[]; stderr: string }> {
    const { stdout, stderr } = await this.ok('build', '--json', ...args)
    const { layers } = JSON.parse(stdout) as { layers: { name: string; result: string }[] }
    return { layers: layers.map(({ name, result }) => `${name} ${result}`), stderr }
  }
}
