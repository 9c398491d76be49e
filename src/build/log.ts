// The log of a script while it runs.
import { createWriteStream, type WriteStream } from 'node:fs'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { Mask } from '../core/mask.ts'
import { logName } from '../store/places.ts'
import type { BuildContext } from './context.ts'
import type { StepJob } from './job.ts'

/** Bytes of a log that are kept: of its beginning, and, where there are more, of its end. */
const kept = { beginning: 64 * 2 ** 20, end: 64 * 2 ** 10 }

/** The log of a script: written as it comes, told line by line, its last lines remembered. */
export class BuildLog {
  readonly #file: WriteStream
  readonly #tell: (line: string) => void
  // A character's bytes may come in two chunks.
  readonly #decoder = new StringDecoder('utf8')
  readonly #mask: Mask
  #rest = ''
  #written = 0
  /** The end of what was not written, and how much that was. */
  #end = Buffer.alloc(0)
  #dropped = 0
  #failed: Error | undefined
  readonly last: string[] = []

  constructor(context: BuildContext, job: StepJob) {
    this.#file = createWriteStream(join(job.work, logName))
    this.#mask = new Mask([...job.secrets.values()])
    // Without a listener a full disk would end the program; end() tells.
    this.#file.on('error', (error) => {
      this.#failed ??= error
    })
    this.#tell = (line) => context.emit({ type: 'step-output', label: job.label, name: job.step.name, line })
  }

  write = (chunk: Buffer): void => this.#take(this.#mask.push(chunk))

  #take(all: Buffer): void {
    const chunk = all.subarray(0, kept.beginning - this.#written)
    this.#drop(all.subarray(chunk.length))
    if (chunk.length === 0) return
    this.#written += chunk.length
    this.#file.write(chunk)
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n')
    // A program that never ends its line must not fill our memory.
    this.#rest = (lines.pop() ?? '').slice(-10_000)
    for (const line of lines) this.#line(line)
  }

  /** A script that prints without end must fill neither the disk nor a terminal; its last words count the most. */
  #drop(chunk: Buffer): void {
    if (chunk.length === 0) return
    if (this.#dropped === 0) this.#tell('git vlb: what follows is not shown, and only its end is kept in the log')
    this.#dropped += chunk.length
    this.#end = Buffer.concat([this.#end, chunk]).subarray(-kept.end)
  }

  #writeEnd(): void {
    if (this.#dropped === 0) return
    const left = this.#dropped - this.#end.length
    const note = `git vlb: ${left} bytes are left out here, since a log has at most ${kept.beginning / 2 ** 20} MiB`
    this.#file.write(`\n${note}\n`)
    this.#file.write(this.#end)
    this.#rest = ''
    for (const line of this.#end.toString('utf8').trimEnd().split('\n')) this.#remember(shownLine(line))
  }

  #line(line: string): void {
    const shown = shownLine(line)
    this.#tell(shown)
    this.#remember(shown)
  }

  #remember(shown: string): void {
    this.last.push(shown)
    if (this.last.length > 20) this.last.shift()
  }

  async end(): Promise<void> {
    if (!this.#file.writableEnded) this.#take(this.#mask.end())
    if (!this.#file.writableEnded) this.#writeEnd()
    if (this.#rest) this.#line(this.#rest)
    this.#rest = ''
    if (!this.#failed && !this.#file.writableFinished) {
      await new Promise<void>((resolve) => this.#file.once('error', () => resolve()).end(resolve))
    }
    if (this.#failed) throw this.#failed
  }
}

/** A progress bar rewrites its line by carriage returns: what stands there in the end is the line. */
function shownLine(line: string): string {
  return (line.replace(/\r+$/, '').split('\r').at(-1) ?? '').slice(0, 2000)
}
