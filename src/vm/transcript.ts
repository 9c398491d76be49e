// What a serial console said, as text to search: without terminal control sequences, whole across chunk borders, and
// only the end of it, so that a guest that floods its console fills no memory.
import { StringDecoder } from 'node:string_decoder'
import { printable } from '../core/errors.ts'

/** Characters that stay searchable. */
const kept = 64 * 1024

/** An unfinished sequence longer than this is taken for text. The longest in use, systemd's OSC 3008, take some 500. */
const longestSequence = 4096

// Control sequences (ECMA-48, section 5.4), strings such as window titles (5.6), other escapes (ECMA-35, section 13),
// and what is left of control characters but tab and line feed.
const control =
  /\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-OQ-WYZ\\`-~])|[\x00-\x08\x0b-\x1f\x7f]/g

/** A sequence that has begun and may go on in the next chunk. */
const unfinished = /\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)$/

export class Transcript {
  readonly #decoder = new StringDecoder('utf8')
  #pending = ''
  #text = ''
  #unread = 0
  /** Where the search goes on: behind the last match. */
  #from = 0

  /** Adds bytes as they came. At most 256 KiB of them may come between two calls of `find`; of more, the end counts. */
  push(chunk: Buffer): void {
    const raw = this.#pending + this.#decoder.write(chunk)
    const open = unfinished.exec(raw.slice(-longestSequence))
    this.#pending = open?.[0] ?? ''
    const text = raw.slice(0, raw.length - this.#pending.length).replace(control, '')
    this.#text += text
    this.#unread += text.length
    if (this.#text.length > 4 * kept) this.#cut(this.#text.length - kept)
  }

  /** Characters that came since `find` was last called. */
  get unread(): number {
    return this.#unread
  }

  get text(): string {
    return this.#text
  }

  /**
   * The line on which `pattern` matches behind what matched before: the last line, where the match spans several. From then
   * on only what comes behind the match is searched.
   */
  find(pattern: RegExp): string | undefined {
    const text = this.#text
    const global = new RegExp(pattern.source, `${pattern.flags.replace(/[gy]/g, '')}g`)
    global.lastIndex = this.#from
    const match = global.exec(text)
    if (match) this.#from = global.lastIndex
    this.#forget()
    if (!match) return undefined
    const start = text.slice(0, match.index).lastIndexOf('\n') + 1
    const end = text.indexOf('\n', match.index + match[0].trimEnd().length)
    const lines = text
      .slice(start, end === -1 ? undefined : end)
      .trim()
      .split('\n')
    return printable(lines.at(-1) ?? '')
  }

  /** The last lines that are not blank, fit to be shown. */
  lastLines(count: number): string[] {
    const lines = this.#text.split('\n').map((line) => printable(line.trimEnd(), 200))
    return lines.filter((line) => line !== '').slice(-count)
  }

  /** Drops what is too old; from then on the text begins with a line, so that `^` stays true. */
  #forget(): void {
    this.#unread = 0
    if (this.#text.length <= kept) return
    const cut = this.#text.length - kept
    const line = this.#text.indexOf('\n', cut) + 1
    this.#cut(line > 0 && line < this.#text.length ? line : cut)
  }

  #cut(length: number): void {
    this.#text = this.#text.slice(length)
    this.#from = Math.max(0, this.#from - length)
  }
}

/** The same pattern with `^` and `$` for lines, and without the flags that make a match depend on an earlier one. */
export function perLine(pattern: RegExp): RegExp {
  return new RegExp(pattern.source, `${pattern.flags.replace(/[gmy]/g, '')}m`)
}
