// Two disks shown to be compared: asks the runner's action `diff` about their files, and reads its answers.
import { constants, createWriteStream, openSync, type WriteStream } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { printable, VlbError } from '../core/errors.ts'
import { addAttributes, deviceId, deviceNumbers, parseEntry, type Tree } from '../core/file-tree.ts'
import { run } from '../host/run.ts'
import { toolHint } from '../host/tools.ts'
import { type Action, type RootPlace, type RunnerOptions, reading, startAction } from './sandbox.ts'

export type Two<T> = { a: T; b: T }
export const sides = ['a', 'b'] as const

/** What is below a path of one disk. */
export interface Listing {
  tree: Tree
  /** Where it is, after links: `.` or `./PATH`. */
  at: string
  /** Nothing was written to mount it: its files lie where they lay before. */
  kept: boolean
  /** By st_dev: where on the disk the file system starts, in bytes. */
  starts: Map<number, number>
}

/** Bytes of a file system: where that starts on the disk, and where in it they are. */
export interface Place {
  start: number
  offset: number
  length: number
}

/** Bytes of a file that `read` returns. */
export const readLimit = 4 * 2 ** 20

export class Comparer {
  readonly #work: string
  readonly #action: Action
  readonly #orders: WriteStream
  readonly #answers: Two<Answers>
  readonly #fromB: Socket
  readonly #signal: AbortSignal
  /** The last of what tools complained of. */
  readonly #said: { text: string }

  private constructor(work: string, action: Action, fromB: Socket, said: { text: string }, signal: AbortSignal) {
    this.#work = work
    this.#action = action
    this.#orders = createWriteStream(join(work, 'orders'), { flags: 'r+' })
    this.#answers = { a: new Answers(action.stdout), b: new Answers(fromB) }
    this.#fromB = fromB
    this.#said = said
    this.#signal = signal
    // A runner that has ended reads no orders; what it said last tells why.
    this.#orders.on('error', () => {})
  }

  /**
   * Attaches `work`/a/layer.qcow2 and `work`/b/layer.qcow2, which are of no use afterwards; `mounts` beside them say what is
   * mounted besides the root.
   */
  static async open(
    work: string,
    roots: Two<RootPlace>,
    apart: boolean,
    { attach, signal }: Pick<RunnerOptions, 'attach' | 'signal'>,
  ): Promise<Comparer> {
    // Standard input tells the runner that we are alive, so orders go another way.
    const fromB = join(work, 'b/answers')
    await run('mkfifo', ['-m', '0600', '--', join(work, 'orders'), fromB])
    // Opened at once, whoever writes to it; a file stream would hold a thread until somebody does.
    const answers = new Socket({ fd: openSync(fromB, constants.O_RDONLY | constants.O_NONBLOCK), writable: false })
    const places = sides.flatMap((side) => [String(roots[side].start), String(roots[side].size), roots[side].fs])
    const said = { text: '' }
    const onOutput = (chunk: Buffer) => {
      said.text = (said.text + chunk.toString()).slice(-4000)
    }
    try {
      const action = await startAction(work, 'diff', [apart ? 'yes' : 'no', ...places], { attach, signal, onOutput })
      return new Comparer(work, action, answers, said, signal)
    } catch (error) {
      answers.destroy()
      throw error
    }
  }

  /** All files below `path`, '' for the root; the trees are empty where nothing is there. */
  async list(path: string, attributes: 'all' | 'later'): Promise<Two<Listing>> {
    this.#order('list', path, attributes === 'all' ? 'yes' : 'no')
    return await onBoth(async (side) => {
      const listing = await this.#listing(side)
      if (attributes === 'all') addAttributes(listing.tree, await this.#next(side), listing.at)
      return listing
    })
  }

  async #listing(side: 'a' | 'b'): Promise<Listing> {
    const answers = this.#answers[side]
    const [how, ...devices] = (await this.#next(side)).split(' ')
    const starts = new Map<number, number>()
    for (const device of devices) {
      const colon = device.indexOf(':')
      starts.set(deviceId(device.slice(colon + 1)), Number(device.slice(0, colon)))
    }
    const at = await this.#next(side)
    const tree: Tree = new Map()
    for (;;) {
      const fields = answers.ready() ?? (await this.#next(side))
      if (fields === 'end') break
      const path = answers.ready() ?? (await this.#next(side))
      tree.set(path, parseEntry(fields, answers.ready() ?? (await this.#next(side))))
    }
    for (;;) {
      const numbers = await this.#next(side)
      if (numbers === 'end') break
      const entry = tree.get((await this.#next(side)).slice(at.length + 1))
      if (entry) entry.device = deviceNumbers(numbers)
    }
    return { tree, at, kept: how === 'kept', starts }
  }

  /** Gives these files of two listings their attributes. */
  async attributes(listings: Two<Listing>, names: Two<string[]>): Promise<void> {
    await this.#ask('attributes', names)
    await onBoth(async (side) => addAttributes(listings[side].tree, await this.#next(side), listings[side].at))
  }

  /** By name, where the content of these regular files lies: a line for core/extents.ts. They have no control characters. */
  async extents(names: Two<string[]>): Promise<Two<Map<string, string>>> {
    await this.#ask('extents', names)
    return await onBoth(async (side) => {
      const lines = (await this.#next(side)).split('\n').slice(0, -1)
      // One too many or too few, and none would be known to be of its file.
      if (lines.length !== names[side].length) return new Map<string, string>()
      return new Map(names[side].map((name, i) => [name, lines[i] ?? '']))
    })
  }

  /** What is at these places, one after the other; undefined if that cannot be read. */
  async bytes(places: Two<Place[]>): Promise<Two<Buffer | undefined>> {
    const lines = (side: 'a' | 'b') => places[side].map(({ start, offset, length }) => `${start} ${offset} ${length}`)
    await this.#ask('bytes', { a: lines('a'), b: lines('b') })
    return await onBoth(async (side) => {
      if ((await this.#next(side)) !== '') return undefined
      const found = await readFile(join(this.#work, side, 'found'))
      return found.length === places[side].reduce((sum, { length }) => sum + length, 0) ? found : undefined
    })
  }

  /** SHA-256 of these files, by name as given. */
  async digests(names: Two<string[]>): Promise<Two<Map<string, string>>> {
    await this.#ask('digests', names)
    return await onBoth((side) => this.#digests(side))
  }

  async #digests(side: 'a' | 'b'): Promise<Map<string, string>> {
    const digests = new Map<string, string>()
    for (;;) {
      const line = this.#answers[side].ready() ?? (await this.#next(side))
      if (line === 'end') return digests
      digests.set(line.slice(66), line.slice(0, 64))
    }
  }

  /** The beginning of a regular file, `readLimit` bytes and one more where there are more. */
  async read(side: 'a' | 'b', name: string): Promise<Buffer> {
    this.#order('read', side, name)
    return Buffer.from(await this.#next(side), 'base64')
  }

  /** May be called early, and again. */
  async close(): Promise<void> {
    this.#order('quit')
    // Not by the order alone: should it be stuck, this ends it.
    this.#action.stop()
    await this.#action.ended
    this.#orders.destroy()
    this.#fromB.destroy()
  }

  /** An order about named files. */
  async #ask(order: string, names: Two<string[]>): Promise<void> {
    await onBoth((side) =>
      writeFile(join(this.#work, side, order), names[side].map((name) => `${name}\0`).join(''), 'latin1'),
    )
    this.#order(order)
  }

  #order(...fields: string[]): void {
    this.#orders.write(fields.map((field) => `${field}\0`).join(''), 'latin1')
  }

  async #next(side: 'a' | 'b'): Promise<string> {
    const field = this.#answers[side].ready() ?? (await this.#answers[side].next())
    if (field !== undefined) return field
    const ended = await this.#action.ended
    await this.#answers.a.closed
    try {
      reading(this.#answers.a.rest.split('\n'), ended, this.#signal)
    } catch (error) {
      if (!(error instanceof VlbError)) throw error
      if (error.code === 'VLB_HOST_TOOL') throw new VlbError(error.code, error.message, { hint: toolHint('getfattr') })
      const last = printable(this.#said.text.trimEnd().split('\n').at(-1) ?? '')
      const hint = 'is the image damaged? git vlb doctor shows what this host lacks'
      throw new VlbError(error.code, `${error.message}${last ? `: ${last}` : ''}`, { hint })
    }
    throw new VlbError('VLB_KILLED', 'the sandbox ended before it had answered', { hint: 'run the command again' })
  }
}

async function onBoth<T>(does: (side: 'a' | 'b') => Promise<T>): Promise<Two<T>> {
  const [a, b] = await Promise.all([does('a'), does('b')])
  return { a, b }
}

/** Fields that end in a zero byte. */
class Answers {
  #pieces: string[] = []
  #fields: string[] = []
  #at = 0
  /** Whether the pieces hold the end of a field. */
  #whole = false
  #ended = false
  #wake = () => {}
  readonly closed: Promise<void>

  constructor(stream: Readable) {
    // Read from the start, however late somebody asks: the runner must not wait for us.
    stream.on('data', (chunk: Buffer) => {
      this.#pieces.push(chunk.toString('latin1'))
      if (chunk.includes(0)) this.#whole = true
      this.#wake()
    })
    this.closed = new Promise((resolve) => {
      stream.on('close', () => {
        this.#ended = true
        this.#wake()
        resolve()
      })
    })
  }

  /** One that has arrived already. */
  ready(): string | undefined {
    return this.#at < this.#fields.length ? this.#fields[this.#at++] : undefined
  }

  /** Undefined at the end. */
  async next(): Promise<string | undefined> {
    for (;;) {
      if (this.#whole) {
        this.#whole = false
        this.#fields = this.#pieces.join('').split('\0')
        this.#pieces = [this.#fields.pop() ?? '']
        this.#at = 0
        return this.ready()
      }
      if (this.#ended) return undefined
      await new Promise<void>((resolve) => {
        this.#wake = () => (this.#whole || this.#ended) && resolve()
      })
    }
  }

  /** What came behind the last field. */
  get rest(): string {
    return this.#pieces.join('')
  }
}
