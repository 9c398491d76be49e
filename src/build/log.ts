// The log of a script while it runs.
import { createWriteStream, type WriteStream } from 'node:fs'
import { join } from 'node:path'
import { StringDecoder } from 'node:string_decoder'
import { Mask } from '../core/mask.ts'
import { logName } from '../store/local.ts'
import type { BuildContext } from './context.ts'
import type { StepJob } from './job.ts'

/** The log of a script: written as it comes, told line by line, its last lines remembered. */
export class BuildLog {
  readonly #file: WriteStream
  readonly #tell: (line: string) => void
  // A character's bytes may come in two chunks.
  readonly #decoder = new StringDecoder('utf8')
  readonly #mask: Mask
  #rest = ''
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

  #take(chunk: Buffer): void {
    this.#file.write(chunk)
    const lines = (this.#rest + this.#decoder.write(chunk)).split('\n')
    // A program that never ends its line must not fill our memory.
    this.#rest = (lines.pop() ?? '').slice(-10_000)
    for (const line of lines) this.#line(line)
  }

  #line(line: string): void {
    // A progress bar rewrites its line by carriage returns: what stands there in the end is the line.
    const shown = (line.replace(/\r+$/, '').split('\r').at(-1) ?? '').slice(0, 2000)
    this.#tell(shown)
    this.last.push(shown)
    if (this.last.length > 20) this.last.shift()
  }

  async end(): Promise<void> {
    if (!this.#file.writableEnded) this.#take(this.#mask.end())
    if (this.#rest) this.#line(this.#rest)
    this.#rest = ''
    if (!this.#failed && !this.#file.writableFinished) {
      await new Promise<void>((resolve) => this.#file.once('error', () => resolve()).end(resolve))
    }
    if (this.#failed) throw this.#failed
  }
}
