// A repository of an OCI registry (distribution specification 1.1), as a client: manifests by tag, blobs in and out. What
// may work another time is tried again; everything else becomes an error that names the registry.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { Readable, Transform } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { printable, VlbError } from '../core/errors.ts'
import { type Blob, blobOf, manifestLimit, mediaTypes } from '../core/oci.ts'
import { isLoopback, type Remote, remoteName } from '../core/remote.ts'
import { formatBytes } from '../core/units.ts'
import { findLogin } from '../host/credentials.ts'
import {
  ConnectionError,
  dump,
  HttpClient,
  type Patience,
  type Request,
  type Response,
  readBody,
  reasonOf,
} from '../host/http.ts'
import { Authorizer, LoginRefused } from './oci-login.ts'

export interface RegistryOptions {
  remote: Remote
  patience: Patience
  signal: AbortSignal
  /** Certificates to trust besides the usual ones. */
  ca: string | undefined
  /** Where git is asked for a login. */
  cwd: string
}

/** Bytes of a file, or in memory. */
export type Source = { path: string; offset: number } | Buffer

export type OnBytes = (bytes: number) => void

interface Ask extends Omit<Request, 'url' | 'patience' | 'signal'> {
  /** Below /v2/NAME/, or a whole URL that the registry gave. */
  path: string | URL
  /** Statuses that the caller deals with; all else is an error. */
  ok: readonly number[]
  write?: boolean
  /** A repository to read from besides. */
  besides?: string
  /** What it is about, for an error. */
  what: string
  patience?: Patience
  signal?: AbortSignal
}

/** Of a registry that answers, but not as it should. */
class Unwilling extends Error {
  readonly status: number

  constructor(status: number, said: string) {
    super(`it answers ${status}${said ? `: ${said}` : ''}`)
    this.status = status
  }
}

export class Registry {
  readonly remote: Remote
  readonly #http: HttpClient
  readonly #authorizer: Authorizer
  readonly #options: RegistryOptions
  readonly #origin: string

  constructor(options: RegistryOptions, like?: Registry) {
    const { remote, ca, cwd } = options
    this.remote = remote
    this.#options = options
    this.#http = like ? like.#http : new HttpClient(ca)
    this.#origin = `${remote.scheme}://${remote.host}`
    const find = () => findLogin(remote.host, remote.scheme, cwd)
    this.#authorizer = like ? like.#authorizer : new Authorizer(this.#http, find)
  }

  /** The same, with its connections and tokens, for work that another signal ends. */
  within(signal: AbortSignal): Registry {
    return new Registry({ ...this.#options, signal }, this)
  }

  get name(): string {
    return remoteName(this.remote)
  }

  close(): void {
    this.#http.close()
  }

  /** The manifest that a tag names. */
  async manifest(tag: string): Promise<string | undefined> {
    const headers = { accept: mediaTypes.manifest }
    return await this.#again('reading a manifest', async () => {
      const response = await this.#ask({ method: 'GET', path: `manifests/${tag}`, headers, ok: [200, 404], what: tag })
      if (response.status === 200) return (await readBody(response, manifestLimit)).toString('utf8')
      await dump(response)
      return undefined
    })
  }

  async hasTag(tag: string): Promise<boolean> {
    const headers = { accept: mediaTypes.manifest }
    return await this.#again('looking for a manifest', async () => {
      const response = await this.#ask({ method: 'HEAD', path: `manifests/${tag}`, headers, ok: [200, 404], what: tag })
      await dump(response)
      return response.status === 200
    })
  }

  async putManifest(tag: string, text: string): Promise<void> {
    const body = { bytes: Buffer.byteLength(text), open: () => Readable.from([Buffer.from(text)]) }
    const headers = { 'content-type': mediaTypes.manifest }
    await this.#again('writing a manifest', async () => {
      const path = `manifests/${tag}`
      await dump(await this.#ask({ method: 'PUT', path, headers, body, ok: [200, 201, 202], write: true, what: tag }))
    })
  }

  /** How long a blob is that the registry says it has. One of another length than it should be is damaged. */
  async blobSize(digest: string): Promise<number | undefined> {
    return await this.#again('looking for a blob', async () => {
      const path = `blobs/${digest}`
      const response = await this.#ask({ method: 'HEAD', path, ok: [200, 404], write: true, what: digest })
      await dump(response)
      return response.status === 200 ? Number(response.headers['content-length'] ?? -1) : undefined
    })
  }

  /** A small blob, checked. */
  async blob({ digest, size }: Blob, limit: number): Promise<Buffer> {
    if (size > limit) throw this.#damaged(`the blob ${digest} is too large: ${formatBytes(size)}`)
    return await this.#again('reading a blob', async () => {
      const response = await this.#ask({ method: 'GET', path: `blobs/${digest}`, ok: [200, 404], what: digest })
      if (response.status === 404) throw await this.#missing(response, digest)
      const bytes = await readBody(response, limit)
      if (blobOf(bytes).digest !== digest) throw this.#damaged(`the blob ${digest} is damaged`, digest)
      return bytes
    })
  }

  /**
   * Appends a blob to a file, in which it begins at `at` and of which `have` bytes of it are there already; those are read
   * first, for the digest is that of the whole. A connection that is cut goes on where it was.
   */
  async download(blob: Blob, file: FileHandle, place: { at: number; have: number }, onBytes: OnBytes): Promise<void> {
    let { have } = place
    let resumed = have > 0
    const save = (bytes: number) => {
      have += bytes
      onBytes(bytes)
    }
    await this.#again('reading a blob', async () => {
      const fresh = async () => {
        onBytes(-have)
        have = 0
        await file.truncate(place.at)
      }
      if (have > blob.size) await fresh()
      for (;;) {
        const hash = await hashPart(file, place.at, have)
        if (have < blob.size) await this.#fetchRest(blob, { file, at: place.at + have, have, hash, save, fresh })
        if (`sha256:${hash.digest('hex')}` === blob.digest) return
        await fresh()
        // What an earlier run left may be what was wrong.
        if (!resumed) throw this.#damaged(`the blob ${blob.digest} is damaged`, blob.digest)
        resumed = false
      }
    })
  }

  async #fetchRest(blob: Blob, to: Rest): Promise<void> {
    const headers: Record<string, string> = to.have > 0 ? { range: `bytes=${to.have}-` } : {}
    const path = `blobs/${blob.digest}`
    const response = await this.#ask({ method: 'GET', path, headers, ok: [200, 206, 404, 416], what: blob.digest })
    if (response.status === 404) throw await this.#missing(response, blob.digest)
    const range = response.headers['content-range']
    const whole = Number(
      response.status === 200 ? response.headers['content-length'] : /\/(\d+)$/.exec(range ?? '')?.[1],
    )
    if (response.status === 416 || (Number.isFinite(whole) && whole !== blob.size)) {
      response.body.destroy()
      const found = Number.isFinite(whole) ? `${whole} bytes` : 'fewer bytes'
      throw this.#damaged(`the blob ${blob.digest} has ${found} instead of ${blob.size}`, blob.digest)
    }
    // It does not know ranges, and begins at the beginning.
    const skip = response.status === 200 ? to.have : 0
    await receive(response, blob.size - to.have, skip, to)
  }

  /**
   * Brings a blob into the repository; `from` names another one of this registry that should have it. Each try is a new
   * upload from its first byte: a registry forgets one whose connection was cut.
   */
  async upload(
    blob: Blob,
    source: Source,
    options: { from?: string | undefined; onBytes: OnBytes },
  ): Promise<'mounted' | 'uploaded'> {
    let sent = 0
    const count = (bytes: number) => {
      sent += bytes
      options.onBytes(bytes)
    }
    const restart = () => {
      options.onBytes(-sent)
      sent = 0
    }
    return await this.#again('writing a blob', async () => {
      const session = await this.#openUpload(blob, options.from)
      if (session === undefined) {
        count(blob.size)
        return 'mounted'
      }
      const open = () => {
        restart()
        return counted(openSource(source, blob.size), count)
      }
      await this.#send(blob, session, open)
      return 'uploaded'
    })
  }

  /** Where the bytes are to be sent; undefined if they are there now, from the other repository. */
  async #openUpload({ digest }: Blob, from: string | undefined): Promise<URL | undefined> {
    const body = { bytes: 0, open: () => Readable.from([]) }
    const common = { method: 'POST', body, write: true, what: digest } as const
    let response: Response | undefined
    if (from !== undefined) {
      const query = new URLSearchParams({ mount: digest, from })
      // Whoever may not read there gets no token for both, or is refused: then the bytes are sent.
      response = await this.#ask({
        ...common,
        path: `blobs/uploads/?${query}`,
        ok: [201, 202, 403, 404],
        besides: from,
      }).catch((error: unknown) => {
        if (error instanceof LoginRefused || error instanceof Unwilling) return undefined
        throw error
      })
      if (response) await dump(response)
      if (response?.status === 201) return undefined
    }
    if (response?.status !== 202) {
      response = await this.#ask({ ...common, path: 'blobs/uploads/', ok: [202] })
      await dump(response)
    }
    const location = response.headers.location ?? ''
    if (!URL.canParse(location, this.#origin)) throw new Unwilling(response.status, 'no place to upload to')
    return new URL(location, this.#origin)
  }

  async #send({ digest, size }: Blob, session: URL, open: () => Readable): Promise<void> {
    const url = new URL(session)
    url.searchParams.set('digest', digest)
    const body = { bytes: size, open }
    const headers = { 'content-type': 'application/octet-stream' }
    // What the registry does with half a gigabyte before it answers, it does in silence.
    const { patience: usual } = this.#options
    const patience = { ...usual, silence: Math.max(usual.silence, 120_000) }
    try {
      const ask: Ask = { method: 'PUT', path: url, headers, body, ok: [201, 204], write: true, what: digest, patience }
      await dump(await this.#ask(ask))
    } catch (error) {
      await this.#abandon(session)
      throw error
    }
  }

  /** What was received would else stay on the registry's disk. */
  async #abandon(session: URL): Promise<void> {
    const patience = { connect: 2000, silence: 2000, tries: 1 }
    const ask: Ask = {
      method: 'DELETE',
      path: session,
      ok: [200, 202, 204, 404],
      write: true,
      what: 'upload',
      patience,
    }
    await this.#ask(ask).then(dump, () => {})
  }

  /** Sends one request, with a login where one is asked for, and follows where the answer leads. */
  async #ask(ask: Ask): Promise<Response> {
    const { remote } = this.#options
    const signal = ask.signal ?? this.#options.signal
    const patience = ask.patience ?? this.#options.patience
    const scopes = [
      `repository:${remote.repository}:${ask.write ? 'pull,push' : 'pull'}`,
      ...(ask.besides === undefined ? [] : [`repository:${ask.besides}:pull`]),
    ]
    let url = ask.path instanceof URL ? ask.path : new URL(`/v2/${remote.repository}/${ask.path}`, this.#origin)
    let refused = 0
    for (let hops = 0; hops < 8; hops++) {
      // Nobody but the registry itself gets what we log in with.
      const own = url.origin === this.#origin
      const authorization = own ? await this.#authorizer.header(scopes, patience, signal) : undefined
      const headers = { 'user-agent': 'git-vlb', ...ask.headers, ...(authorization ? { authorization } : {}) }
      const { method, body } = ask
      const response = await this.#http.send({ method, url, headers, ...(body ? { body } : {}), patience, signal })
      if (ask.ok.includes(response.status)) return response
      if (response.status === 401 && own && refused++ === 0) {
        await dump(response)
        this.#authorizer.refused(response.headers['www-authenticate'], scopes)
        continue
      }
      const next = response.headers.location
      if ([301, 302, 303, 307, 308].includes(response.status) && next && (method === 'GET' || method === 'HEAD')) {
        await dump(response)
        url = this.#follow(next, url)
        continue
      }
      await this.#refuse(response, own)
    }
    throw new Unwilling(508, 'it leads in circles')
  }

  #follow(location: string, from: URL): URL {
    const next = URL.canParse(location, from.href) ? new URL(location, from) : undefined
    const safe =
      next?.protocol === 'https:' ||
      (next?.protocol === 'http:' && (from.protocol === 'http:' || isLoopback(next.host)))
    if (!next || !safe) throw new Unwilling(302, `it leads to ${printable(location, 100)}, where it is not followed`)
    return next
  }

  async #refuse(response: Response, own: boolean): Promise<never> {
    const said = await readBody(response, 2 ** 16).then(
      (bytes) => complaintIn(bytes.toString('utf8')),
      () => '',
    )
    const { status } = response
    if (own && (status === 401 || status === 403)) {
      throw new LoginRefused(await this.#authorizer.login(), `it answers ${status}${said ? `: ${said}` : ''}`)
    }
    throw new Unwilling(status, said)
  }

  /** Tries what may work another time, and names the registry in what does not. */
  async #again<T>(doing: string, work: () => Promise<T>): Promise<T> {
    const { patience, signal } = this.#options
    for (let attempt = 1; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        signal.throwIfAborted()
        const passing = error instanceof ConnectionError || (error instanceof Unwilling && mayPass(error.status))
        if (!passing || attempt >= patience.tries) throw this.#explain(error, doing)
        await delay(Math.min(250 * 2 ** attempt, 5000), undefined, { signal })
      }
    }
  }

  #explain(error: unknown, doing: string): unknown {
    if (error instanceof LoginRefused) return this.#loginError(error)
    if (error instanceof ConnectionError) {
      return new VlbError(
        'VLB_REMOTE',
        `the registry ${this.remote.host} cannot be reached, ${doing}: ${error.message}`,
        {
          hint: `is it right, and up? ${this.#origin}/v2/ has to answer; without it: git vlb build --no-remote`,
          cause: error,
        },
      )
    }
    if (error instanceof Unwilling) {
      const full = error.status >= 500 ? 'see its log; is its disk full?' : 'see what its administrator says'
      return new VlbError('VLB_REMOTE', `the registry of ${this.name} refuses, ${doing}: ${error.message}`, {
        hint: full,
        cause: error,
      })
    }
    return error
  }

  #loginError({ login, message }: LoginRefused): VlbError {
    const { host } = this.remote
    const tried = login ? `tried as ${login.shown}` : 'asked without a login, for none was found'
    return new VlbError(
      'VLB_REMOTE_LOGIN',
      `the registry ${host} does not let us at ${this.name} (${tried}): ${message}`,
      {
        hint: `log in: docker login ${host}, podman login --compat-auth-file ~/.docker/config.json ${host}, or a git credential helper`,
      },
    )
  }

  #damaged(what: string, digest?: string): VlbError {
    return new VlbError('VLB_REMOTE_DAMAGED', `${what} at ${this.name}`, {
      hint: 'nothing of it was kept; the layer is built here instead, and git vlb push replaces it',
      ...(digest === undefined ? {} : { data: { digest } }),
    })
  }

  async #missing(response: Response, digest: string): Promise<VlbError> {
    await dump(response)
    return this.#damaged(`the blob ${digest} is gone, though a manifest names it`, digest)
  }
}

interface Rest {
  file: FileHandle
  at: number
  have: number
  hash: ReturnType<typeof createHash>
  save: OnBytes
  fresh: () => Promise<void>
}

/** Writes a body behind what is there, hashed on the way. */
async function receive({ body }: Response, expected: number, skip: number, to: Rest): Promise<void> {
  let { at } = to
  let left = skip
  let got = 0
  try {
    for await (let chunk of body as AsyncIterable<Buffer>) {
      if (left > 0) {
        const over = Math.min(left, chunk.length)
        left -= over
        chunk = chunk.subarray(over)
      }
      if (chunk.length === 0) continue
      if (got + chunk.length > expected) throw new ConnectionError('more bytes than there should be')
      to.hash.update(chunk)
      await to.file.write(chunk, 0, chunk.length, at)
      at += chunk.length
      got += chunk.length
      to.save(chunk.length)
    }
  } catch (error) {
    if (error instanceof ConnectionError || isLocal(error)) throw error
    throw new ConnectionError(reasonOf(error), { cause: error })
  }
  if (got < expected) throw new ConnectionError(`the connection ended after ${got} of ${expected} bytes`)
}

/** Of this host's own files, not of the network. */
function isLocal(error: unknown): boolean {
  return (
    error instanceof Error && 'syscall' in error && ['write', 'pwrite', 'ftruncate'].includes(String(error.syscall))
  )
}

async function hashPart(file: FileHandle, at: number, length: number): Promise<ReturnType<typeof createHash>> {
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

function openSource(source: Source, size: number): Readable {
  if (Buffer.isBuffer(source)) return Readable.from([source])
  const { path, offset } = source
  return createReadStream(path, { start: offset, end: offset + size - 1, highWaterMark: 2 ** 20 })
}

function counted(source: Readable, count: OnBytes): Readable {
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      count(chunk.length)
      next(null, chunk)
    },
  })
  source.on('error', (error) => meter.destroy(error))
  meter.on('close', () => source.destroy())
  return source.pipe(meter)
}

const mayPass = (status: number): boolean => status === 408 || status === 429 || status >= 500

/** The first of the errors that a registry lists. */
function complaintIn(text: string): string {
  try {
    const data = JSON.parse(text) as { errors?: { code?: string; message?: string }[] } | null
    const { code = '', message = '' } = data?.errors?.[0] ?? {}
    return printable(`${code} ${message}`.trim(), 200)
  } catch {
    return printable(
      text
        .split('\n')[0]
        ?.replace(/<[^>]*>/g, ' ')
        .trim() ?? '',
      100,
    )
  }
}
