// qemu's machine protocol (QMP, docs/interop/qmp-spec), over a socket that qemu inherits: events, and a few commands.
import type { Duplex } from 'node:stream'
import { printable } from '../core/errors.ts'

/** The number under which qemu inherits its end of the socket. */
export const qmpDescriptor = 3

interface Message {
  event?: string
  data?: Record<string, unknown>
  return?: unknown
  error?: { desc?: string }
  id?: number
}

/** The longest line that is kept: none of what we ask for comes near. */
const longest = 2 ** 20

/** Answers are undefined once qemu is gone; it never throws. */
export class Qmp {
  readonly #stream: Duplex
  readonly #waiting = new Map<number, (message: Message | undefined) => void>()
  readonly #onEvent: (name: string, data: Record<string, unknown>) => void
  #next = 1
  #text = ''
  #closed = false

  constructor(stream: Duplex, onEvent: (name: string, data: Record<string, unknown>) => void) {
    this.#stream = stream
    this.#onEvent = onEvent
    stream.on('data', (chunk: Buffer) => this.#read(chunk))
    stream.on('error', () => this.#close())
    stream.on('close', () => this.#close())
    // Before this, qemu takes no other command, and tells of no event.
    void this.ask('qmp_capabilities')
  }

  /** What the command returned, or qemu's complaint; undefined if qemu ended before. */
  async ask(command: string, args: Record<string, unknown> = {}): Promise<{ value: unknown } | string | undefined> {
    if (this.#closed) return undefined
    const id = this.#next++
    const answer = new Promise<Message | undefined>((resolve) => this.#waiting.set(id, resolve))
    this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
    const message = await answer
    if (!message) return undefined
    return message.error ? printable(String(message.error.desc)) : { value: message.return }
  }

  #read(chunk: Buffer): void {
    this.#text += chunk.toString()
    const lines = this.#text.split('\n')
    this.#text = (lines.pop() ?? '').slice(0, longest)
    for (const line of lines) {
      let message: Message | null
      try {
        message = JSON.parse(line) as Message | null
      } catch {
        continue
      }
      if (message === null) continue
      if (message.event) this.#onEvent(message.event, message.data ?? {})
      if (message.id === undefined) continue
      this.#waiting.get(message.id)?.(message)
      this.#waiting.delete(message.id)
    }
  }

  #close(): void {
    this.#closed = true
    for (const answer of this.#waiting.values()) answer(undefined)
    this.#waiting.clear()
  }
}
