// One `git cat-file --batch` process, asked for objects one after the other (git-cat-file(1), "Batch output").
import { writeSync } from 'node:fs'
import { VlbError } from '../core/errors.ts'
import type { Environment } from '../host/env.ts'
import { type Child, runInto, spawn } from '../host/run.ts'

/** Bytes from which a blob is worth a git of its own, which writes the file itself: several times as fast. */
const large = 4 * 2 ** 20

/** A blob that was written: its length, and its first bytes. */
export interface WrittenBlob {
  length: number
  /** At most 1 KiB; empty for a large one. */
  start: Buffer
  /** A large one goes on to be written beside those that are asked for next. */
  ended: Promise<void>
}

interface Session {
  child: Child
  chunks: AsyncIterator<Buffer>
  /** Read, and not yet used. */
  rest: Buffer
  /** What git has been asked for and not yet answered, in order. */
  asked: string[]
}

/**
 * What git-replace(1) shows in place of an object would have the key of the object and another content, on this clone
 * alone. So every git of ours sees objects as their ids say.
 */
export const trueObjects: Environment = { GIT_NO_REPLACE_OBJECTS: '1' }

export class CatFile {
  readonly #cwd: string
  readonly #env: Environment
  readonly #signal: AbortSignal | undefined
  #session: Session | undefined
  #turn: Promise<unknown> = Promise.resolve()
  /** One large blob at a time. */
  #large: Promise<void> = Promise.resolve()

  /** When `signal` fires, reading fails with its reason. */
  constructor(cwd: string, env: Environment, signal?: AbortSignal) {
    this.#cwd = cwd
    this.#env = { ...env, ...trueObjects }
    this.#signal = signal
    this.#session = this.#start()
    signal?.addEventListener('abort', this.#stop, { once: true })
  }

  #start(): Session {
    const child = spawn('git', ['cat-file', '--batch'], { cwd: this.#cwd, env: this.#env })
    if (!child.stdout) throw new Error('git cat-file without output')
    child.stderr?.resume()
    const chunks = child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    return { child, chunks, rest: Buffer.alloc(0), asked: [] }
  }

  #stop = (): void => this.#session?.child.kill('SIGKILL')

  /**
   * Hands the object's bytes to `take` piece by piece and returns its type; undefined if there is no such object. A piece
   * is only valid until `take` returns.
   */
  async read(oid: string, take: (piece: Buffer) => void): Promise<string | undefined> {
    return await this.#inTurn(async (session) => {
      send(session, [oid])
      const head = await this.#answer(session)
      if (head) await this.#content(session, head.length, take)
      return head?.type
    })
  }

  /** Writes a blob to an open file, whole; large ones never lie in memory. False if there is no such blob. */
  async write(oid: string, file: number): Promise<boolean> {
    const written = await this.batch([oid], (next) => next(file))
    await written?.ended
    return written !== undefined
  }

  /**
   * Writes many blobs: git is asked for all at once, so that it and we need not wait for each other, and nobody else's
   * reading comes between. `work` calls what it is given once for each, in this order, with an open file; that resolves
   * with undefined if there is no such blob.
   */
  async batch<T>(
    oids: readonly string[],
    work: (next: (file: number) => Promise<WrittenBlob | undefined>) => Promise<T>,
  ): Promise<T> {
    return await this.#inTurn(async (session) => {
      send(session, oids)
      return await work((file) => this.#writeNext(file))
    })
  }

  /**
   * Synchronously: git sends 64 KiB at a time, and a turn through the thread pool takes longer than to copy that to the
   * page cache.
   */
  async #writeNext(file: number): Promise<WrittenBlob | undefined> {
    const session = this.#session
    const oid = session?.asked[0]
    if (!session || oid === undefined) throw new Error('more blobs are wanted than were asked for')
    const head = await this.#answer(session)
    if (head?.type !== 'blob') return undefined
    if (head.length >= large) return await this.#writeLarge(session, oid, head.length, file)
    let start = Buffer.alloc(0)
    await this.#content(session, head.length, (piece) => {
      if (start.length === 0) start = Buffer.from(piece.subarray(0, 1024))
      for (let at = 0; at < piece.length; ) at += writeSync(file, piece, at)
    })
    return { length: head.length, start, ended: Promise.resolve() }
  }

  async #writeLarge(session: Session, oid: string, length: number, file: number): Promise<WrittenBlob> {
    await this.#abandon(session)
    await this.#large.catch(() => {})
    this.#large = runInto('git', ['cat-file', 'blob', oid], file, this.#options())
    // Who asked for it hears of a failure.
    this.#large.catch(() => {})
    if (session.asked.length > 0) {
      this.#session = this.#start()
      send(this.#session, session.asked)
    }
    return { length, start: Buffer.alloc(0), ended: this.#large }
  }

  #options() {
    return { cwd: this.#cwd, env: this.#env, ...(this.#signal ? { signal: this.#signal } : {}) }
  }

  async #inTurn<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const mine = this.#turn.then(async () => {
      this.#signal?.throwIfAborted()
      this.#session ??= this.#start()
      try {
        return await work(this.#session)
      } catch (error) {
        // What git is about to say is for nobody any more.
        if (this.#session) await this.#abandon(this.#session)
        throw error
      }
    })
    this.#turn = mine.catch(() => {})
    return await mine
  }

  /** Of what was asked for first. */
  async #answer(session: Session): Promise<{ type: string; length: number } | undefined> {
    session.asked.shift()
    const [, type, length] = (await this.#line(session)).split(' ')
    return type === undefined || length === undefined ? undefined : { type, length: Number(length) }
  }

  async #content(session: Session, length: number, take: (piece: Buffer) => void): Promise<void> {
    for (let left = length + 1; left > 0; ) {
      if (session.rest.length === 0) await this.#more(session)
      const piece = session.rest.subarray(0, left)
      session.rest = session.rest.subarray(piece.length)
      left -= piece.length
      // The last byte is the line break behind the object.
      const content = left === 0 ? piece.subarray(0, -1) : piece
      if (content.length > 0) take(content)
    }
  }

  async #line(session: Session): Promise<string> {
    while (!session.rest.includes(0x0a)) await this.#more(session)
    const end = session.rest.indexOf(0x0a)
    const line = session.rest.toString('utf8', 0, end)
    session.rest = session.rest.subarray(end + 1)
    return line
  }

  async #more(session: Session): Promise<void> {
    const { value, done } = await session.chunks.next()
    this.#signal?.throwIfAborted()
    if (done) {
      throw new VlbError('VLB_GIT', 'git cat-file ended before it had answered', {
        hint: 'was it killed? run the command again; check the repository: git fsck',
      })
    }
    session.rest = session.rest.length === 0 ? value : Buffer.concat([session.rest, value])
  }

  /** In the middle of an object that nobody reads. */
  async #abandon({ child }: Session): Promise<void> {
    this.#session = undefined
    child.kill('SIGKILL')
    child.stdout?.destroy()
    await child.ended
  }

  async close(): Promise<void> {
    const { child } = this.#session ?? {}
    child?.stdin?.end()
    child?.stdout?.resume()
    await child?.ended
    this.#signal?.removeEventListener('abort', this.#stop)
  }
}

function send(session: Session, oids: readonly string[]): void {
  session.asked.push(...oids)
  session.child.stdin?.write(oids.map((oid) => `${oid}\n`).join(''))
}
