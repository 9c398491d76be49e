// Prebuilds that hooks start: a repository with the hooks installed and the program in PATH, and waiting for their end.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import type { PrebuildState } from '../../src/core/prebuild.ts'
import type { Rig } from './rig.ts'

export class Background {
  readonly rig: Rig
  readonly #bin: string

  constructor(rig: Rig) {
    this.rig = rig
    this.#bin = join(rig.folder, 'bin')
    mkdirSync(this.#bin)
    writeFileSync(join(this.#bin, 'git-vlb'), `#!/bin/sh\nexec ${rig.command} "$@"\n`, { mode: 0o755 })
  }

  get env(): Record<string, string> {
    return { ...this.rig.env, PATH: `${this.#bin}:${this.rig.env['PATH']}` }
  }

  /** git with hooks that find the program. */
  git(...args: string[]): void {
    const ran = spawnSync('git', args, { cwd: this.rig.repo, env: this.env, encoding: 'utf8' })
    expect([ran.status, ran.stderr], `git ${args.join(' ')}`).toEqual([0, expect.not.stringContaining('vlb')])
  }

  state(gitDir = this.rig.path('.git')): PrebuildState | undefined {
    const file = join(gitDir, 'vlb-prebuild/prebuild.json')
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as PrebuildState) : undefined
  }

  log(): string {
    return readFileSync(this.rig.path('.git/vlb-prebuild/prebuild.log'), 'utf8')
  }

  /** Waits for the end of a prebuild that is another one than `before`, and of its process. */
  async ended(before?: PrebuildState): Promise<PrebuildState> {
    return await this.until('ended', (state) => {
      const over = state.state !== 'running' && !existsSync(`/proc/${state.pid}`)
      return over && state.start !== before?.start
    })
  }

  async until(what: string, holds: (state: PrebuildState) => boolean): Promise<PrebuildState> {
    for (const end = Date.now() + 60_000; Date.now() < end; await delay(20)) {
      const state = this.state()
      if (state && holds(state)) return state
    }
    const log = this.rig.path('.git/vlb-prebuild/prebuild.log')
    const said = existsSync(log) ? readFileSync(log, 'utf8') : 'it has no log'
    throw new Error(`no prebuild has ${what}: ${JSON.stringify(this.state())}\n${said}`)
  }
}
