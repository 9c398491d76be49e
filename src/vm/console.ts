// Runs a guest and listens to its serial console: until it says what is expected, ends, or time is up.
import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { printable, VlbError } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { BootVerdict } from '../core/results-boot.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import { explainWriteError } from '../host/files.ts'
import { type Child, failure, spawn } from '../host/run.ts'
import { screenHint } from '../host/tools.ts'
import { checkHost, type Guest, qemu, qemuArguments } from './qemu.ts'
import { saveTerminal } from './terminal.ts'
import { type End, Watch } from './watch.ts'

export interface BootOptions extends Guest {
  /** Folder that takes what the guest writes to its disk: as much as the guest likes. qemu leaves nothing in it. */
  scratch: string
  /** Ends the run when the console has said all of it, in this order; `^` and `$` stand for lines. None: until the guest ends. */
  expect: readonly RegExp[]
  /** Instead of a text: the guest is up when this resolves, and this is what is told of it. */
  up?: Promise<string>
  /** Seconds for all of it, `whenUp` included. Undefined: as long as it takes. */
  timeout: number | undefined
  /** Seconds for `whenUp`, apart from `timeout`. */
  upTime?: number
  /** The user's terminal becomes the guest's console; `^a x` leaves. */
  terminal?: boolean
  /** Absolute path of a file for a picture of the guest's screen when the run is over, PNG or, by its ending, PPM. */
  screenshot?: string | undefined
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
  verdict: BootVerdict
  /** The line of the console that matched last. */
  matched: string | null
  /** Until the match, or else until the end. */
  seconds: number
  /** One line, and after a failure the last lines of the console, indented. */
  reason: string
  /** The picture was taken. */
  screenshot?: boolean
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
    channel: true,
  })
  try {
    const watch = new Watch(child, { expect: options.expect, waits: options.up !== undefined }, context.emit)
    if (options.display === 'vnc') tellVnc(watch, context.emit)
    const outcome = await observe(watch, options, context.signal)
    if (options.screenshot === undefined) return outcome
    return { ...outcome, screenshot: await takeScreenshot(watch, options, options.screenshot, context) }
  } finally {
    await stop(child)
    await restoreTerminal?.()
  }
}

function tellVnc(watch: Watch, emit: Emit): void {
  void watch.qmp?.ask('query-vnc').then((answer) => {
    const { service } = (typeof answer === 'object' ? (answer.value as { service?: string } | null) : null) ?? {}
    if (service !== undefined) emit({ type: 'note', text: `the screen: vncviewer 127.0.0.1::${service}` })
  })
}

/** What a guest does on its screen takes a moment longer than what it says on its console. */
const settleMilliseconds = 2000

/** A picture of the screen as it is at the end. Throws VLB_HOST_TOOL where this qemu cannot make one. */
async function takeScreenshot(
  watch: Watch,
  options: BootOptions,
  target: string,
  { signal, emit }: BootContext,
): Promise<boolean> {
  await Promise.race([delay(settleMilliseconds, undefined, { ref: false }), watch.exited, whenAborted(signal)])
  signal.throwIfAborted()
  const format = target.endsWith('.ppm') ? 'ppm' : 'png'
  const file = join(options.scratch, 'screen')
  try {
    // qemu before 7.1 writes PPM only, and knows no format.
    const how = format === 'png' ? { format } : {}
    const answer = await Promise.race([watch.qmp?.ask('screendump', { filename: file, ...how }), watch.exited])
    if (typeof answer === 'string') {
      throw new VlbError('VLB_HOST_TOOL', `qemu makes no picture of the screen: ${answer}`, {
        hint: 'PNG takes qemu 7.1 or newer, built with libpng; every qemu writes a file that ends in .ppm',
      })
    }
    if (typeof answer === 'object' && 'value' in answer) {
      await copyFile(file, target).catch((error: unknown) => {
        throw explainWriteError(error, target)
      })
      return true
    }
    emit({ type: 'warning', text: 'no picture of the screen: the guest had ended' })
    return false
  } finally {
    await rm(file, { force: true })
  }
}

async function observe(watch: Watch, options: BootOptions, signal: AbortSignal): Promise<BootOutcome> {
  const started = performance.now()
  const halt = limited(options.timeout, signal)
  const halted = whenAborted(halt).then((): End => ({ how: 'halted' }))
  const ups = options.up === undefined ? [] : [options.up.then((line): End => ({ how: 'matched', line }))]
  const end = await Promise.race([watch.end, halted, ...ups])
  const seconds = (performance.now() - started) / 1000
  signal.throwIfAborted()
  if (end.how !== 'matched') return unmatched(end, seconds, options, watch)
  const matched = { verdict: 'booted' as const, matched: end.line, seconds, hostFault: false }
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
      verdict: after.how === 'halted' ? 'timeout' : 'ended',
      reason: withLastLines(`${what} before the check of the running guest was done`, watch),
    }
  }
  return { ...matched, ok: true, reason: `the console said "${end.line}" after ${formatSeconds(seconds)}` }
}

/**
 * Fires with `signal`, and when these seconds have passed. Not AbortSignal.timeout() within AbortSignal.any(): in Node 20
 * nothing holds that, and under a flood of output it is collected before it fires.
 */
function limited(seconds: number | undefined, signal: AbortSignal): AbortSignal {
  if (seconds === undefined) return signal
  const limit = new AbortController()
  const stop = () => limit.abort(signal.reason)
  setTimeout(() => limit.abort(), milliseconds(seconds)).unref()
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  return limit.signal
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
  const outcome = { ok: false, matched: null, seconds, hostFault: false }
  const time = formatSeconds(seconds)
  const awaited = watch.awaited && `/${watch.awaited.source}/`
  const missed = awaited
    ? `, and the console had not said ${awaited}`
    : options.up !== undefined
      ? ', and its system had not come up'
      : ''
  if (end.how === 'hopeless') {
    return { ...outcome, verdict: end.verdict, reason: withLastLines(`${end.what} after ${time}${missed}`, watch) }
  }
  if (end.how === 'halted') {
    const { verdict, what } = watch.late(seconds)
    const late = awaited
      ? `the console did not say ${awaited}`
      : `the guest did not ${options.up === undefined ? 'end' : 'come up'}`
    const reason = withLastLines(`${late} within ${time}${what ? `; ${what}` : ''}`, watch)
    return { ...outcome, verdict, reason }
  }
  const failed = qemuFailure(end, watch.stderr, options)
  if (failed) return { ...outcome, verdict: 'host', hostFault: true, reason: failed }
  const ended = `the guest ended after ${time}`
  if (missed === '') return { ...outcome, verdict: 'ended', ok: true, reason: ended }
  return { ...outcome, verdict: 'ended', reason: withLastLines(`${ended}${missed}`, watch) }
}

/** Says what qemu's own failure was; undefined if the guest ended by itself. Throws where there is something to do. */
function qemuFailure(end: Extract<End, { how: 'exited' }>, stderr: string, guest: Guest): string | undefined {
  const port = Number(/host forwarding rule 'tcp:127\.0\.0\.1:(\d+)-/.exec(stderr)?.[1] ?? 0)
  if (port > 0) throw busyPort(port, guest)
  if (guest.bridge && /bridge helper failed|access denied by acl|failed to parse default acl|helper/.test(stderr)) {
    const said = printable(stderr.split('\n').find((line) => line.includes('bridge') || line.includes('acl')) ?? '')
    throw new VlbError('VLB_HOST_PRIVILEGE', `the guest cannot join the bridge ${guest.bridge.name}: ${said}`, {
      hint: `allow it: echo "allow ${guest.bridge.name}" >>/etc/qemu/bridge.conf; see: ip link show type bridge`,
    })
  }
  if (guest.display === 'gtk' && /gtk/i.test(stderr)) {
    const said = printable(stderr.trim().split('\n').at(-1) ?? '')
    throw new VlbError('VLB_HOST_TOOL', `qemu opens no window here: ${said}`, { hint: screenHint() })
  }
  if (/cannot set up guest memory/.test(stderr)) {
    throw new VlbError('VLB_HOST_SPACE', `this host has not the memory for a guest of ${formatBytes(guest.memory)}`, {
      hint: 'give it less: --memory 512M, or boot.memory in vlb.yaml',
    })
  }
  // On SIGTERM and SIGINT qemu says so and exits with 0.
  if (end.exitCode === 0 && !/terminating on signal/.test(stderr)) return undefined
  const known = failure(qemu, [], { ...end, stderr })
  // What became of the guest is told with what it said last.
  if (known instanceof VlbError && known.code !== 'VLB_KILLED') throw known
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
