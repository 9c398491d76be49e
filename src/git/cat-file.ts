// One `git cat-file --batch` process, asked for objects one after the other (git-cat-file(1), "Batch output").

import { VlbError } from '../core/errors.ts'
import type { Environment } from '../host/env.ts'
import { type Child, spawn } from '../host/run.ts'

export class CatFile {
  readonly #child: Child
  readonly #signal: AbortSignal | undefined
  readonly #chunks: AsyncIterator<Buffer>
  #rest: Buffer = Buffer.alloc(0)
  #turn: Promise<unknown> = Promise.resolve()

  /** When `signal` fires, reading fails with its reason. */
  constructor(cwd: string, env: Environment, signal?: AbortSignal) {
    this.#signal = signal
    this.#child = spawn('git', ['cat-file', '--batch'], { cwd, env })
    if (!this.#child.stdout) throw new Error('git cat-file without output')
    this.#chunks = this.#child.stdout[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    this.#child.stderr?.resume()
    signal?.addEventListener('abort', this.#stop, { once: true })
  }

  #stop = (): void => this.#child.kill('SIGKILL')

  /**
   * Hands the object's bytes to `take` piece by piece and returns its type; undefined if there is no such object. Large
   * blobs never lie in memory whole. A piece is only valid until `take` resolves.
   */
  async read(oid: string, take: (piece: Buffer) => Promise<void>): Promise<string | undefined> {
    const mine = this.#turn.then(() => this.#readNow(oid, take))
    this.#turn = mine.catch(() => {})
    return await mine
  }

  async #readNow(oid: string, take: (piece: Buffer) => Promise<void>): Promise<string | undefined> {
    this.#signal?.throwIfAborted()
    this.#child.stdin?.write(`${oid}\n`)
    const [, type, length] = (await this.#line()).split(' ')
    if (length === undefined) return undefined
    for (let left = Number(length) + 1; left > 0; ) {
      if (this.#rest.length === 0) await this.#more()
      const piece = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(piece.length)
      left -= piece.length
      // The last byte is the line break behind the object.
      const content = left === 0 ? piece.subarray(0, -1) : piece
      if (content.length > 0) await take(content)
    }
    return type
  }

  async #line(): Promise<string> {
    while (!this.#rest.includes(0x0a)) await this.#more()
    const end = this.#rest.indexOf(0x0a)
    const line = this.#rest.toString('utf8', 0, end)
    this.#rest = this.#rest.subarray(end + 1)
    return line
  }

  async #more(): Promise<void> {
    const { value, done } = await this.#chunks.next()
    this.#signal?.throwIfAborted()
    if (done) {
      throw new VlbError('VLB_GIT', 'git cat-file ended before it had answered', {
        hint: 'was it killed? run the command again; check the repository: git fsck',
      })
    }
    this.#rest = this.#rest.length === 0 ? value : Buffer.concat([this.#rest, value])
  }

  async close(): Promise<void> {
    this.#child.stdin?.end()
    this.#child.stdout?.resume()
    await this.#child.ended
    this.#signal?.removeEventListener('abort', this.#stop)
  }
}
