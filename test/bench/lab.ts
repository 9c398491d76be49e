// Where the benchmarks run: a folder of its own with a copy of the program, and stopwatches.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export interface Output {
  seconds: number
  stdout: string
  stderr: string
}

export class Lab {
  readonly folder = mkdtempSync(join(tmpdir(), 'vlb-bench-'))
  readonly #program = join(this.folder, 'program')

  constructor() {
    for (const name of ['home', 'tmp', 'empty']) mkdirSync(this.path(name))
    // A copy: the run measures one program, even if another is built meanwhile.
    cpSync(join(projectRoot, 'dist'), this.#program, { recursive: true })
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts)
  }

  get env(): Record<string, string> {
    return {
      PATH: `${process.env['PATH']}:/usr/sbin:/sbin`,
      HOME: this.path('home'),
      TMPDIR: this.path('tmp'),
      LC_ALL: 'C.UTF-8',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_AUTHOR_NAME: 'A Tester',
      GIT_AUTHOR_EMAIL: 'tester@example.com',
      GIT_COMMITTER_NAME: 'A Tester',
      GIT_COMMITTER_EMAIL: 'tester@example.com',
    }
  }

  /** Runs a command to its end; wall clock, process start and end included. */
  run(command: string, args: readonly string[], cwd = this.folder, env: Record<string, string> = {}): Output {
    const started = performance.now()
    const ran = spawnSync(command, args, {
      cwd,
      env: { ...this.env, ...env },
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const seconds = (performance.now() - started) / 1000
    if (ran.error) throw ran.error
    if (ran.status !== 0) throw new Error(`${command} ${args.join(' ')}: status ${ran.status}\n${ran.stderr}`)
    return { seconds, stdout: ran.stdout, stderr: ran.stderr }
  }

  /** Starts node and ends it again. */
  bareNode(): number {
    return this.run(process.execPath, ['-e', '0']).seconds
  }

  project(name: string): Project {
    return new Project(this, this.path(name), join(this.#program, 'main.mjs'))
  }

  /** Writes out what earlier work left to be written, so that it is not charged to what is measured next. */
  settle(): void {
    execFileSync('sync')
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export class Project {
  readonly #lab: Lab
  readonly #main: string
  readonly folder: string

  constructor(lab: Lab, folder: string, main: string) {
    this.#lab = lab
    this.folder = folder
    this.#main = main
    mkdirSync(folder)
    this.git('init', '--quiet', '--initial-branch=main')
  }

  /** A project on that raw disk. */
  start(base: string, config = ''): this {
    // Within one file system no bytes are copied; none is ever written to the base.
    try {
      linkSync(base, this.path('base.raw'))
    } catch {
      execFileSync('cp', ['--sparse=always', base, this.path('base.raw')])
    }
    this.configure(config)
    this.write('.gitignore', '/build/\n/base.raw\n')
    return this
  }

  configure(more: string): void {
    this.write('vlb.yaml', `version: 1\nbase: { path: base.raw }\n${more}`)
  }

  path(...parts: string[]): string {
    return join(this.folder, ...parts)
  }

  get image(): string {
    return this.path('build/image.qcow2')
  }

  write(name: string, content: string | Buffer): void {
    mkdirSync(dirname(this.path(name)), { recursive: true })
    writeFileSync(this.path(name), content)
    if (content.toString('latin1', 0, 2).startsWith('#!')) chmodSync(this.path(name), 0o755)
  }

  layer(name: string, script: string): void {
    this.write(`${name}/build-layer`, `#!/bin/sh\nset -eu\n${script}\n`)
  }

  git(...args: string[]): string {
    return this.#lab.run('git', args, this.folder).stdout
  }

  commit(): void {
    this.git('add', '--all')
    this.git('commit', '--quiet', '--allow-empty', '--message', 'change')
  }

  /** Seconds that `git vlb build` takes. */
  build(...args: string[]): number {
    return this.vlb(['build', ...args]).seconds
  }

  vlb(args: readonly string[], env: Record<string, string> = {}): Output {
    return this.#lab.run(process.execPath, [this.#main, ...args], this.folder, env)
  }

  // biome-ignore lint/suspicious/noExplicitAny: JSON of the program
  json(...args: string[]): any {
    return JSON.parse(this.vlb([...args, '--json']).stdout)
  }

  /** Highest resident memory of the program's own process in bytes, as the kernel counts it (proc(5), VmHWM). */
  peakMemory(...args: string[]): number {
    const note = this.#lab.path('peak')
    const probe = this.#lab.path('peak.cjs')
    const script = `const fs = require('node:fs')
process.on('exit', () => fs.writeFileSync(${JSON.stringify(note)}, fs.readFileSync('/proc/self/status')))`
    writeFileSync(probe, script)
    rmSync(note, { force: true })
    this.#lab.run(process.execPath, ['--require', probe, this.#main, ...args], this.folder)
    return 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(note, 'utf8'))?.[1])
  }

  /** The topmost snapshot: what an image that is not flattened stands on. */
  topSnapshot(...args: string[]): string {
    const overlay = this.path('build/top.qcow2')
    this.build('--no-flatten', '-o', overlay, ...args)
    const info = JSON.parse(this.#lab.run('qemu-img', ['info', '--output=json', overlay]).stdout)
    return info['full-backing-filename']
  }

  /** Tells whether a file was written again, or replaced. */
  identity(path: string): string {
    const { ino, mtimeNs, size } = statSync(path, { bigint: true })
    return `${ino} ${mtimeNs} ${size}`
  }
}

/** Seconds that qemu-img alone takes to write the chain below `image` into one file, in place of the last one if so told. */
export function convert(lab: Lab, image: string, { replace = false } = {}): number {
  const target = lab.path('converted.qcow2')
  if (!replace) rmSync(target, { force: true })
  lab.settle()
  return lab.run('qemu-img', ['convert', '-W', '-m', '8', '-f', 'qcow2', '-O', 'qcow2', image, target]).seconds
}
