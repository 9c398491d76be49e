// A blob on its way into a file: hashed as it comes, and written in large pieces behind what is there already.
import { createHash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { ConnectionError, type Response, reasonOf } from '../host/http.ts'

export type OnBytes = (bytes: number) => void

/** Where the rest of a blob goes: behind what is there of it, hashed on from that. */
export interface Rest {
  file: FileHandle
  at: number
  have: number
  hash: ReturnType<typeof createHash>
  save: OnBytes
}

/** What is gathered before it is written: node's chunks are small, and each write takes a turn through its thread pool. */
const batchBytes = 2 ** 20

/** Writes a body behind what is there, hashed on the way. What came before a connection was cut is kept. */
export async function receive({ body }: Response, expected: number, skip: number, to: Rest): Promise<void> {
  const behind = new WriteBehind(to)
  let left = skip
  let got = 0
  try {
    for await (let chunk of body as AsyncIterable<Buffer>) {
      if (left > 0) {
        const over = Math.min(left, chunk.length)
        left -= over
        chunk = chunk.subarray(over)
      }
      got += chunk.length
      if (got > expected) throw new ConnectionError('more bytes than there should be')
      to.hash.update(chunk)
      await behind.add(chunk)
    }
  } catch (error) {
    if (error instanceof ConnectionError || isLocal(error)) throw error
    await behind.end()
    throw new ConnectionError(reasonOf(error), { cause: error })
  }
  await behind.end()
  if (got < expected) throw new ConnectionError(`the connection ended after ${got} of ${expected} bytes`)
}

/** Writes one batch while the next one is gathered. */
class WriteBehind {
  readonly #to: Rest
  #at: number
  #batch: Buffer[] = []
  #bytes = 0
  #writing: Promise<void> = Promise.resolve()

  constructor(to: Rest) {
    this.#to = to
    this.#at = to.at
  }

  async add(chunk: Buffer): Promise<void> {
    this.#batch.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes >= batchBytes) await this.#flush()
  }

  async end(): Promise<void> {
    await this.#flush()
    await this.#writing
  }

  async #flush(): Promise<void> {
    await this.#writing
    const batch = this.#batch
    this.#batch = []
    this.#bytes = 0
    this.#writing = this.#write(batch)
    // Whoever waits for it next hears of it.
    this.#writing.catch(() => {})
  }

  async #write(batch: Buffer[]): Promise<void> {
    const { file, save } = this.#to
    for (let left = batch.filter(({ length }) => length > 0); left.length > 0; ) {
      const { bytesWritten } = await file.writev(left, this.#at)
      this.#at += bytesWritten
      save(bytesWritten)
      left = without(left, bytesWritten)
    }
  }
}

/** A disk that is nearly full takes a part of what it is given (writev(2)), and says why only the next time. */
function without(batch: Buffer[], bytes: number): Buffer[] {
  let left = bytes
  return batch.flatMap((chunk) => {
    const over = Math.min(left, chunk.length)
    left -= over
    return over === chunk.length ? [] : [chunk.subarray(over)]
  })
}

/** Of this host's own files, not of the network. */
function isLocal(error: unknown): boolean {
  return (
    error instanceof Error &&
    'syscall' in error &&
    ['write', 'writev', 'pwritev', 'ftruncate'].includes(String(error.syscall))
  )
}

/** SHA-256 of a part of a file, to be gone on with. */
export async function hashPart(file: FileHandle, at: number, length: number): Promise<ReturnType<typeof createHash>> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(Math.min(length, 2 ** 22) || 1)
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - done), at + done)
    if (bytesRead === 0) break
    hash.update(buffer.subarray(0, bytesRead))
    done += bytesRead
  }
  return hash
}
