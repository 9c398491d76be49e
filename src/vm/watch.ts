// Reads what a guest says and what qemu says of it, and decides when nothing more is to be waited for, and why.
import { printable } from '../core/errors.ts'
import type { Emit } from '../core/events.ts'
import type { BootVerdict } from '../core/results-boot.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import type { Child } from '../host/run.ts'
import { Qmp } from './qmp.ts'
import { perLine, Transcript } from './transcript.ts'

export type End =
  | { how: 'matched'; line: string }
  /** It will never come to the expected text. */
  | { how: 'hopeless'; verdict: BootVerdict; what: string }
  | { how: 'exited'; exitCode: number | undefined; signal: string | undefined }
  /** Time is up, or we were told to stop. */
  | { how: 'halted' }

/** Resets of the machine after less than `quietBytes` of console each; a system that restarts on purpose says more. */
const tooManyResets = 3
const quietBytes = 64 * 1024

/** What a serial line of 115200 baud carries in a second: a guest that says more, and not what is expected, floods it. */
const lineRate = 11_520
/** Far more than any system has to say while it boots. */
const floodBytes = 64 * 2 ** 20
/** Of a flood this much goes to the user. */
const shownBytes = 4 * 2 ** 20

/** Seconds of silence after which a guest counts as hanging when its time is up; less where it has little time. */
const silence = (timeout: number) => Math.min(30, timeout / 3)

export class Watch {
  readonly transcript = new Transcript()
  /** The end of what qemu itself complained of. */
  stderr = ''
  readonly qmp: Qmp | undefined
  /** The first thing that ends the run; never rejects. */
  readonly end: Promise<End>
  /** Resolves when qemu has ended, with all its output read. */
  readonly exited: Promise<End>
  readonly #patterns: RegExp[]
  /** Something is waited for, so what makes that hopeless is looked for. */
  readonly #waiting: boolean
  #matched = 0
  #decide: (end: End) => void = () => {}
  #timer: NodeJS.Timeout | undefined
  readonly #started = performance.now()
  #lastWord = performance.now()
  #bytes = 0
  #resets = 0
  #bytesAtReset = 0

  /** `waits`: for something besides the patterns. */
  constructor(child: Child, { expect, waits }: { expect: readonly RegExp[]; waits: boolean }, emit: Emit) {
    this.#patterns = expect.map(perLine)
    this.#waiting = waits || expect.length > 0
    this.end = new Promise((resolve) => {
      this.#decide = resolve
    })
    child.stdout?.on('data', (chunk: Buffer) => this.#hear(chunk, emit))
    child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr = (this.stderr + chunk.toString()).slice(-8192)
    })
    this.qmp = child.channel && new Qmp(child.channel, (name) => name === 'RESET' && this.#reset())
    this.exited = this.#exit(child)
  }

  /** The pattern that is waited for now. */
  get awaited(): RegExp | undefined {
    return this.#patterns[this.#matched]
  }

  /** How many of the patterns came. */
  get matches(): number {
    return this.#matched
  }

  /** Why a guest whose `timeout` seconds are over did not come to what was expected. */
  late(timeout: number): { verdict: BootVerdict; what: string } {
    const seconds = (performance.now() - this.#started) / 1000
    if (this.#bytes > 2 ** 20 && this.#bytes / seconds > lineRate) return this.#flood()
    const silent = (performance.now() - this.#lastWord) / 1000
    if (silent < silence(timeout)) return { verdict: 'timeout', what: '' }
    return { verdict: 'hung', what: `the guest hangs: silent for ${formatSeconds(silent)}` }
  }

  #flood(): { verdict: BootVerdict; what: string } {
    return { verdict: 'flood', what: `the guest floods its console: ${formatBytes(this.#bytes)} so far` }
  }

  #hear(chunk: Buffer, emit: Emit): void {
    this.#lastWord = performance.now()
    const before = this.#bytes
    this.#bytes += chunk.length
    if (!this.#waiting || before < shownBytes) emit({ type: 'console', chunk })
    if (this.#waiting && before < shownBytes && this.#bytes >= shownBytes)
      emit({ type: 'warning', text: `the console has said ${formatBytes(shownBytes)}; more of it is not shown` })
    this.#listen(chunk)
    if (this.#waiting && this.#bytes > floodBytes) this.#decide({ how: 'hopeless', ...this.#flood() })
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

  /** qemu tells of it at once, what the guest said before may still be on its way: that does not matter here. */
  #reset(): void {
    this.#look()
    const said = this.#bytes - this.#bytesAtReset
    this.#bytesAtReset = this.#bytes
    this.#resets = said > quietBytes ? 1 : this.#resets + 1
    if (!this.#waiting) return
    const panic = panicOf(this.transcript.text)
    if (panic) this.#decide({ how: 'hopeless', verdict: 'panicked', what: `${panic}, and restarted` })
    if (this.#resets >= tooManyResets)
      this.#decide({ how: 'hopeless', verdict: 'restarts', what: `the guest kept restarting, ${this.#resets} times` })
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
    for (let pattern = this.awaited; pattern; pattern = this.awaited) {
      const line = this.transcript.find(pattern)
      if (line === undefined) break
      this.#matched++
      if (!this.awaited) return this.#decide({ how: 'matched', line })
    }
    if (this.#patterns.length > 0 && !this.awaited) return
    const found = hopeless(this.transcript.text)
    if (found) this.#decide({ how: 'hopeless', ...found })
  }
}

function whenClosed(stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => stream.once('close', resolve))
}

/** Why nothing more is to be waited for, as the console tells it. */
export function hopeless(text: string): { verdict: BootVerdict; what: string } | undefined {
  // SeaBIOS's last words when no disk could be booted from, and OVMF's.
  if (/^No bootable device\.|^BdsDxe: No bootable option or device was found/m.test(text))
    return { verdict: 'no-boot-loader', what: 'the firmware found no boot loader on the image' }
  // Printed after all else by a kernel that will not restart either (Linux, kernel/panic.c).
  if (text.includes('---[ end Kernel panic - not syncing'))
    return { verdict: 'panicked', what: panicOf(text) ?? "the guest's kernel panicked" }
  return undefined
}

function panicOf(text: string): string | undefined {
  const said = [...text.matchAll(/Kernel panic - not syncing: ([^\n\]]*)/g)].at(0)
  return said && `the guest's kernel panicked (${printable(said[1]?.trim() ?? '')})`
}
