// Requests to one repository of an OCI registry: logged in where it asks for that, led where it leads, tried again where that
// may help; everything else becomes an error that names the registry.
import { setTimeout as delay } from 'node:timers/promises'
import { printable, VlbError } from '../core/errors.ts'
import { isLoopback, type Remote, remoteName } from '../core/remote.ts'
import { findLogin } from '../host/credentials.ts'
import {
  ConnectionError,
  dump,
  HttpClient,
  type Patience,
  type Request,
  type Response,
  readBody,
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

export interface Ask extends Omit<Request, 'url' | 'patience' | 'signal'> {
  /** Below /v2/NAME/, or a whole URL that the registry gave. */
  path: string | URL
  /** Statuses that the caller deals with; all else is an error. */
  ok: readonly number[]
  write?: boolean
  /** A repository to read from besides. */
  besides?: string
  patience?: Patience
  signal?: AbortSignal
}

/** What a token has to allow (distribution's token authentication): to delete is more than to write. */
function actionsOf({ method, write }: Ask): string {
  if (method === 'DELETE') return 'pull,push,delete'
  return write ? 'pull,push' : 'pull'
}

/** Of a registry that answers, but not as it should. */
export class Unwilling extends Error {
  readonly status: number

  constructor(status: number, said: string) {
    super(`it answers ${status}${said ? `: ${said}` : ''}`)
    this.status = status
  }
}

export class Connection {
  readonly remote: Remote
  readonly options: RegistryOptions
  readonly origin: string
  readonly #http: HttpClient
  readonly #authorizer: Authorizer

  /** `like`: one whose connections and tokens it shares. */
  constructor(options: RegistryOptions, like?: Connection) {
    const { remote, ca, cwd } = options
    this.remote = remote
    this.options = options
    this.#http = like ? like.#http : new HttpClient(ca)
    this.origin = `${remote.scheme}://${remote.host}`
    const find = () => findLogin(remote.host, remote.scheme, cwd)
    this.#authorizer = like ? like.#authorizer : new Authorizer(this.#http, find)
  }

  get name(): string {
    return remoteName(this.remote)
  }

  close(): void {
    this.#http.close()
  }

  /** Sends one request, with a login where one is asked for, and follows where the answer leads. */
  async ask(ask: Ask): Promise<Response> {
    const { remote } = this.options
    const signal = ask.signal ?? this.options.signal
    const patience = ask.patience ?? this.options.patience
    const scopes = [
      `repository:${remote.repository}:${actionsOf(ask)}`,
      ...(ask.besides === undefined ? [] : [`repository:${ask.besides}:pull`]),
    ]
    let url = ask.path instanceof URL ? ask.path : new URL(`/v2/${remote.repository}/${ask.path}`, this.origin)
    let refused = 0
    for (let hops = 0; hops < 8; hops++) {
      // Nobody but the registry itself gets what we log in with.
      const own = url.origin === this.origin
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

  /**
   * Tries what may work another time, and names the registry in what does not. Only tries in a row that `progressed`
   * nothing are counted.
   */
  async again<T>(doing: string, work: (progressed: () => void) => Promise<T>): Promise<T> {
    const { patience, signal } = this.options
    let attempt = 0
    const progressed = () => {
      attempt = 0
    }
    for (;;) {
      try {
        return await work(progressed)
      } catch (error) {
        attempt++
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
          hint: `is it right, and up? ${this.origin}/v2/ has to answer; without it: git vlb build --no-remote`,
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

  damaged(what: string, digest?: string): VlbError {
    return new VlbError('VLB_REMOTE_DAMAGED', `${what} at ${this.name}`, {
      hint: 'nothing of it was kept; the layer is built here instead, and git vlb push replaces it',
      ...(digest === undefined ? {} : { data: { digest } }),
    })
  }

  async missing(response: Response, digest: string): Promise<VlbError> {
    await dump(response)
    return this.damaged(`the blob ${digest} is gone, though a manifest names it`, digest)
  }
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
