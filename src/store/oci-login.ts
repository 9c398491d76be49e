// How a registry is convinced: it answers 401 and says by which scheme it wants to be asked, Basic or Bearer (the
// distribution project's token authentication). Tokens are remembered by what they are good for.
import { Readable } from 'node:stream'
import { isLoopback } from '../core/remote.ts'
import type { Login } from '../host/credentials.ts'
import { ConnectionError, dump, type HttpClient, type Patience, type Response, readBody } from '../host/http.ts'

export interface Challenge {
  scheme: 'basic' | 'bearer'
  realm: string
  service: string | undefined
}

/** Reads a WWW-Authenticate header; undefined for schemes that we do not speak. */
export function parseChallenge(header: string | undefined): Challenge | undefined {
  const [, scheme = '', rest = ''] = /^\s*(basic|bearer)\b(.*)$/is.exec(header ?? '') ?? []
  if (scheme === '') return undefined
  const value = (name: string) => new RegExp(`\\b${name}="([^"]*)"`, 'i').exec(rest)?.[1]
  return { scheme: scheme.toLowerCase() as Challenge['scheme'], realm: value('realm') ?? '', service: value('service') }
}

/** A login that was tried in vain, or none that could be. */
export class LoginRefused extends Error {
  readonly login: Login | undefined

  constructor(login: Login | undefined, why: string) {
    super(why)
    this.login = login
  }
}

interface Token {
  text: string
  /** In milliseconds. */
  until: number
}

/** What a token server says nothing about is good for a minute (token authentication specification). */
const usualLife = 60

export class Authorizer {
  readonly #http: HttpClient
  readonly #find: () => Promise<Login | undefined>
  #login: Promise<Login | undefined> | undefined
  #challenge: Challenge | undefined
  readonly #tokens = new Map<string, Token>()

  constructor(http: HttpClient, find: () => Promise<Login | undefined>) {
    this.#http = http
    this.#find = find
  }

  login(): Promise<Login | undefined> {
    this.#login ??= this.#find()
    return this.#login
  }

  /** Where the registry has asked for one before, an Authorization header for these scopes. */
  async header(scopes: readonly string[], patience: Patience, signal: AbortSignal): Promise<string | undefined> {
    if (!this.#challenge) return undefined
    if (this.#challenge.scheme === 'basic') return await this.#basic()
    const scope = scopes.join(' ')
    const known = this.#tokens.get(scope)
    if (known && known.until > Date.now()) return `Bearer ${known.text}`
    const token = await this.#fetchToken(this.#challenge, scopes, patience, signal)
    this.#tokens.set(scope, token)
    return `Bearer ${token.text}`
  }

  /** Takes note of a 401. What was sent before is not good any more. */
  refused(header: string | undefined, scopes: readonly string[]): void {
    const challenge = parseChallenge(header)
    if (!challenge) throw new LoginRefused(undefined, 'it asks for a login in a way that git vlb does not know')
    this.#challenge = challenge
    this.#tokens.delete(scopes.join(' '))
  }

  async #basic(): Promise<string> {
    const login = await this.login()
    if (!login) throw new LoginRefused(undefined, 'it asks for a login')
    return basic(login)
  }

  async #fetchToken(
    { realm, service }: Challenge,
    scopes: readonly string[],
    patience: Patience,
    signal: AbortSignal,
  ): Promise<Token> {
    const login = await this.login()
    const url = URL.canParse(realm) ? new URL(realm) : undefined
    if (url?.protocol !== 'https:' && !(url?.protocol === 'http:' && isLoopback(url.hostname)))
      throw new LoginRefused(undefined, 'it names no server for its tokens that a password could be sent to')
    const fields: [string, string][] = [
      ...(service === undefined ? [] : [['service', service] as [string, string]]),
      ...scopes.map((scope): [string, string] => ['scope', scope]),
    ]
    const common = { patience, signal }
    const response =
      login?.kind === 'token'
        ? await this.#http.send({ method: 'POST', url, ...form(login, fields), ...common })
        : await this.#http.send({
            method: 'GET',
            url: withQuery(url, fields),
            headers: login ? { authorization: basic(login) } : {},
            ...common,
          })
    return await readToken(response, login)
  }
}

async function readToken(response: Response, login: Login | undefined): Promise<Token> {
  if (response.status !== 200) {
    await dump(response)
    const what = `its token server answers ${response.status}`
    // What may pass says nothing about the login.
    if ([408, 429].includes(response.status) || response.status >= 500) throw new ConnectionError(what)
    throw new LoginRefused(login, what)
  }
  const text = (await readBody(response, 2 ** 20)).toString('utf8')
  const data = parse(text)
  const token = data?.token ?? data?.access_token
  if (typeof token !== 'string' || token === '') throw new LoginRefused(login, 'its token server gives no token')
  const life = typeof data?.expires_in === 'number' && data.expires_in > 0 ? data.expires_in : usualLife
  // An upload should not begin with a token that is about to end.
  return { text: token, until: Date.now() + life * 1000 * 0.7 }
}

function parse(text: string): { token?: unknown; access_token?: unknown; expires_in?: unknown } | null {
  try {
    return JSON.parse(text) as ReturnType<typeof parse>
  } catch {
    // As good as no token.
    return null
  }
}

function basic({ user, secret }: Login): string {
  return `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}`
}

function withQuery(url: URL, fields: readonly [string, string][]): URL {
  const full = new URL(url)
  for (const [name, value] of fields) full.searchParams.append(name, value)
  return full
}

/** An identity token is exchanged for an access token (OAuth 2.0, RFC 6749, section 6). */
function form({ secret }: Login, fields: readonly [string, string][]) {
  const data = new URLSearchParams([
    ['grant_type', 'refresh_token'],
    ['refresh_token', secret],
    ['client_id', 'git-vlb'],
  ])
  const scopes = fields.filter(([name]) => name === 'scope').map(([, value]) => value)
  for (const [name, value] of fields) if (name !== 'scope') data.append(name, value)
  data.append('scope', scopes.join(' '))
  const text = data.toString()
  const open = () => Readable.from([Buffer.from(text)])
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  return { headers, body: { bytes: Buffer.byteLength(text), open } }
}
