// Two disks shown to be compared: asks the runner's action `diff` about their files, and reads its answers.
import { createWriteStream, type WriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
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
  /** Where the content of regular files lies, of those file systems that tell: a line for core/extents.ts. */
  extents: Map<string, string>
}

const control = /[\x00-\x1f\x7f]/

/** Bytes of a file that `read` returns. */
export const readLimit = 4 * 2 ** 20

export class Comparer {
  readonly #work: string
  readonly #action: Action
  readonly #orders: WriteStream
  readonly #answers: Answers
  readonly #signal: AbortSignal
  /** The last of what tools complained of. */
  readonly #said: { text: string }

  private constructor(work: string, action: Action, orders: WriteStream, said: { text: string }, signal: AbortSignal) {
    this.#work = work
    this.#action = action
    this.#orders = orders
    this.#answers = new Answers(action.stdout)
    this.#said = said
    this.#signal = signal
    // A runner that has ended reads no orders; what it said last tells why.
    orders.on('error', () => {})
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
    const pipe = join(work, 'orders')
    await run('mkfifo', ['-m', '0600', '--', pipe])
    const places = sides.flatMap((side) => [String(roots[side].start), String(roots[side].size), roots[side].fs])
    const said = { text: '' }
    const onOutput = (chunk: Buffer) => {
      said.text = (said.text + chunk.toString()).slice(-4000)
    }
    const action = await startAction(work, 'diff', [apart ? 'yes' : 'no', ...places], { attach, signal, onOutput })
    return new Comparer(work, action, createWriteStream(pipe, { flags: 'r+' }), said, signal)
  }

  /**
   * All files below `path`, '' for the root; the trees are empty where nothing is there. `extents`: on each side the st_dev
   * of file systems that tell where content lies, if that is wanted.
   */
  async list(path: string, extents?: (side: 'a' | 'b', starts: Listing['starts']) => ReadonlyMap<number, number>) {
    this.#order('list', path, extents ? 'yes' : 'no')
    const listing = async (side: 'a' | 'b') => {
      const found = await this.#listing()
      if (extents) found.extents = await this.#extents(found.tree, extents(side, found.starts))
      return found
    }
    return { a: await listing('a'), b: await listing('b') }
  }

  async #listing(): Promise<Listing> {
    const [how, ...devices] = (await this.#next()).split(' ')
    const starts = new Map<number, number>()
    for (const device of devices) {
      const colon = device.indexOf(':')
      starts.set(deviceId(device.slice(colon + 1)), Number(device.slice(0, colon)))
    }
    const at = await this.#next()
    const tree: Tree = new Map()
    for (;;) {
      const fields = this.#answers.ready() ?? (await this.#next())
      if (fields === 'end') break
      const path = this.#answers.ready() ?? (await this.#next())
      tree.set(path, parseEntry(fields, this.#answers.ready() ?? (await this.#next())))
    }
    for (;;) {
      const numbers = await this.#next()
      if (numbers === 'end') break
      const entry = tree.get((await this.#next()).slice(at.length + 1))
      if (entry) entry.device = deviceNumbers(numbers)
    }
    addAttributes(tree, await this.#next(), at)
    return { tree, at, kept: how === 'kept', starts, extents: new Map() }
  }

  async #extents(tree: Tree, telling: ReadonlyMap<number, number>): Promise<Map<string, string>> {
    const lines = (await this.#next()).split('\n').slice(0, -1)
    const paths: string[] = []
    for (const [path, { type, size, dev }] of tree)
      if (type === 'file' && size > 0 && telling.has(dev) && !control.test(path)) paths.push(path)
    // One too many or too few, and none would be known to be of its file.
    if (lines.length !== paths.length) return new Map()
    return new Map(paths.map((path, i) => [path, lines[i] ?? '']))
  }

  /** SHA-256 of these files, by name as given. */
  async digests(names: Two<string[]>): Promise<Two<Map<string, string>>> {
    for (const side of sides)
      await writeFile(join(this.#work, side, 'digests'), names[side].map((name) => `${name}\0`).join(''), 'latin1')
    this.#order('digests')
    return { a: await this.#digests(), b: await this.#digests() }
  }

  async #digests(): Promise<Map<string, string>> {
    const digests = new Map<string, string>()
    for (;;) {
      const line = this.#answers.ready() ?? (await this.#next())
      if (line === 'end') return digests
      digests.set(line.slice(66), line.slice(0, 64))
    }
  }

  /** The beginning of a regular file, `readLimit` bytes and one more where there are more. */
  async read(side: 'a' | 'b', name: string): Promise<Buffer> {
    this.#order('read', side, name)
    return Buffer.from(await this.#next(), 'base64')
  }

  /** May be called early, and again. */
  async close(): Promise<void> {
    this.#order('quit')
    // Not by the order alone: should it be stuck, this ends it.
    this.#action.stop()
    await this.#action.ended
    this.#orders.destroy()
  }

  #order(...fields: string[]): void {
    this.#orders.write(fields.map((field) => `${field}\0`).join(''), 'latin1')
  }

  async #next(): Promise<string> {
    const field = this.#answers.ready() ?? (await this.#answers.next())
    if (field !== undefined) return field
    const ended = await this.#action.ended
    try {
      reading(this.#answers.rest.split('\n'), ended, this.#signal)
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

/** Fields that end in a zero byte. */
class Answers {
  #pieces: string[] = []
  #fields: string[] = []
  #at = 0
  /** Whether the pieces hold the end of a field. */
  #whole = false
  #ended = false
  #wake = () => {}

  constructor(stream: Readable) {
    // Read from the start, however late somebody asks: the runner must not wait for us.
    stream.on('data', (chunk: Buffer) => {
      this.#pieces.push(chunk.toString('latin1'))
      if (chunk.includes(0)) this.#whole = true
      this.#wake()
    })
    stream.on('close', () => {
      this.#ended = true
      this.#wake()
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
