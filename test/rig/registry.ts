// An OCI registry inside the test's own process, with knobs for all that goes wrong with one.
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'

export interface Call {
  method: string
  /** Without its query. */
  path: string
  query: URLSearchParams
  headers: IncomingMessage['headers']
  /** How many of the same method there have been on such a path: 1 for the first. */
  nth: number
}

/** What happens to a request instead of what it asks for. */
export type Fault =
  | { status: number; headers?: Record<string, string>; body?: string }
  /** The connection is cut after so many bytes: of what is sent, or of what is received. */
  | { cutAfter: number }
  /** It waits after so many bytes, until the promise is there. */
  | { waitAfter: number; until: Promise<unknown> }
  /** No answer at all. */
  | { silent: true }

export class FaultyRegistry {
  readonly blobs = new Map<string, Buffer>()
  readonly manifests = new Map<string, Buffer>()
  readonly calls: Call[] = []
  /** Upload sessions that are open: their bytes. */
  readonly sessions = new Map<string, Buffer>()
  /** Decides on each request; undefined lets it through. */
  fault: (call: Call) => Fault | undefined = () => undefined
  /** Asks for this pair by Basic. */
  login: string | undefined
  readonly #server: Server
  #nextSession = 1

  private constructor() {
    this.#server = createServer((request, response) => {
      request.on('error', () => {})
      response.on('error', () => {})
      this.#serve(request, response).catch(() => response.destroy())
    })
    this.#server.unref()
  }

  static async start(): Promise<FaultyRegistry> {
    const registry = new FaultyRegistry()
    await new Promise<void>((resolve) => registry.#server.listen(0, '127.0.0.1', resolve))
    return registry
  }

  get host(): string {
    const address = this.#server.address()
    return `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
  }

  remote(repository = 'team/web'): string {
    return `${this.host}/${repository}`
  }

  /** Those calls, as METHOD path. */
  seen(pattern: RegExp): string[] {
    return this.calls.map(({ method, path }) => `${method} ${path}`).filter((line) => pattern.test(line))
  }

  end(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://registry')
    const kind = /\/(manifests|blobs\/uploads|blobs)\b/.exec(url.pathname)?.[1] ?? ''
    const method = request.method ?? ''
    const same = this.calls.filter((call) => call.method === method && call.path.includes(`/${kind}/`))
    const nth = same.length + 1
    const call = { method, path: url.pathname, query: url.searchParams, headers: request.headers, nth }
    this.calls.push(call)
    const fault = this.fault(call)
    if (fault && 'silent' in fault) return
    if (fault && 'status' in fault) {
      request.resume()
      response.writeHead(fault.status, fault.headers).end(fault.body ?? '')
      return
    }
    if (this.login !== undefined) {
      const wanted = `Basic ${Buffer.from(this.login).toString('base64')}`
      if (request.headers.authorization !== wanted) {
        request.resume()
        response
          .writeHead(401, { 'www-authenticate': 'Basic realm="test"' })
          .end('{"errors":[{"code":"UNAUTHORIZED"}]}')
        return
      }
    }
    const [, name = '', rest = ''] = /^\/v2\/(.+?)\/(manifests\/.+|blobs\/.*)$/.exec(url.pathname) ?? []
    if (rest.startsWith('manifests/')) return await this.#manifest(call, `${name}:${rest.slice(10)}`, request, response)
    if (rest.startsWith('blobs/uploads/')) return await this.#upload(call, name, request, response, fault)
    if (rest.startsWith('blobs/')) return await this.#blob(call, rest.slice(6), response, fault)
    const list = /^\/v2\/(.+)\/tags\/list$/.exec(url.pathname)?.[1]
    if (list !== undefined) return this.#tags(call, list, response)
    response.writeHead(200).end('{}')
  }

  /** Two at a time. */
  #tags({ query }: Call, name: string, response: ServerResponse): void {
    const all = [...this.manifests.keys()]
      .filter((tag) => tag.startsWith(`${name}:`))
      .map((tag) => tag.split(':')[1] ?? '')
    const rest = all.sort().filter((tag) => tag > (query.get('last') ?? ''))
    const tags = rest.slice(0, 2)
    const link = { link: `</v2/${name}/tags/list?n=2&last=${tags.at(-1)}>; rel="next"` }
    response.writeHead(200, rest.length > 2 ? link : {}).end(JSON.stringify({ name, tags }))
  }

  async #manifest(call: Call, tag: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (call.method === 'PUT') {
      this.manifests.set(tag, await bodyOf(request))
      response.writeHead(201).end()
      return
    }
    if (call.method === 'DELETE') {
      const same = [...this.manifests].filter(([name, bytes]) => tag === `${name.split(':')[0]}:${digestOf(bytes)}`)
      for (const [name] of same) this.manifests.delete(name)
      response.writeHead(same.length > 0 ? 202 : 404).end()
      return
    }
    const found = this.manifests.get(tag)
    if (!found) return void response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
    response.writeHead(200, { 'content-length': found.length }).end(call.method === 'HEAD' ? undefined : found)
  }

  async #upload(
    call: Call,
    name: string,
    request: IncomingMessage,
    response: ServerResponse,
    fault: Fault | undefined,
  ): Promise<void> {
    const id = call.path.split('/').at(-1) ?? ''
    if (call.method === 'POST') {
      const session = String(this.#nextSession++)
      this.sessions.set(session, Buffer.alloc(0))
      response.writeHead(202, { location: `/v2/${name}/blobs/uploads/${session}?state=x` }).end()
    } else if (call.method === 'DELETE') {
      response.writeHead(this.sessions.delete(id) ? 204 : 404).end()
    } else {
      const cut = fault && 'cutAfter' in fault ? fault.cutAfter : undefined
      const bytes = await bodyOf(request, cut)
      if (cut !== undefined) {
        this.sessions.delete(id)
        return void request.socket.destroy()
      }
      const digest = call.query.get('digest') ?? ''
      const right = digestOf(bytes) === digest
      if (!this.sessions.delete(id) || !right) return void response.writeHead(right ? 404 : 400).end('{}')
      this.blobs.set(digest, bytes)
      response.writeHead(201).end()
    }
  }

  async #blob(call: Call, digest: string, response: ServerResponse, fault: Fault | undefined): Promise<void> {
    const found = this.blobs.get(digest)
    if (!found) return void response.writeHead(404).end('{"errors":[{"code":"BLOB_UNKNOWN"}]}')
    const start = Number(/^bytes=(\d+)-$/.exec(call.headers.range ?? '')?.[1] ?? 0)
    const bytes = found.subarray(start)
    const range = start > 0 ? { 'content-range': `bytes ${start}-${found.length - 1}/${found.length}` } : {}
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': bytes.length, ...range })
    if (call.method === 'HEAD') return void response.end()
    if (!fault || 'status' in fault || 'silent' in fault) return void response.end(bytes)
    const first = 'cutAfter' in fault ? fault.cutAfter : fault.waitAfter
    await new Promise((resolve) => response.write(bytes.subarray(0, first), resolve))
    if ('cutAfter' in fault) return void response.destroy()
    await fault.until
    response.end(bytes.subarray(first))
  }
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

async function bodyOf(request: IncomingMessage, limit?: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    bytes += chunk.length
    if (limit !== undefined && bytes >= limit) break
  }
  return Buffer.concat(chunks)
}
