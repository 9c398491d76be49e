// A repository of an OCI registry (distribution specification 1.1), as a client: manifests by tag, blobs in and out.
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { Readable, Transform } from 'node:stream'
import { VlbError } from '../core/errors.ts'
import { type Blob, blobOf, manifestLimit, mediaTypes } from '../core/oci.ts'
import type { Remote } from '../core/remote.ts'
import { formatBytes } from '../core/units.ts'
import { ConnectionError, dump, type Response, readBody } from '../host/http.ts'
import { type Ask, Connection, Unwilling } from './oci-connection.ts'
import { LoginRefused } from './oci-login.ts'
import { hashPart, type OnBytes, type Rest, receive } from './oci-receive.ts'

/** Bytes of a file, or in memory. */
export type Source = { path: string; offset: number } | Buffer

/** A tag of something else must not look like one that is free. */
const anyManifest = [
  mediaTypes.manifest,
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ')

export class Registry {
  readonly #connection: Connection

  constructor(connection: Connection) {
    this.#connection = connection
  }

  /** The same, with its connections and tokens, for work that another signal ends. */
  within(signal: AbortSignal): Registry {
    return new Registry(new Connection({ ...this.#connection.options, signal }, this.#connection))
  }

  get remote(): Remote {
    return this.#connection.remote
  }

  get name(): string {
    return this.#connection.name
  }

  close(): void {
    this.#connection.close()
  }

  /** The manifest that a tag names. */
  async manifest(tag: string): Promise<string | undefined> {
    return (await this.manifestAt(tag)).text
  }

  /** The same; nothing where a registry that was killed has half an entry of it. */
  async foundManifest(tag: string): Promise<string | undefined> {
    return await halfWritten(this.manifest(tag), undefined)
  }

  /** The same, with the registry's own time in milliseconds, if it tells. */
  async manifestAt(tag: string): Promise<{ text: string | undefined; time: number | undefined }> {
    const headers = { accept: anyManifest }
    return await this.#connection.again('reading a manifest', async () => {
      const response = await this.#connection.ask({ method: 'GET', path: `manifests/${tag}`, headers, ok: [200, 404] })
      const time = Date.parse(response.headers.date ?? '')
      const body = await readBody(response, manifestLimit)
      const text = response.status === 200 ? body.toString('utf8') : undefined
      return { text, time: Number.isNaN(time) ? undefined : time }
    })
  }

  /** What a tag names, of whatever kind that is. */
  async digestOf(tag: string): Promise<string | undefined> {
    const headers = { accept: anyManifest }
    return await this.#connection.again('looking for a manifest', async () => {
      const response = await this.#connection.ask({ method: 'HEAD', path: `manifests/${tag}`, headers, ok: [200, 404] })
      await dump(response)
      if (response.status === 404) return undefined
      const told = response.headers['docker-content-digest']
      if (typeof told === 'string') return told
      const text = await this.manifest(tag)
      return text === undefined ? undefined : blobOf(text).digest
    })
  }

  /** Takes a manifest away, with all tags that name it; false where the registry lets nobody do that. */
  async deleteManifest(digest: string): Promise<boolean> {
    return await this.#connection.again('deleting a manifest', async () => {
      const path = `manifests/${digest}`
      const ok = [200, 202, 204, 400, 404, 405, 501]
      const response = await this.#connection.ask({ method: 'DELETE', path, ok, write: true })
      await dump(response)
      return response.status < 300 || response.status === 404
    })
  }

  /** All its tags, in no order; none of a repository that is not there. */
  async tags(): Promise<string[]> {
    const tags: string[] = []
    for (let path: string | undefined = 'tags/list?n=1000'; path !== undefined; ) {
      const page: TagPage = await this.#connection.again('listing tags', async () => await this.#tagPage(path ?? ''))
      tags.push(...page.tags)
      path = page.next
    }
    return tags
  }

  async #tagPage(path: string): Promise<TagPage> {
    const response = await this.#connection.ask({ method: 'GET', path, ok: [200, 404] })
    const text = (await readBody(response, 2 ** 24)).toString('utf8')
    if (response.status === 404) return { tags: [], next: undefined }
    // Link: </v2/NAME/tags/list?last=x&n=1000>; rel="next"
    const query = /<[^>]*tags\/list\?([^>]*)>/.exec(String(response.headers['link'] ?? ''))?.[1]
    return { tags: tagsIn(text), next: query === undefined ? undefined : `tags/list?${query}` }
  }

  async hasTag(tag: string): Promise<boolean> {
    const headers = { accept: mediaTypes.manifest }
    const asked = this.#connection.again('looking for a manifest', async () => {
      const response = await this.#connection.ask({ method: 'HEAD', path: `manifests/${tag}`, headers, ok: [200, 404] })
      await dump(response)
      return response.status === 200
    })
    return await halfWritten(asked, false)
  }

  async putManifest(tag: string, text: string): Promise<void> {
    const body = { bytes: Buffer.byteLength(text), open: () => Readable.from([Buffer.from(text)]) }
    const headers = { 'content-type': mediaTypes.manifest }
    await this.#connection.again('writing a manifest', async () => {
      const path = `manifests/${tag}`
      await dump(await this.#connection.ask({ method: 'PUT', path, headers, body, ok: [200, 201, 202], write: true }))
    })
  }

  /** How long a blob is that the registry says it has. One of another length than it should be is damaged. */
  async blobSize(digest: string): Promise<number | undefined> {
    const asked = this.#connection.again('looking for a blob', async () => {
      const path = `blobs/${digest}`
      const response = await this.#connection.ask({ method: 'HEAD', path, ok: [200, 404], write: true })
      await dump(response)
      return response.status === 200 ? Number(response.headers['content-length'] ?? -1) : undefined
    })
    return await halfWritten(asked, -1)
  }

  /** A small blob, checked. */
  async blob({ digest, size }: Blob, limit: number): Promise<Buffer> {
    if (size > limit) throw this.#connection.damaged(`the blob ${digest} is too large: ${formatBytes(size)}`)
    return await this.#connection.again('reading a blob', async () => {
      const response = await this.#connection.ask({ method: 'GET', path: `blobs/${digest}`, ok: [200, 404] })
      if (response.status === 404) throw await this.#connection.missing(response, digest)
      const bytes = await readBody(response, limit)
      if (blobOf(bytes).digest !== digest) throw this.#connection.damaged(`the blob ${digest} is damaged`, digest)
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
    await this.#connection.again('reading a blob', async (progressed) => {
      const save = (bytes: number) => {
        have += bytes
        onBytes(bytes)
        progressed()
      }
      const fresh = async () => {
        onBytes(-have)
        have = 0
        await file.truncate(place.at)
      }
      if (have > blob.size) await fresh()
      for (;;) {
        const hash = await hashPart(file, place.at, have)
        if (have < blob.size) await this.#fetchRest(blob, { file, at: place.at + have, have, hash, save })
        if (`sha256:${hash.digest('hex')}` === blob.digest) return
        await fresh()
        // What an earlier run left may be what was wrong.
        if (!resumed) throw this.#connection.damaged(`the blob ${blob.digest} is damaged`, blob.digest)
        resumed = false
      }
    })
  }

  async #fetchRest(blob: Blob, to: Rest): Promise<void> {
    const headers: Record<string, string> = to.have > 0 ? { range: `bytes=${to.have}-` } : {}
    const path = `blobs/${blob.digest}`
    const response = await this.#connection.ask({ method: 'GET', path, headers, ok: [200, 206, 404, 416] })
    if (response.status === 404) throw await this.#connection.missing(response, blob.digest)
    const range = response.headers['content-range']
    const whole = Number(
      response.status === 200 ? response.headers['content-length'] : /\/(\d+)$/.exec(range ?? '')?.[1],
    )
    if (response.status === 416 || (Number.isFinite(whole) && whole !== blob.size)) {
      response.body.destroy()
      const found = Number.isFinite(whole) ? `${whole} bytes` : 'fewer bytes'
      throw this.#connection.damaged(`the blob ${blob.digest} has ${found} instead of ${blob.size}`, blob.digest)
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
    return await this.#connection.again('writing a blob', async () => {
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
    const common = { method: 'POST', body, write: true } as const
    let response: Response | undefined
    if (from !== undefined) {
      const query = new URLSearchParams({ mount: digest, from })
      // Whoever may not read there gets no token for both, or is refused: then the bytes are sent.
      response = await this.#connection
        .ask({
          ...common,
          path: `blobs/uploads/?${query}`,
          ok: [201, 202, 403, 404],
          besides: from,
        })
        .catch((error: unknown) => {
          if (error instanceof LoginRefused || error instanceof Unwilling) return undefined
          throw error
        })
      if (response) await dump(response)
      if (response?.status === 201) return undefined
    }
    if (response?.status !== 202) {
      response = await this.#connection.ask({ ...common, path: 'blobs/uploads/', ok: [202] })
      await dump(response)
    }
    const location = response.headers.location ?? ''
    if (!URL.canParse(location, this.#connection.origin)) throw new Unwilling(response.status, 'no place to upload to')
    return new URL(location, this.#connection.origin)
  }

  async #send({ digest, size }: Blob, session: URL, open: () => Readable): Promise<void> {
    const url = new URL(session)
    url.searchParams.set('digest', digest)
    const body = { bytes: size, open }
    const headers = { 'content-type': 'application/octet-stream' }
    // What the registry does with half a gigabyte before it answers, it does in silence.
    const { patience: usual } = this.#connection.options
    const patience = { ...usual, silence: Math.max(usual.silence, 120_000) }
    try {
      const ask: Ask = { method: 'PUT', path: url, headers, body, ok: [201, 204], write: true, patience }
      await dump(await this.#connection.ask(ask))
    } catch (error) {
      await this.#abandon(session)
      throw error
    }
  }

  /** What was received would else stay on the registry's disk. Some keep it all the same until they purge old uploads. */
  async #abandon(session: URL): Promise<void> {
    const patience = { connect: 2000, silence: 2000, tries: 1 }
    const ask: Ask = {
      method: 'DELETE',
      path: session,
      ok: [200, 202, 204, 404],
      write: true,
      patience,
      // Not by the signal that ends the upload, as it does when another one failed.
      signal: AbortSignal.timeout(3000),
    }
    await this.#connection.ask(ask).then(dump, () => {})
  }
}

/**
 * A registry that was killed while it wrote an entry may answer 500 to whoever looks for that, and goes on to do so until
 * the entry is written anew. One with other troubles says so when it is written to.
 */
async function halfWritten<T>(asked: Promise<T>, instead: T): Promise<T> {
  return await asked.catch((error: unknown) => {
    if (error instanceof VlbError && error.cause instanceof Unwilling && error.cause.status === 500) return instead
    throw error
  })
}

interface TagPage {
  tags: string[]
  next: string | undefined
}

function tagsIn(text: string): string[] {
  try {
    const { tags } = JSON.parse(text) as { tags?: unknown }
    return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : []
  } catch {
    throw new ConnectionError('it lists no tags')
  }
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
