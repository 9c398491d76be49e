// What the agent in a guest says on its serial line, read without trusting a byte of it. A line counts only with the
// run's nonce and where it fits: anything else there, from whatever in the guest, is passed over.
//
//   @vlb NONCE ready STATE      the system has come up; STATE as systemd names it, or `unknown`
//   @vlb NONCE start N          check N begins, counted from 0
//   @vlb NONCE out N TEXT       a line of its output
//   @vlb NONCE cut N            there was more
//   @vlb NONCE end N STATUS     it ended; STATUS a number, or `timeout`
//   @vlb NONCE done             all have
import { type Check, type CheckResult, notRun, stateOf } from './checks.ts'

/** Bytes of a line; of a longer one the rest is dropped. */
const longestLine = 40 * 1024

/** Characters of output kept of one check. */
const outputLimit = 64 * 1024

/** What a line was about, for those who wait. */
export type CheckNews =
  | { type: 'ready'; state: string }
  | { type: 'started'; index: number }
  | { type: 'ended'; result: CheckResult; index: number }
  | { type: 'done' }

export class CheckReader {
  readonly results: CheckResult[]
  readonly #mark: Buffer
  readonly #lines = new Map<number, { parts: Buffer[]; length: number }>()
  #started = -1
  #ended = -1
  #ready = false
  #done = false
  #startedAt = 0

  constructor(checks: readonly Check[], nonce: string) {
    this.results = checks.map(notRun)
    this.#mark = Buffer.from(`@vlb ${nonce} `)
  }

  /** The check that is under way. */
  get running(): number | undefined {
    return this.#started > this.#ended ? this.#started : undefined
  }

  /** Takes bytes as they come, on any of several ports. `now`: seconds, of a clock that never goes back. */
  push(chunk: Buffer, now: number, port = 0): CheckNews[] {
    const news: CheckNews[] = []
    let at = 0
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, at)) {
      const { parts } = this.#keep(chunk.subarray(at, end), port)
      const said = this.#read(Buffer.concat(parts), now)
      if (said) news.push(said)
      this.#lines.delete(port)
      at = end + 1
    }
    this.#keep(chunk.subarray(at), port)
    return news
  }

  #keep(part: Buffer, port: number): { parts: Buffer[] } {
    const line = this.#lines.get(port) ?? { parts: [], length: 0 }
    this.#lines.set(port, line)
    const kept = part.subarray(0, Math.max(0, longestLine - line.length))
    // A copy: what is kept of a chunk must not keep all of it.
    if (kept.length > 0) line.parts.push(Buffer.from(kept))
    line.length += kept.length
    return line
  }

  #read(line: Buffer, now: number): CheckNews | undefined {
    // Something else may have written the beginning of the line.
    const at = line.indexOf(this.#mark)
    if (at < 0 || this.#done) return undefined
    const text = line
      .subarray(at + this.#mark.length)
      .toString('utf8')
      .replace(/\r$/, '')
    const [word = '', number = ''] = text.split(' ', 2)
    if (word === 'ready' && !this.#ready && /^[a-z]{1,20}$/.test(number)) {
      this.#ready = true
      return { type: 'ready', state: number }
    }
    if (!this.#ready) return undefined
    if (word === 'done' && this.#ended === this.results.length - 1) {
      this.#done = true
      return { type: 'done' }
    }
    const index = /^\d{1,4}$/.test(number) ? Number(number) : -1
    if (word === 'start') return this.#start(index, now)
    const result = this.results[index]
    if (!result || index !== this.running) return undefined
    const rest = text.slice(word.length + number.length + 2)
    if (word === 'out') this.#output(result, rest)
    else if (word === 'cut') result.cut = true
    else if (word === 'end') return this.#end(result, index, rest, now)
    return undefined
  }

  #start(index: number, now: number): CheckNews | undefined {
    if (index !== this.#ended + 1 || index === this.#started || index >= this.results.length) return undefined
    this.#started = index
    this.#startedAt = now
    return { type: 'started', index }
  }

  #output(result: CheckResult, text: string): void {
    const room = outputLimit - result.output.length
    if (text.length + 1 > room) result.cut = true
    if (room > 0) result.output += `${text}\n`.slice(0, room)
  }

  #end(result: CheckResult, index: number, status: string, now: number): CheckNews | undefined {
    const timeout = status === 'timeout'
    if (!timeout && !/^\d{1,3}$/.test(status)) return undefined
    this.#ended = index
    result.exitStatus = timeout ? null : Number(status)
    result.state = timeout ? 'timeout' : stateOf(Number(status))
    result.seconds = Math.max(0, now - this.#startedAt)
    return { type: 'ended', result, index }
  }
}
