// Runs the privileged runner (runner.sh) and understands its lines.

import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Attach } from '../core/attach.ts'
import { fstabIn } from '../core/disk.ts'
import { type ErrorCode, errorCodes, printable, VlbError } from '../core/errors.ts'
import { type MemoryLimit, memoryArgument } from '../core/memory.ts'
import { childEnvironment } from '../host/env.ts'
import { asRoot } from '../host/privilege.ts'
import { preloadRun, run, spawn } from '../host/run.ts'
import { watchSpace } from '../host/space.ts'
import { attachHint, emulatorHint } from '../host/tools.ts'

// Beside this file in src/, beside the bundle in dist/.
export const runner = fileURLToPath(new URL('./runner.sh', import.meta.url))

export interface RunnerOptions {
  attach: Attach
  /** What scripts may take; default: no limit. */
  memory?: MemoryLimit
  /** Ends everything in the namespaces when it fires. */
  signal: AbortSignal
  /** What scripts and tools print, as it comes. */
  onOutput: (chunk: Buffer) => void
  /** Handed over by the pipe: neither on a disk nor in the process list. By id. */
  secrets?: ReadonlyMap<string, Buffer>
}

/** Whether there are control groups that scripts can be limited by. */
export async function canLimit(): Promise<boolean> {
  return (await run('bash', [runner, 'show_parents'])).stdout.trim() !== ''
}

/** An action of the runner that is under way. */
export interface Action {
  /** What it answers. */
  stdout: Readable
  /** Ends everything in the namespaces. */
  stop: () => void
  ended: Promise<{ exitCode: number | undefined; signal: string | undefined }>
}

/** Starts one action of the runner in the scratch folder `work`. */
export async function startAction(
  work: string,
  action: string,
  args: readonly string[],
  options: RunnerOptions,
): Promise<Action> {
  options.signal.throwIfAborted()
  const command = await asRoot('bash', [
    runner,
    'enter',
    work,
    options.attach,
    memoryArgument(options.memory),
    action,
    ...args,
  ])
  const child = spawn(command.tool, command.args, { cwd: '/', exactEnv: childEnvironment(), tether: false })
  for (const [id, value] of options.secrets ?? []) child.stdin?.write(`${id} ${value.toString('base64')}\n`)
  child.stdin?.write('go\n')
  // Whatever is done next with the disk takes it.
  preloadRun()
  // The runner lives as long as its standard input is open.
  const stop = () => child.stdin?.end()
  options.signal.addEventListener('abort', stop, { once: true })
  // It may have fired while sudo was asked.
  if (options.signal.aborted) stop()
  child.stderr?.on('data', options.onOutput)
  const ended = child.ended.finally(() => {
    options.signal.removeEventListener('abort', stop)
    stop()
  })
  return { stdout: child.stdout as Readable, stop, ended }
}

/**
 * Runs one action of the runner in the scratch folder `work` and returns the lines it printed. Throws the error that it
 * reports, or VLB_KILLED when it ended without a word.
 */
async function act(work: string, action: string, args: readonly string[], options: RunnerOptions): Promise<string[]> {
  const watch = watchSpace(work)
  const signal = AbortSignal.any([options.signal, watch.full])
  const lines: string[] = []
  try {
    const { stdout, ended } = await startAction(work, action, args, { ...options, signal })
    createInterface({ input: stdout }).on('line', (line) => lines.push(line))
    const result = await ended
    return reading(lines, result, options.signal)
  } finally {
    watch.end()
    // Whatever the runner says: with no space left, that is why, or what it says is not to be relied on.
    if (!options.signal.aborted) watch.full.throwIfAborted()
  }
}

/** The runner's lines, unless they report an error or it ended before its work was done. */
export function reading(
  lines: string[],
  { exitCode, signal }: { exitCode: number | undefined; signal: string | undefined },
  stopped: AbortSignal,
): string[] {
  stopped.throwIfAborted()
  const reported = lines.find((line) => line.startsWith('error '))
  if (reported) throw reportedError(reported)
  if (exitCode !== 0) {
    throw new VlbError('VLB_KILLED', `the sandbox ended before its work was done (${signal ?? `status ${exitCode}`})`, {
      hint: 'was it killed, or did memory run out? see: dmesg | tail; then run the command again',
    })
  }
  return lines
}

/** The exit status of a script or shell, as the runner's lines tell it. */
export function interpret(
  lines: string[],
  ended: { exitCode: number | undefined; signal: string | undefined },
  stopped: AbortSignal,
): number {
  return exitStatus(reading(lines, ended, stopped))
}

function reportedError(line: string): VlbError {
  const [, code = '', ...words] = line.split(' ')
  const known = (code in errorCodes ? code : 'VLB_HOST_KERNEL') as ErrorCode
  return new VlbError(known, printable(words.join(' ')), { hint: hintFor(known) })
}

function hintFor(code: ErrorCode): string {
  if (code === 'VLB_HOST_ARCHITECTURE') return emulatorHint()
  if (code === 'VLB_HOST_IO')
    return 'nothing of it was kept; see what the kernel says: dmesg | tail; and what is free: df -h'
  if (code === 'VLB_HOST_ATTACH') return attachHint()
  if (code === 'VLB_HOST_DEVICE')
    return 'end what uses it (qemu-nbd --disconnect DEVICE), or let a free one be found: git config vlb.attach nbd, without --nbd'
  if (code === 'VLB_DISK')
    return 'correct it in the base, or in a layer before: its file system is checked by e2fsck -f -n, xfs_repair -n or btrfs check; git vlb log shows the last log'
  if (code === 'VLB_KILLED') return 'nothing half-built was kept; run the command again; git vlb log shows the last log'
  return 'git vlb doctor shows what this host lacks; git vlb log shows the last log'
}

/** Lines of the disk's layout, for core/disk.ts. */
export async function probe(
  work: string,
  file: string,
  format: 'qcow2' | 'raw',
  options: RunnerOptions,
): Promise<string[]> {
  return await act(work, 'probe', [file, format], options)
}

export interface RootPlace {
  /** Bytes. */
  start: number
  size: number
  /** Its kind; behind a comma, what else mount(8) has to know. */
  fs: string
}

/** Grows the root partition and its file system to the end of `work`/layer.qcow2; returns the new layout's lines. */
export async function grow(
  work: string,
  partition: number,
  root: RootPlace,
  options: RunnerOptions,
): Promise<string[]> {
  return await act(work, 'grow', [String(partition), String(root.start), String(root.size), root.fs], options)
}

/** Does these steps of the seal in `work`/layer.qcow2; returns lines for core/seal.ts. */
export async function seal(
  work: string,
  root: RootPlace,
  steps: readonly string[],
  options: RunnerOptions,
): Promise<string[]> {
  return await act(work, 'seal', [String(root.start), String(root.size), root.fs, ...steps], options)
}

/** Puts `work`/src into `work`/layer.qcow2 for its init to start; returns what init that is. */
export async function installChecks(
  work: string,
  root: RootPlace,
  options: RunnerOptions,
): Promise<'systemd' | 'other'> {
  const lines = await act(work, 'checks', [String(root.start), String(root.size), root.fs], options)
  return lines.includes('init systemd') ? 'systemd' : 'other'
}

export interface ScriptRun {
  script: string
  /** Checked to be there in the image; undefined for a binary. */
  interpreter: string | undefined
  network: boolean
  hostname: string
  /** All of the script's environment. */
  env: Record<string, string>
}

/** A persistent folder of the store, mounted while a script runs. */
export interface CacheMount {
  folder: string
  /** Absolute path in the image. */
  target: string
  /** Somebody else is at it: the script gets a copy, thrown away afterwards. */
  copy: boolean
}

/** What the runner reads of `work`/caches: three fields with tabs between, a line each. */
export function cacheLines(caches: readonly CacheMount[]): string {
  return caches.map(({ folder, target, copy }) => `${copy ? 'copy' : 'own'}\t${folder}\t${target}\n`).join('')
}

/** What the runner's actions `layer` and `shell` are given. */
export function layerArguments(root: RootPlace, run: ScriptRun): string[] {
  const place = [String(root.start), String(root.size), root.fs]
  const surroundings = [run.network ? 'host' : 'none', run.hostname]
  return [...place, ...surroundings, run.script, run.interpreter ?? '', ...variables(run.env)]
}

export interface ScriptEnd {
  /** 128 + n for signal n. */
  exitCode: number
  /** The image's, as the script left it. */
  fstab: string | undefined
  /** If it failed, the bytes free in the image. */
  free: number | undefined
  /** What it wanted more of than it may have. */
  limits: Limit[]
}

export type Limit = 'memory' | 'processes'

/** Runs `work`/src/SCRIPT inside the image `work`/layer.qcow2. */
export async function runInImage(
  work: string,
  root: RootPlace,
  run: ScriptRun,
  options: RunnerOptions,
): Promise<ScriptEnd> {
  const lines = await act(work, 'layer', layerArguments(root, run), options)
  return { exitCode: exitStatus(lines), fstab: fstabIn(lines), free: freeIn(lines), limits: limitsIn(lines) }
}

/** Looks for the packages of `work`/layer.qcow2, as askForPackages has it; the disk is of no use afterwards. */
export async function probePackages(work: string, root: RootPlace, options: RunnerOptions): Promise<void> {
  await act(work, 'packages', [String(root.start), String(root.size), root.fs], options)
}

/** Runs `work`/src/SCRIPT on the host in private namespaces; what it wrote is then `work`/disk. */
export async function runOnHost(
  work: string,
  script: string,
  env: Record<string, string>,
  options: RunnerOptions,
): Promise<number> {
  return exitStatus(await act(work, 'host', [script, ...variables(env)], options))
}

/**
 * Runs `work`/src/SCRIPT on the host with `work`/layer.qcow2 attached as a block device. `source` is the file below it.
 * Returns its exit status and the lines of the disk's layout.
 */
export async function runOnDisk(
  work: string,
  source: string,
  script: string,
  env: Record<string, string>,
  options: RunnerOptions,
): Promise<{ exitCode: number; lines: string[] }> {
  const lines = await act(work, 'disk', [source, script, ...variables(env)], options)
  return { exitCode: exitStatus(lines), lines }
}

function limitsIn(lines: readonly string[]): Limit[] {
  const limits: readonly Limit[] = ['memory', 'processes']
  return limits.filter((limit) => lines.includes(`limit ${limit}`))
}

function freeIn(lines: readonly string[]): number | undefined {
  const line = lines.find((text) => text.startsWith('free '))
  return line === undefined ? undefined : Number(line.slice(5))
}

function variables(env: Record<string, string>): string[] {
  return Object.entries(env).map(([name, value]) => `${name}=${value}`)
}

function exitStatus(lines: string[]): number {
  const line = lines.find((text) => text.startsWith('exit '))
  if (!line)
    throw new VlbError('VLB_KILLED', 'the sandbox ended before it could tell how the script ended', {
      hint: 'run the command again',
    })
  return Number(line.slice(5))
}
