// HTTP as a registry needs it: bodies of any size as streams, both ways, at a steady use of memory. Global fetch is not
// used: on Node 20 it holds an upload in memory as a whole.
import { readFile } from 'node:fs/promises'
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { isIP, type Socket } from 'node:net'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { rootCertificates, connect as tlsConnect } from 'node:tls'
import { printable, VlbError } from '../core/errors.ts'

/** In milliseconds. */
export interface Patience {
  /** Until the connection stands. */
  connect: number
  /** Without a byte, either way. */
  silence: number
  /** How often something is tried that might work another time. */
  tries: number
}

export interface Request {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE'
  url: URL
  headers?: Record<string, string>
  /** A body that can be made again. */
  body?: { bytes: number; open: () => Readable }
  patience: Patience
  signal: AbortSignal
}

export interface Response {
  status: number
  headers: IncomingMessage['headers']
  body: IncomingMessage
}

/** Thrown for what may work another time: nobody there, silence, a connection that was cut. */
export class ConnectionError extends Error {}

export class HttpClient {
  readonly #http: HttpAgent
  readonly #https: HttpsAgent
  readonly #ca: string[] | undefined

  /** `ca`: certificates to trust besides those that everybody trusts. */
  constructor(ca: string | undefined) {
    this.#ca = ca === undefined ? undefined : [...rootCertificates, ca]
    const trusted = this.#ca ? { ca: this.#ca } : {}
    this.#http = new HttpAgent({ keepAlive: true, maxSockets: 8 })
    this.#https = new HttpsAgent({ keepAlive: true, maxSockets: 8, ...trusted })
  }

  /** Sends a request and waits for the head of the answer. The caller reads, or dumps, its body. */
  async send(request: Request): Promise<Response> {
    request.signal.throwIfAborted()
    const { url, method, headers = {}, body, patience, signal } = request
    const secure = url.protocol === 'https:'
    const proxy = proxyFor(url)
    const tunnel = proxy && secure ? await openTunnel(proxy, url, patience, signal, this.#ca) : undefined
    const length = body ? { 'content-length': String(body.bytes) } : {}
    const options = {
      method,
      headers: { ...headers, ...length },
      signal,
    }
    const start = (): ClientRequest => {
      // With an agent, createConnection would not be called.
      if (tunnel) return httpsRequest(url, { ...options, createConnection: () => tunnel })
      if (secure) return httpsRequest(url, { agent: this.#https, ...options })
      if (!proxy) return httpRequest(url, { agent: this.#http, ...options })
      const { hostname, port } = proxy
      const via = { host: hostname, port: port || 80, path: url.href, agent: this.#http }
      return httpRequest({ ...via, ...options, headers: { host: url.host, ...options.headers, ...proxyLogin(proxy) } })
    }
    try {
      return await exchange(start(), request)
    } catch (error) {
      signal.throwIfAborted()
      throw explain(error, url)
    }
  }

  close(): void {
    this.#http.destroy()
    this.#https.destroy()
  }
}

async function exchange(sent: ClientRequest, { body, patience }: Request): Promise<Response> {
  const watch = limitConnect(sent, patience.connect)
  sent.setTimeout(patience.silence, () => sent.destroy(new ConnectionError(`silent for ${patience.silence / 1000} s`)))
  const answered = new Promise<IncomingMessage>((resolve, reject) => {
    sent.once('response', resolve)
    sent.on('error', reject)
  })
  try {
    if (body && body.bytes > 0) {
      const source = body.open()
      // A refusal may come before all is sent; then nobody reads the rest.
      answered.then(
        () => source.destroy(),
        () => source.destroy(),
      )
      const upload = pipeline(source, sent)
      upload.catch(() => {})
      // A server that refuses closes the connection, which may be seen before its answer is.
      await Promise.race([upload.catch(() => answered), answered])
    } else sent.end()
    const answer = await answered
    return { status: answer.statusCode ?? 0, headers: answer.headers, body: answer }
  } finally {
    clearTimeout(watch)
  }
}

/** A host that drops packets would else be waited for by the minute. */
function limitConnect(sent: ClientRequest, limit: number): NodeJS.Timeout {
  const timer = setTimeout(() => sent.destroy(new ConnectionError(`no connection within ${limit / 1000} s`)), limit)
  sent.once('socket', (socket) => {
    const ready = () => clearTimeout(timer)
    if (!socket.connecting) ready()
    else socket.once('encrypted' in socket ? 'secureConnect' : 'connect', ready)
  })
  return timer
}

/** A small body as text; more than `limit` bytes of it are an error. */
export async function readBody({ body }: Response, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > limit) throw new ConnectionError(`an answer of more than ${limit} bytes`)
      chunks.push(chunk)
    }
  } catch (error) {
    throw error instanceof ConnectionError ? error : new ConnectionError(reasonOf(error))
  }
  return Buffer.concat(chunks)
}

/** What nobody wants to read must be read all the same, or the connection is lost for the next request. */
export async function dump(response: Response): Promise<void> {
  await readBody(response, 2 ** 20).catch(() => response.body.destroy())
}

const certificateCodes = /^(DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|CERT_|ERR_TLS_CERT)/

function explain(error: unknown, url: URL): unknown {
  if (error instanceof ConnectionError || error instanceof VlbError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (certificateCodes.test(code)) {
    return new VlbError('VLB_REMOTE', `${url.host} shows a certificate that is not trusted: ${reasonOf(error)}`, {
      hint: 'name the file with the certificate that signs it: git config vlb.remoteCA FILE, or set NODE_EXTRA_CA_CERTS',
      cause: error,
    })
  }
  return error instanceof Error ? new ConnectionError(reasonOf(error), { cause: error }) : error
}

/** Of several addresses that were tried, the last one's. */
export function reasonOf(error: unknown): string {
  const one = error instanceof AggregateError ? (error.errors.at(-1) as unknown) : error
  return printable(one instanceof Error ? one.message || one.name : String(one))
}

/** HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in either spelling. */
export function proxyFor(url: URL, env: Record<string, string | undefined> = process.env): URL | undefined {
  const value = (name: string) => env[name] || env[name.toUpperCase()]
  const given = value(url.protocol === 'https:' ? 'https_proxy' : 'http_proxy') ?? value('all_proxy')
  if (!given) return undefined
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const excluded = (value('no_proxy') ?? '').split(',').map((name) => name.trim().replace(/^\*?\./, ''))
  if (excluded.some((name) => name === '*' || (name !== '' && (host === name || host.endsWith(`.${name}`)))))
    return undefined
  const text = given.includes('://') ? given : `http://${given}`
  return URL.canParse(text) ? new URL(text) : undefined
}

function proxyLogin({ username, password }: URL): Record<string, string> {
  if (username === '') return {}
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(pair).toString('base64')}` }
}

/** A connection through a proxy (RFC 9110, CONNECT), with TLS in it. */
async function openTunnel(
  proxy: URL,
  url: URL,
  patience: Patience,
  signal: AbortSignal,
  ca: string[] | undefined,
): Promise<Socket> {
  const path = `${url.hostname}:${url.port || 443}`
  const headers = { host: path, ...proxyLogin(proxy) }
  const where = { host: proxy.hostname, port: proxy.port || 80 }
  const sent = httpRequest({ ...where, method: 'CONNECT', path, headers, signal, agent: false })
  const watch = limitConnect(sent, patience.connect)
  try {
    const socket = await new Promise<Socket>((resolve, reject) => {
      sent.once('connect', (answer, opened) => {
        if (answer.statusCode === 200) return resolve(opened)
        opened.destroy()
        reject(new ConnectionError(`the proxy ${proxy.host} answers ${answer.statusCode}`))
      })
      sent.once('error', reject)
      sent.end()
    })
    const name = isIP(url.hostname) ? {} : { servername: url.hostname }
    return tlsConnect({ socket, ...name, ...(ca ? { ca } : {}) })
  } catch (error) {
    signal.throwIfAborted()
    throw error instanceof ConnectionError ? error : new ConnectionError(`the proxy ${proxy.host}: ${reasonOf(error)}`)
  } finally {
    clearTimeout(watch)
  }
}

/** Certificates that a setting names; those of NODE_EXTRA_CA_CERTS stay trusted beside them. */
export async function readCertificates(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined
  try {
    const extra = process.env['NODE_EXTRA_CA_CERTS']
    const more = extra ? await readFile(extra, 'utf8').catch(() => '') : ''
    return `${await readFile(path, 'utf8')}\n${more}`
  } catch (error) {
    throw new VlbError('VLB_CONFIG', `vlb.remoteCA: cannot read ${printable(path)}: ${reasonOf(error)}`, {
      hint: 'name a file with certificates in PEM form: git config vlb.remoteCA FILE',
    })
  }
}
