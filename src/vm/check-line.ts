// The lines between the agent in a guest and us, as sockets that qemu connects to: a virtual port, for guests whose kernel
// has its driver, and the second serial port, for all others.
import { type FileHandle, open, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { type CheckNews, CheckReader } from '../core/check-lines.ts'
import type { Check, CheckResult } from '../core/checks.ts'

const socketName = 'checks.sock'

/** Seconds that a guest may be silent beyond what a check may take. One whose processors have stopped says nothing more. */
const patience = 60

export class CheckLine {
  /** What qemu is to be given besides; it must run in `folder`. */
  readonly arguments: readonly string[] = [
    ...['-chardev', `socket,id=checks,path=${socketName}`, '-serial', 'chardev:checks'],
    ...['-chardev', `socket,id=checks2,path=${socketName}`, '-device', 'virtio-serial-pci'],
    ...['-device', 'virtserialport,chardev=checks2,name=vlb.checks'],
  ]
  /** Resolves with what the system says of itself when it has come up; never, if it does not. */
  readonly ready: Promise<string>
  readonly #reader: CheckReader
  readonly #nonce: string
  readonly #server: Server
  readonly #place: FileHandle
  readonly #path: string
  readonly #onNews: (news: CheckNews) => void
  /** Where the guest stopped answering. */
  silent: string | undefined
  readonly #checks: readonly Check[]
  #watch: NodeJS.Timeout | undefined
  readonly #sockets: Socket[] = []
  #becomeReady: (state: string) => void = () => {}
  #becomeDone: () => void = () => {}
  readonly #done: Promise<void>

  private constructor(
    place: FileHandle,
    folder: string,
    server: Server,
    { checks, nonce, onNews }: { checks: readonly Check[]; nonce: string; onNews: (news: CheckNews) => void },
  ) {
    this.#reader = new CheckReader(checks, nonce)
    this.#nonce = nonce
    this.#checks = checks
    this.#place = place
    this.#path = join(folder, socketName)
    this.#server = server
    this.#onNews = onNews
    this.ready = new Promise((resolve) => (this.#becomeReady = resolve))
    this.#done = new Promise((resolve) => (this.#becomeDone = resolve))
    server.on('connection', (socket) => this.#accept(socket))
  }

  /** Opens the line for a qemu that will run in `folder`. `onNews` is told what happens. */
  static async open(
    folder: string,
    options: { checks: readonly Check[]; nonce: string; onNews: (news: CheckNews) => void },
  ): Promise<CheckLine> {
    // The path of a socket has 107 bytes at most (unix(7)); by way of an open folder it is short.
    const place = await open(folder, 'r')
    const server = createServer()
    try {
      const line = new CheckLine(place, folder, server, options)
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(`/proc/self/fd/${place.fd}/${socketName}`, resolve)
      })
      return line
    } catch (error) {
      await place.close()
      throw error
    }
  }

  get results(): readonly CheckResult[] {
    return this.#reader.results
  }

  /** Tells the agent to begin, and resolves when all checks have ended, or the guest answers no more. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.race([this.ready, aborted(signal)])
    signal.throwIfAborted()
    // Its clock is compared with ours.
    for (const socket of this.#sockets) socket.write(`go ${this.#nonce} ${Math.round(Date.now() / 1000)}\n`)
    this.#listen()
    await Promise.race([this.#done, aborted(signal)])
    clearTimeout(this.#watch)
    signal.throwIfAborted()
  }

  async close(): Promise<void> {
    clearTimeout(this.#watch)
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
    await this.#place.close()
    await rm(this.#path, { force: true })
  }

  /** Gives the guest the time for what is under way. */
  #listen(): void {
    clearTimeout(this.#watch)
    const running = this.#checks[this.#reader.running ?? -1]
    const seconds = (running?.timeout ?? 0) + patience
    // Timers take no more than 2^31 - 1.
    this.#watch = setTimeout(
      () => {
        this.silent = running ? `in ${running.name}` : 'between two checks'
        this.#becomeDone()
      },
      Math.min(seconds * 1000, 2 ** 31 - 1),
    )
  }

  #accept(socket: Socket): void {
    // qemu connects once for each; nobody else has a reason to.
    if (this.#sockets.length === 2) return void socket.destroy()
    const port = this.#sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      for (const news of this.#reader.push(chunk, performance.now() / 1000, port)) {
        if (news.type === 'ready') this.#becomeReady(news.state)
        if (news.type === 'done') this.#becomeDone()
        if (this.#watch) this.#listen()
        this.#onNews(news)
      }
    })
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
