// Runs a guest and listens to its serial console: until it says what is expected, ends, or time is up.
import { printable, VlbError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import { type Child, failure, spawn } from '../host/run.ts'
import { checkHost, type Guest, qemu, qemuArguments } from './qemu.ts'
import { saveTerminal } from './terminal.ts'
import { perLine, Transcript } from './transcript.ts'

export interface BootOptions extends Guest {
  /** Folder that takes what the guest writes to its disk: as much as the guest likes. qemu leaves nothing in it. */
  scratch: string
  /** Ends the run as soon as the console says so; `^` and `$` stand for lines. Undefined: run until the guest ends. */
  expect: RegExp | undefined
  /** Instead of a text: the guest is up when this resolves, and this is what is told of it. */
  up?: Promise<string>
  /** Seconds for all of it, `whenUp` included. Undefined: as long as it takes. */
  timeout: number | undefined
  /** Seconds for `whenUp`, apart from `timeout`. */
  upTime?: number
  /** The user's terminal becomes the guest's console; `^a x` leaves. */
  terminal?: boolean
  /** Called after the match, with the guest running; the guest is stopped when it settles. The signal: hurry up. */
  whenUp?: (signal: AbortSignal) => Promise<void>
}

export interface BootContext {
  signal: AbortSignal
  /** Gets all the console says, as `console` events. */
  emit: Emit
}

export interface BootOutcome {
  /** The expected text came and `whenUp` went well; or, with nothing expected, the guest ended by itself. */
  ok: boolean
  /** The line of the console that matched. */
  matched: string | null
  /** Until the match, or else until the end. */
  seconds: number
  /** One line, and after a failure the last lines of the console, indented. */
  reason: string
  /** The failure is qemu's or this host's and says nothing about the image. */
  hostFault: boolean
}

/**
 * Boots `options.image`, which is not written to, and ends the guest before it returns. Throws VLB_USAGE for a busy
 * port, VLB_HOST_TOOL without qemu, VLB_HOST_SPACE for want of memory, what `whenUp` throws, and the signal's reason.
 */
export async function bootGuest(options: BootOptions, context: BootContext): Promise<BootOutcome> {
  checkHost()
  context.signal.throwIfAborted()
  const restoreTerminal = options.terminal ? await saveTerminal() : undefined
  const args = qemuArguments(options, options.terminal === true)
  // In the scratch folder, for a qemu that aborts may leave a core file.
  const child = spawn(qemu, args, {
    cwd: options.scratch,
    env: { TMPDIR: options.scratch },
    terminal: options.terminal === true,
  })
  try {
    return await observe(new Watch(child, options, context.emit), options, context.signal)
  } finally {
    await stop(child)
    await restoreTerminal?.()
  }
}

type End =
  | { how: 'matched'; line: string }
  /** It will never come to the expected text. */
  | { how: 'hopeless'; what: string }
  | { how: 'exited'; exitCode: number | undefined; signal: string | undefined }
  /** Time is up, or we were told to stop. */
  | { how: 'halted' }

async function observe(watch: Watch, options: BootOptions, signal: AbortSignal): Promise<BootOutcome> {
  const started = performance.now()
  const halt = limited(options.timeout, signal)
  const halted = whenAborted(halt).then((): End => ({ how: 'halted' }))
  const ups = options.up === undefined ? [] : [options.up.then((line): End => ({ how: 'matched', line }))]
  const end = await Promise.race([watch.end, halted, ...ups])
  const seconds = (performance.now() - started) / 1000
  signal.throwIfAborted()
  if (end.how !== 'matched') return unmatched(end, seconds, options, watch)
  const matched = { matched: end.line, seconds, hostFault: false }
  const hurry = options.upTime === undefined ? halt : limited(options.upTime, signal)
  const hurried = options.upTime === undefined ? halted : whenAborted(hurry).then((): End => ({ how: 'halted' }))
  const check = options.whenUp?.(hurry).catch((error: unknown) => {
    if (hurry.aborted) return hurried
    throw error
  })
  const after = await Promise.race([check, watch.exited, hurried])
  signal.throwIfAborted()
  if (options.whenUp && after) {
    const what =
      after.how === 'halted'
        ? `time was up (${formatSeconds(options.upTime ?? options.timeout ?? 0)})`
        : 'the guest ended'
    return {
      ...matched,
      ok: false,
      reason: withLastLines(`${what} before the check of the running guest was done`, watch),
    }
  }
  return { ...matched, ok: true, reason: `the console said "${end.line}" after ${formatSeconds(seconds)}` }
}

/** Fires with `signal`, and when these seconds have passed. */
function limited(seconds: number | undefined, signal: AbortSignal): AbortSignal {
  return seconds === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(milliseconds(seconds))])
}

/** Timers take no more than 2^31 - 1. */
function milliseconds(seconds: number): number {
  return Math.min(Math.ceil(seconds * 1000), 2 ** 31 - 1)
}

function whenAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** What it means that the run ended otherwise than by a match. */
function unmatched(
  end: Exclude<End, { how: 'matched' }>,
  seconds: number,
  options: BootOptions,
  watch: Watch,
): BootOutcome {
  const outcome = { matched: null, seconds }
  const time = formatSeconds(seconds)
  const missed = options.expect
    ? `, and the console had not said /${options.expect.source}/`
    : options.up !== undefined
      ? ', and its system had not come up'
      : ''
  if (end.how === 'hopeless') {
    return {
      ...outcome,
      ok: false,
      hostFault: false,
      reason: withLastLines(`${end.what} after ${time}${missed}`, watch),
    }
  }
  if (end.how === 'halted') {
    const what = options.expect
      ? `the console did not say /${options.expect.source}/`
      : `the guest did not ${options.up === undefined ? 'end' : 'come up'}`
    return { ...outcome, ok: false, hostFault: false, reason: withLastLines(`${what} within ${time}`, watch) }
  }
  const failed = qemuFailure(end, watch.stderr, options)
  if (failed) return { ...outcome, ok: false, hostFault: true, reason: failed }
  const ended = `the guest ended after ${time}`
  if (missed === '') return { ...outcome, ok: true, hostFault: false, reason: ended }
  return { ...outcome, ok: false, hostFault: false, reason: withLastLines(`${ended}${missed}`, watch) }
}

/** Says what qemu's own failure was; undefined if the guest ended by itself. Throws where there is something to do. */
function qemuFailure(end: Extract<End, { how: 'exited' }>, stderr: string, guest: Guest): string | undefined {
  const port = Number(/host forwarding rule 'tcp:127\.0\.0\.1:(\d+)-/.exec(stderr)?.[1] ?? 0)
  if (port > 0) throw busyPort(port, guest)
  if (/cannot set up guest memory/.test(stderr)) {
    throw new VlbError('VLB_HOST_SPACE', `this host has not the memory for a guest of ${formatBytes(guest.memory)}`, {
      hint: 'give it less: --memory 512M, or boot.memory in vlb.yaml',
    })
  }
  // On SIGTERM and SIGINT qemu says so and exits with 0.
  if (end.exitCode === 0 && !/terminating on signal/.test(stderr)) return undefined
  const known = failure(qemu, [], { ...end, stderr })
  if (known instanceof VlbError) throw known
  const said = stderr.split('\n').filter((line) => line.trim() !== '')
  const under = guest.accelerator === 'kvm' ? 'with KVM; to do without: git config vlb.accel tcg' : 'without KVM'
  const how = `qemu ended with ${end.signal ?? `status ${end.exitCode}`} (${under})`
  return [how, ...said.slice(-5).map((line) => printable(line))].join('\n  ')
}

function busyPort(port: number, guest: Guest): VlbError {
  const other = port < 1024 ? port + 8000 : port === 65_535 ? 8080 : port + 1
  const target = guest.forwards.find((forward) => forward.host === port)?.guest ?? port
  return new VlbError('VLB_USAGE', `cannot listen on port ${port}: it is in use, or not this user's to take`, {
    hint: `take another: --forward ${other}:${target}; to see who has it: ss -ltnp 'sport = :${port}'`,
  })
}

/** What firmware and boot loaders say last when all that follows goes to the screen alone. */
const loaderWords = /^(Booting from|Booting `|Loading|Probing EDD)/

function withLastLines(what: string, watch: Watch): string {
  const lines = watch.transcript.lastLines(8)
  const silent = loaderWords.test(lines.at(-1) ?? 'Loading')
  const advice = silent ? ['(a Linux guest needs console=ttyS0 on the command line of its kernel)'] : []
  return [`${what}; its last lines:`, ...lines, ...advice].join('\n  ')
}

/** qemu leaves the terminal in order on SIGTERM; one whose guest hangs in KVM hears SIGKILL only. */
async function stop(child: Child): Promise<void> {
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 1000)
  await child.ended
  clearTimeout(timer)
}

/** Reads what qemu writes, for as long as it runs, and knows when the run has come to its end. */
class Watch {
  readonly transcript = new Transcript()
  /** The end of what qemu itself complained of. */
  stderr = ''
  /** The first thing that ends the run; never rejects. */
  readonly end: Promise<End>
  /** Resolves when qemu has ended, with all its output read. */
  readonly exited: Promise<End>
  readonly #pattern: RegExp | undefined
  /** Something is waited for, so what makes that hopeless is looked for. */
  readonly #waiting: boolean
  #decide: (end: End) => void = () => {}
  #timer: NodeJS.Timeout | undefined

  constructor(child: Child, { expect, up }: Pick<BootOptions, 'expect' | 'up'>, emit: Emit) {
    this.#pattern = expect && perLine(expect)
    this.#waiting = expect !== undefined || up !== undefined
    this.end = new Promise((resolve) => {
      this.#decide = resolve
    })
    child.stdout?.on('data', (chunk: Buffer) => {
      emit({ type: 'console', chunk })
      this.#listen(chunk)
    })
    child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-8192)
    })
    this.exited = this.#exit(child)
  }

  async #exit(child: Child): Promise<End> {
    const drained = Promise.all([child.stdout, child.stderr].map((stream) => stream && whenClosed(stream)))
    const { exitCode, signal } = await child.ended
    await drained
    this.#look()
    const end: End = { how: 'exited', exitCode, signal }
    this.#decide(end)
    return end
  }

  /** Output comes in crumbs of some bytes or in floods: it is searched every 50 ms, and every 32 KiB. */
  #listen(chunk: Buffer): void {
    this.transcript.push(chunk)
    if (!this.#waiting) return
    if (this.transcript.unread > 32 * 1024) this.#look()
    else this.#timer ??= setTimeout(() => this.#look(), 50)
  }

  #look(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (!this.#waiting) return
    const line = this.transcript.find(this.#pattern ?? nothing)
    if (line !== undefined) return this.#decide({ how: 'matched', line })
    const what = hopeless(this.transcript.text)
    if (what) this.#decide({ how: 'hopeless', what })
  }
}

function whenClosed(stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve))
}

/** Matches no text. */
const nothing = /(?!)/

/** Starts of the firmware within the last 64 KiB of output; a system that restarts on purpose says more in between. */
const tooManyStarts = 4

/** Why nothing more is to be waited for. */
export function hopeless(text: string): string | undefined {
  // SeaBIOS's last words when no disk could be booted from.
  if (/^No bootable device\./m.test(text)) return 'the firmware found no boot loader on the image'
  // Printed after all else by a kernel that will not restart either (Linux, kernel/panic.c).
  if (text.includes('---[ end Kernel panic - not syncing')) return "the guest's kernel panicked"
  if (text.split('SeaBIOS (version').length > tooManyStarts) return 'the guest kept restarting'
  return undefined
}
