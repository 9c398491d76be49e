// The rig: a temporary repository with fixed dates and a clean HOME, the built program, scripts that a test can hold in
// the middle, and after each test a look for anything left behind.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, inject, test } from 'vitest'
import { type Need, whyNot } from './need.ts'

export const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const program = join(projectRoot, 'dist/main.mjs')

export interface Ran {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** Both streams, for messages. */
  all: string
}

export interface RunOptions {
  cwd?: string
  env?: Record<string, string>
  /** A program with arguments that starts ours: sudo, unshare. */
  by?: readonly string[]
}

export class Rig {
  readonly folder = mkdtempSync(join(tmpdir(), 'vlb-test-'))
  /** The repository's working tree. */
  readonly repo = join(this.folder, 'repo')
  readonly temporary = join(this.folder, 'tmp')
  readonly #servers: Server[] = []
  readonly #running: Running[] = []

  constructor() {
    for (const path of [this.repo, this.temporary, join(this.folder, 'home')]) mkdirSync(path)
    this.git('init', '--quiet', '--initial-branch=main')
  }

  get env(): Record<string, string> {
    return {
      PATH: `${process.env['PATH']}`,
      HOME: join(this.folder, 'home'),
      TMPDIR: this.temporary,
      TZ: 'UTC',
      LC_ALL: 'C.UTF-8',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CEILING_DIRECTORIES: tmpdir(),
      GIT_AUTHOR_NAME: 'A Tester',
      GIT_AUTHOR_EMAIL: 'tester@example.com',
      GIT_AUTHOR_DATE: '2024-01-01T00:00:00Z',
      GIT_COMMITTER_NAME: 'A Tester',
      GIT_COMMITTER_EMAIL: 'tester@example.com',
      GIT_COMMITTER_DATE: '2024-01-01T00:00:00Z',
    }
  }

  path(...parts: string[]): string {
    return join(this.repo, ...parts)
  }

  /** The store, where it lies by default. */
  store(...parts: string[]): string {
    return join(this.repo, '.git/vlb', ...parts)
  }

  /** Writes files below the repository; what starts with #! becomes executable. */
  write(files: Record<string, string | Buffer>): void {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(this.path(name)), { recursive: true })
      writeFileSync(this.path(name), content)
      if (content.toString('latin1').startsWith('#!')) chmodSync(this.path(name), 0o755)
    }
  }

  read(...parts: string[]): string {
    return readFileSync(this.path(...parts), 'utf8')
  }

  exists(...parts: string[]): boolean {
    return existsSync(this.path(...parts))
  }

  git(...args: string[]): string {
    return execFileSync('git', args, {
      cwd: this.repo,
      env: this.env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  commit(message = 'change'): void {
    this.git('add', '--all')
    this.git('commit', '--quiet', '--allow-empty', '-m', message)
  }

  /** A project on the tiny base with these layers: folder name → script body (sh), or → files. */
  project(layers: Record<string, string | Record<string, string>>, config = ''): void {
    copyFileSync(inject('tinyDisk'), this.path('tiny.raw'))
    this.write({ 'vlb.yaml': `version: 1\nbase: { path: tiny.raw }\n${config}`, '.gitignore': '/build/\n/tiny.raw\n' })
    for (const [name, content] of Object.entries(layers)) this.layer(name, content)
  }

  layer(name: string, content: string | Record<string, string>): void {
    const files = typeof content === 'string' ? { 'build-layer': `#!/bin/sh\n${content}\n` } : content
    this.write(Object.fromEntries(Object.entries(files).map(([file, text]) => [`${name}/${file}`, text])))
  }

  /** Runs `git vlb` to its end. */
  async vlb(args: string[], options: RunOptions = {}): Promise<Ran> {
    return await this.start(args, options).ended
  }

  /** The same, expecting status 0; returns its standard output. */
  async ok(...args: string[]): Promise<string> {
    const ran = await this.vlb(args)
    expect(ran.code, `git vlb ${args.join(' ')}\n${ran.all}`).toBe(0)
    return ran.stdout
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON of any shape
  async json(...args: string[]): Promise<any> {
    const ran = await this.vlb([...args, '--json'])
    return JSON.parse(ran.stdout)
  }

  /** `build`, as a list of "layer result". */
  async build(...args: string[]): Promise<string[]> {
    const result = await this.json('build', ...args)
    expect(result.ok, JSON.stringify(result.error)).toBe(true)
    return result.layers.map((layer: { name: string; result: string }) => `${layer.name} ${layer.result}`)
  }

  start(args: string[], options: RunOptions = {}): Running {
    const [command = '', ...words] = [...(options.by ?? []), process.execPath, program, ...args]
    const running = new Running(command, words, {
      cwd: options.cwd ?? this.repo,
      env: { ...this.env, ...options.env },
    })
    this.#running.push(running)
    return running
  }

  /** A point where a script waits for the test: put `hold.line` into it. */
  async hold(): Promise<Hold> {
    const hold = new Hold()
    this.#servers.push(hold.server)
    await hold.listening
    return hold
  }

  /** Reads a file out of an image or snapshot, without mounting; '' if it is not there. */
  readFromImage(image: string, path: string): string {
    return this.debugfs(image, `cat "${path}"`)
  }

  /** What debugfs(8) answers about the ext4 root of an image or snapshot, opened through its chain. */
  debugfs(image: string, request: string): string {
    const raw = join(this.folder, 'inspect.raw')
    this.tool('qemu-img', 'convert', '-O', 'raw', image, raw)
    try {
      return execFileSync('debugfs', ['-R', request, `${raw}?offset=${1024 * 1024}`], {
        encoding: 'utf8',
        env: { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
        stdio: ['ignore', 'pipe', 'ignore'],
      })
    } finally {
      rmSync(raw)
    }
  }

  /** Runs a tool of the host and returns what it printed; throws if it fails. */
  tool(name: string, ...args: string[]): string {
    return execFileSync(name, args, {
      encoding: 'utf8',
      env: { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  /** Names of all files of the repository's object store. */
  objects(): string {
    return this.tool('find', this.path('.git/objects'), '-type', 'f')
  }

  /** The program as a line of sh, for hooks. */
  get command(): string {
    return `${process.execPath} ${program}`
  }

  /** Process ids of all whose command line holds the text. */
  processes(text: string): string[] {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && processCommand(name).includes(text))
  }

  /** What of this rig is still there: mounts, loop devices, processes, temporary files. Gives the kernel a moment. */
  async leaks(): Promise<string[]> {
    let found: string[] = []
    for (let i = 0; i < 50; i++) {
      found = this.#leaksNow()
      if (found.length === 0) return []
      await delay(100)
    }
    return found
  }

  #leaksNow(): string[] {
    const found: string[] = []
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    found.push(...mounts.filter((line) => line.includes(this.folder)).map((line) => `mount: ${line}`))
    const loops = execFileSync('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'], {
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/sbin:/usr/bin:/bin' },
    })
    found.push(
      ...loops
        .split('\n')
        .filter((line) => line.includes(this.folder))
        .map((line) => `loop: ${line}`),
    )
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const command = processCommand(pid)
      if (command.includes(this.folder)) found.push(`process ${pid}: ${command.slice(0, 200)}`)
    }
    const left = [this.temporary, this.store('tmp')].flatMap((folder) =>
      existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [],
    )
    const besides = existsSync(this.path('build'))
      ? readdirSync(this.path('build')).filter((name) => name.endsWith('.tmp'))
      : []
    found.push(...[...left, ...besides].map((path) => `file: ${path}`))
    return found
  }

  /** Waits until all that was started has ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.map((running) => running.ended))
  }

  /** Empties the store, as if nothing had been built yet. */
  forget(): void {
    rmSync(this.store(), { recursive: true, force: true })
    rmSync(this.path('build'), { recursive: true, force: true })
  }

  async end(): Promise<void> {
    for (const running of this.#running) running.kill('SIGKILL')
    await Promise.all(this.#running.map((running) => running.ended))
    for (const server of this.#servers) server.close()
    if (process.env['VLB_TEST_KEEP'] !== '1') rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Command line and working folder of a process; '' if it is gone or a zombie. */
function processCommand(pid: string): string {
  try {
    return `${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')} in ${readlinkSync(`/proc/${pid}/cwd`)}`
  } catch {
    return ''
  }
}

/** A program that runs while the test goes on. */
export class Running {
  readonly child: ChildProcess
  readonly ended: Promise<Ran>
  stdout = ''
  stderr = ''

  constructor(command: string, args: string[], options: { cwd: string; env: Record<string, string> }) {
    this.child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout?.on('data', (chunk) => (this.stdout += chunk))
    this.child.stderr?.on('data', (chunk) => {
      this.stderr += chunk
      if (process.env['VLB_TEST_OUTPUT'] === '1') process.stderr.write(chunk)
    })
    this.ended = new Promise((resolve) =>
      this.child.once('close', (code, signal) =>
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr, all: this.stdout + this.stderr }),
      ),
    )
  }

  /** Waits until standard error holds the text. */
  async says(text: string | RegExp): Promise<void> {
    for (let i = 0; i < 600; i++) {
      if (typeof text === 'string' ? this.stderr.includes(text) : text.test(this.stderr)) return
      if (this.child.exitCode !== null || this.child.signalCode !== null) break
      await delay(50)
    }
    throw new Error(`it never said ${text}; it said:\n${this.stderr}`)
  }

  kill(signal: NodeJS.Signals): void {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal)
  }

  /** Process ids of all below it, children before grandchildren. */
  descendants(): number[] {
    return descendantsOf(this.child.pid ?? 0)
  }
}

export function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc').filter((n) => /^\d+$/.test(n))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It ended while we looked.
    }
  }
  const found = [pid]
  for (let i = 0; i < found.length; i++)
    for (const [child, parent] of parents) if (parent === found[i]) found.push(child)
  return found.slice(1)
}

/** A script calls it over the loopback and waits until the test lets it go on. */
export class Hold {
  readonly server: Server
  readonly listening: Promise<void>
  #calls: Socket[] = []
  #waiters: (() => void)[] = []
  #open = false

  constructor() {
    this.server = createServer((socket) => {
      socket.on('error', () => {})
      if (this.#open) socket.end('go\n')
      this.#calls.push(socket)
      for (const waiter of this.#waiters.splice(0)) waiter()
    })
    this.listening = new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    this.server.unref()
  }

  /** A line of sh for the script. */
  get line(): string {
    const address = this.server.address()
    const port = typeof address === 'object' && address ? address.port : 0
    return `echo waiting | nc 127.0.0.1 ${port} >/dev/null`
  }

  /** How often scripts have called. */
  get calls(): number {
    return this.#calls.length
  }

  /** Holds again, and forgets who called before. */
  close(): void {
    this.#open = false
    this.#calls = []
  }

  async reached(): Promise<void> {
    if (this.#calls.length > 0) return
    await new Promise<void>((resolve) => this.#waiters.push(resolve))
  }

  /** Lets all go on, now and later. */
  release(): void {
    this.#open = true
    for (const socket of this.#calls) socket.end('go\n')
  }
}

const usual: readonly Need[] = [
  'root',
  'fuse',
  'loop',
  'tool:qemu-img',
  'tool:qemu-storage-daemon',
  'tool:busybox',
  'tool:mke2fs',
]

/** A test with a rig of its own; afterwards nothing of it may be left on the host. */
/** `timeout` in milliseconds, where the usual is too short. */
export function rigTest(
  name: string,
  body: (rig: Rig) => Promise<void>,
  needs: readonly Need[] = usual,
  timeout?: number,
): void {
  test(name, { ...(timeout === undefined ? {} : { timeout }) }, async (context) => {
    const reason = whyNot(needs)
    if (reason) return context.skip(reason)
    const rig = new Rig()
    try {
      await body(rig)
      expect(await rig.leaks(), 'left behind').toEqual([])
    } finally {
      await rig.end()
    }
  })
}
