// Starts programs: always an argument array, never a shell; no terminal, no inherited git variables, standard input
// closed; every failure names the program, its status and its last words.
import { type ChildProcess, spawn as start } from 'node:child_process'
import { closeSync } from 'node:fs'
import type { Duplex, Readable } from 'node:stream'
import { VlbError } from '../core/errors.ts'
import { childEnvironment, type Environment, pagerEnvironment } from './env.ts'
import { toolHint } from './tools.ts'

export interface RunOptions {
  cwd?: string
  /** Added to the child's environment. */
  env?: Environment
  /** Exit statuses that are no failure. Default: 0. */
  ok?: readonly number[]
  signal?: AbortSignal
}

export interface Output {
  stdout: string
  stderr: string
  exitCode: number
}

/** A program we started failed, and no caller knew what to make of it. */
export class ToolError extends Error {
  readonly tool: string
  readonly exitCode: number | undefined
  readonly stderr: string

  constructor(
    tool: string,
    args: readonly string[],
    result: { exitCode?: number | undefined; signal?: string | undefined; stderr: string },
  ) {
    const how = result.signal ? `was killed by ${result.signal}` : `failed with status ${result.exitCode}`
    const said = result.stderr.trim().split('\n').slice(-5).join('\n  ')
    super(`${tool} ${args[0] ?? ''} ${how}${said ? `:\n  ${said}` : ''}`)
    this.name = 'ToolError'
    this.tool = tool
    this.exitCode = result.exitCode
    this.stderr = result.stderr
  }
}

export interface Command {
  tool: string
  args: readonly string[]
}

/**
 * The same command, killed by the kernel when we die (PR_SET_PDEATHSIG, prctl(2)): nothing we start outlives us,
 * even a SIGKILL. Does not hold for set-user-id programs, which clear the setting.
 */
export function tethered(tool: string, args: readonly string[]): Command {
  return { tool: 'setpriv', args: ['--pdeathsig', 'KILL', '--', tool, ...args] }
}

function trace(tool: string, args: readonly string[]): void {
  if (process.env['VLB_TRACE']) {
    const quoted = [tool, ...args].map((word) =>
      /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
    )
    process.stderr.write(`+ ${quoted.join(' ')}\n`)
  }
}

const loadExeca = () => import('execa')

/** Loads what `run` needs, while something else is waited for. */
export function preloadRun(): void {
  void loadExeca()
}

/** Runs to the end and returns what it printed. Throws ToolError, or VlbError for a missing program or a full disk. */
export async function run(tool: string, args: readonly string[], options: RunOptions = {}): Promise<Output> {
  trace(tool, args)
  const command = tethered(tool, args)
  const { execa } = await loadExeca()
  const result = await execa(command.tool, command.args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: childEnvironment(options.env),
    extendEnv: false,
    stdin: 'ignore',
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    // Its own process group: Ctrl-C in a terminal reaches us alone, and we decide what to end, and in which order.
    detached: true,
    stripFinalNewline: false,
    reject: false,
    maxBuffer: 64 * 2 ** 20,
  })
  options.signal?.throwIfAborted()
  const output = { stdout: result.stdout as string, stderr: result.stderr as string, exitCode: result.exitCode ?? -1 }
  if ((options.ok ?? [0]).includes(output.exitCode)) return output
  throw failure(tool, args, { ...output, exitCode: result.exitCode, signal: result.signal })
}

/**
 * The same for a short question, without the rest of execa: loading that takes 20 ms, a fifth of a run that finds all in
 * the store.
 */
export async function ask(
  tool: string,
  args: readonly string[],
  options: Pick<RunOptions, 'cwd' | 'env' | 'ok'> & { input?: string } = {},
): Promise<Output> {
  const child = spawn(tool, args, options)
  child.stdin?.end(options.input ?? '')
  const [stdout, stderr, result] = await Promise.all([textOf(child.stdout), textOf(child.stderr), child.ended])
  const output = { stdout, stderr, exitCode: result.exitCode ?? -1 }
  if ((options.ok ?? [0]).includes(output.exitCode)) return output
  throw failure(tool, args, { ...result, stderr })
}

async function textOf(stream: Readable | null): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream ?? []) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

/** Runs to the end with its output going to an open file. Throws as `run` does. */
export async function runInto(
  tool: string,
  args: readonly string[],
  file: number,
  options: Pick<RunOptions, 'cwd' | 'env' | 'signal'> = {},
): Promise<void> {
  const child = spawn(tool, args, { ...options, output: file })
  const stop = () => child.kill('SIGKILL')
  options.signal?.addEventListener('abort', stop, { once: true })
  child.stdin?.end()
  const [stderr, result] = await Promise.all([textOf(child.stderr), child.ended])
  options.signal?.removeEventListener('abort', stop)
  options.signal?.throwIfAborted()
  if (result.exitCode !== 0) throw failure(tool, args, { ...result, stderr })
}

/**
 * Closes a file whose name is gone in a process that nobody waits for. The last one to close it has the kernel free its
 * blocks and its pages, which for some hundred megabytes takes some tenths of a second.
 */
export function closeElsewhere(file: number): void {
  // It ends at once by itself, and with it all it has.
  const other = start('sh', ['-c', ':'], { stdio: ['ignore', 'ignore', 'ignore', file], detached: true, env: {} })
  other.on('error', () => {})
  other.unref()
  closeSync(file)
}

/** Removes folders with all in them in a process that nobody waits for, and that outlives us. */
export function removeElsewhere(paths: readonly string[]): void {
  const other = start('rm', ['-rf', '--one-file-system', '--', ...paths], { stdio: 'ignore', detached: true })
  other.on('error', () => {})
  other.unref()
}

export interface Failure {
  exitCode?: number | undefined
  signal?: string | undefined
  stderr: string
}

/** The error for a program's failure: a full disk, a missing and a killed program are the host's, the rest is a ToolError. */
export function failure(tool: string, args: readonly string[], result: Failure): Error {
  // setpriv exits with 127 when it cannot find the program (setpriv(1)); without setpriv itself there is no status.
  if (result.exitCode === 127 || (result.exitCode === undefined && result.signal === undefined)) {
    const missing = result.exitCode === undefined ? 'setpriv' : tool
    return new VlbError('VLB_HOST_TOOL', `${missing} is not installed`, { hint: toolHint(missing) })
  }
  // Where a write fails git may say it in words of its own.
  if (/No space left on device|Disk quota exceeded|Out of diskspace/.test(result.stderr)) {
    return new VlbError('VLB_HOST_SPACE', `no space left on the host: ${result.stderr.trim().split('\n').at(-1)}`, {
      hint: 'free some space (df -h), or move the store: git config vlb.store PATH',
      data: { vague: true },
    })
  }
  if (/Input\/output error/.test(result.stderr)) {
    return new VlbError('VLB_HOST_IO', `${tool}: ${result.stderr.trim().split('\n').at(-1)}`, {
      hint: 'is a disk of this host failing? see: dmesg | tail',
    })
  }
  // A shell, and flock for what it runs, tell by a status of 128 and the signal's number.
  const signal = result.signal ?? (result.exitCode === 137 ? 'SIGKILL' : undefined)
  if (signal) {
    return new VlbError('VLB_KILLED', `${tool} was killed by ${signal}`, {
      hint: 'run the command again; if nobody killed it, was memory short? see: dmesg | tail',
    })
  }
  return new ToolError(tool, args, result)
}

export interface SpawnOptions {
  cwd?: string
  env?: Environment
  /** Only these variables, nothing of ours. */
  exactEnv?: Environment
  /** The terminal is handed on: for a guest's console. */
  terminal?: boolean
  /** Killed by the kernel when we die. Off for sudo, which clears the setting. */
  tether?: boolean
  /** An open file that takes its output. */
  output?: number
  /** A socket that it inherits as file descriptor 3. */
  channel?: boolean
  /** An open file that it has as file descriptor 3. */
  inherited?: number
}

export interface Child {
  pid: number | undefined
  stdin: NodeJS.WritableStream | null
  stdout: Readable | null
  stderr: Readable | null
  /** Our end of its descriptor 3. */
  channel?: Duplex
  kill(signal: NodeJS.Signals): void
  /** Resolves when it has ended, however; never rejects. */
  ended: Promise<{ exitCode: number | undefined; signal: string | undefined }>
}

/** Starts a program whose streams the caller reads and writes. */
export function spawn(tool: string, args: readonly string[], options: SpawnOptions = {}): Child {
  trace(tool, args)
  const command = options.tether === false ? { tool, args } : tethered(tool, args)
  const subprocess = start(command.tool, command.args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.exactEnv ?? childEnvironment(options.env),
    // What node calls a pipe is a pair of connected UNIX sockets (libuv), which can be written to and read at both ends.
    stdio: [
      options.terminal ? 'inherit' : 'pipe',
      options.output ?? 'pipe',
      'pipe',
      ...(options.channel ? ['pipe' as const] : options.inherited !== undefined ? [options.inherited] : []),
    ],
    detached: !options.terminal,
  })
  // A child that ends before it has read its input is no error of ours: its exit status tells.
  subprocess.stdin?.on('error', () => {})
  // What nobody reads must not stop the child.
  setImmediate(() => {
    for (const stream of [subprocess.stdout, subprocess.stderr]) if (stream?.readableFlowing === null) stream.resume()
  })
  const ended: Child['ended'] = new Promise((resolve) => {
    // Emitted for other reasons, too, once there is a process.
    subprocess.on('error', () => subprocess.pid ?? resolve({ exitCode: undefined, signal: undefined }))
    subprocess.on('close', (status, signal) => resolve({ exitCode: status ?? undefined, signal: signal ?? undefined }))
  })
  return {
    pid: subprocess.pid,
    stdin: subprocess.stdin,
    stdout: subprocess.stdout,
    stderr: subprocess.stderr,
    ...(options.channel ? { channel: subprocess.stdio[3] as Duplex } : {}),
    kill: (signal) => killAll(subprocess, signal, !options.terminal),
    ended,
  }
}

/** Kills a child with all it started in its process group; the child alone where it shares ours. */
function killAll(child: ChildProcess, signal: NodeJS.Signals, ownGroup: boolean): void {
  if (!ownGroup || child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
    return void child.kill(signal)
  try {
    process.kill(-child.pid, signal)
  } catch {
    // It may not have got as far as a group of its own, or be gone already.
    child.kill(signal)
  }
}

/** Runs a program on our own standard streams: for what a person talks to. */
export async function spawnInteractive(
  tool: string,
  args: readonly string[],
): Promise<{ exitCode: number | undefined; signal: string | undefined }> {
  trace(tool, args)
  const { execa } = await loadExeca()
  const { exitCode, signal } = await execa(tool, args, {
    env: childEnvironment(),
    extendEnv: false,
    stdio: 'inherit',
    reject: false,
  })
  return { exitCode, signal }
}

/** Starts a pager, a shell command by definition, which shows on our terminal what is written to it. */
export function spawnPager(command: string): { input: NodeJS.WritableStream; ended: Promise<unknown> } {
  const child = start('sh', ['-c', command], {
    env: childEnvironment(pagerEnvironment()),
    stdio: ['pipe', 'inherit', 'inherit'],
  })
  // Leaving before all is read is the reader's choice.
  child.stdin.on('error', () => {})
  return { input: child.stdin, ended: new Promise((resolve) => child.on('close', resolve).on('error', resolve)) }
}
