// Debian's docker-registry on a port of the loopback, started by a test and gone with it.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from './ports.ts'

export type Access = 'open' | 'htpasswd' | 'token'

export interface RegistryOptions {
  access?: Access
  tls?: boolean
  /** Where it keeps its data; default: a folder of its own. */
  data?: string
  /** Seconds that tokens are good for. */
  tokenLife?: number
  /** Whether manifests can be deleted; default: yes. A registry by itself says no. */
  deletes?: boolean
}

export const testUser = { name: 'alice', password: 'correct horse' }

export class DockerRegistry {
  readonly folder: string
  readonly data: string
  port = 0
  #child: ChildProcess | undefined
  #tokens: Server | undefined
  readonly #options: RegistryOptions

  private constructor(folder: string, options: RegistryOptions) {
    this.folder = folder
    this.data = options.data ?? join(folder, 'data')
    this.#options = options
  }

  static async start(folder: string, options: RegistryOptions = {}): Promise<DockerRegistry> {
    mkdirSync(folder, { recursive: true })
    const registry = new DockerRegistry(folder, options)
    registry.port = await freePort()
    await registry.#configure()
    await registry.run()
    return registry
  }

  get host(): string {
    return `127.0.0.1:${this.port}`
  }

  /** As vlb.remote wants it. */
  remote(repository = 'team/web'): string {
    return `${this.#options.tls ? 'https://' : ''}${this.host}/${repository}`
  }

  get certificate(): string {
    return join(this.folder, 'cert.pem')
  }

  /** A file of docker's for that user. */
  static login(host: string, user = testUser): string {
    const auth = Buffer.from(`${user.name}:${user.password}`).toString('base64')
    return JSON.stringify({ auths: { [host]: { auth } } })
  }

  async #configure(): Promise<void> {
    const { access = 'open', tls = false, deletes = true } = this.#options
    if (tls || access === 'token') this.#makeCertificate()
    const lines = [
      'version: 0.1',
      'log: { level: info, accesslog: { disabled: false } }',
      `storage: { filesystem: { rootdirectory: ${this.data} }, delete: { enabled: ${deletes} } }`,
      'http:',
      `  addr: ${this.host}`,
      ...(tls ? [`  tls: { certificate: ${this.certificate}, key: ${join(this.folder, 'key.pem')} }`] : []),
    ]
    if (access === 'htpasswd') {
      const file = join(this.folder, 'htpasswd')
      writeFileSync(file, execFileSync('htpasswd', ['-Bbn', testUser.name, testUser.password]))
      lines.push('auth:', `  htpasswd: { realm: vlb, path: ${file} }`)
    }
    if (access === 'token') {
      const realm = await this.#startTokens()
      lines.push(
        'auth:',
        `  token: { realm: "${realm}", service: vlb, issuer: vlb, rootcertbundle: ${this.certificate} }`,
      )
    }
    writeFileSync(join(this.folder, 'config.yml'), `${lines.join('\n')}\n`)
  }

  #makeCertificate(): void {
    const subject = ['-subj', '/CN=vlb test', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost']
    const files = ['-keyout', join(this.folder, 'key.pem'), '-out', this.certificate]
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
    execFileSync('openssl', ['req', '-x509', ...kind, ...subject, ...files], { stdio: 'ignore' })
  }

  /** Asked for tokens so far: the scopes, and as whom. */
  readonly tokensAsked: { scopes: string[]; user: string }[] = []
  /** Repositories that nobody may read, or write. */
  forbidden = new Set<string>()

  /** The distribution project's token server, as small as it can be. */
  async #startTokens(): Promise<string> {
    const port = await freePort()
    this.#tokens = createServer((request, response) => {
      const url = new URL(request.url ?? '/', 'http://token')
      const scopes = url.searchParams.getAll('scope')
      const [, pair = ''] = /^Basic (.+)$/.exec(request.headers.authorization ?? '') ?? []
      const [user = '', ...rest] = Buffer.from(pair, 'base64').toString().split(':')
      this.tokensAsked.push({ scopes, user })
      if (pair !== '' && (user !== testUser.name || rest.join(':') !== testUser.password)) {
        response.writeHead(401).end('{"details":"incorrect username or password"}')
        return
      }
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ token: this.#token(scopes, user), expires_in: this.#options.tokenLife ?? 300 }))
    })
    this.#tokens.unref()
    await new Promise<void>((resolve) => this.#tokens?.listen(port, '127.0.0.1', resolve))
    return `http://127.0.0.1:${port}/token`
  }

  #token(scopes: string[], user: string): string {
    const key = readFileSync(join(this.folder, 'key.pem'))
    const spki = createPublicKey(createPrivateKey(key)).export({ type: 'spki', format: 'der' })
    // libtrust's name of a key: SHA-256 of it, 240 bits, in groups of four letters of base 32.
    const kid = base32(createHash('sha256').update(spki).digest().subarray(0, 30)).match(/.{4}/g)?.join(':')
    const access = scopes.flatMap((scope) => {
      const [type, name = '', actions = ''] = scope.split(':')
      const granted = this.forbidden.has(name) ? [] : actions.split(',').filter((one) => user !== '' || one === 'pull')
      return granted.length > 0 ? [{ type, name, actions: granted }] : []
    })
    const now = Math.floor(Date.now() / 1000)
    const life = this.#options.tokenLife ?? 300
    const times = { iat: now, nbf: now - 10, exp: now + life }
    const claims = { iss: 'vlb', aud: 'vlb', sub: user, jti: randomBytes(8).toString('hex'), ...times, access }
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const text = `${part({ typ: 'JWT', alg: 'ES256', kid })}.${part(claims)}`
    const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
    return `${text}.${signature.toString('base64url')}`
  }

  get log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8')
  }

  /** Requests since the log had that length: METHOD /path. */
  requests(since = 0): string[] {
    return [...this.log.slice(since).matchAll(/"([A-Z]+) (\/v2\/\S*) HTTP/g)].map((m) => `${m[1]} ${m[2]}`)
  }

  async run(): Promise<void> {
    const child = spawn(
      'sh',
      [
        '-c',
        'exec docker-registry serve "$1" >>"$2" 2>&1',
        'sh',
        join(this.folder, 'config.yml'),
        join(this.folder, 'log'),
      ],
      { stdio: 'ignore', env: { PATH: `${process.env['PATH']}` } },
    )
    this.#child = child
    for (let i = 0; i < 200; i++) {
      if (child.exitCode !== null) throw new Error(`docker-registry ended:\n${this.log}`)
      if (await this.#answers()) return
      await delay(50)
    }
    throw new Error('docker-registry does not answer')
  }

  async #answers(): Promise<boolean> {
    if (!this.#options.tls)
      return await fetch(`http://${this.host}/v2/`).then(
        () => true,
        () => false,
      )
    return await new Promise((resolve) => {
      const sent = httpsRequest(`https://${this.host}/v2/`, { rejectUnauthorized: false }, (answer) => {
        answer.resume()
        resolve(true)
      })
      sent.on('error', () => resolve(false)).end()
    })
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill(signal)
    await ended
  }

  async end(): Promise<void> {
    await this.stop('SIGKILL')
    this.#tokens?.closeAllConnections()
    this.#tokens?.close()
  }

  /** Path of a blob's bytes in its storage. */
  blobFile(digest: string): string {
    const hex = digest.replace('sha256:', '')
    return join(this.data, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data')
  }

  async tags(repository = 'team/web'): Promise<string[]> {
    const answer = await fetch(`http://${this.host}/v2/${repository}/tags/list`)
    return answer.status === 200 ? (((await answer.json()) as { tags: string[] | null }).tags ?? []) : []
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests look into JSON of any shape
  async manifest(tag: string, repository = 'team/web'): Promise<any> {
    const accept = 'application/vnd.oci.image.manifest.v1+json'
    const answer = await fetch(`http://${this.host}/v2/${repository}/manifests/${tag}`, { headers: { accept } })
    return answer.status === 200 ? await answer.json() : undefined
  }
}

function base32(bytes: Buffer): string {
  let bits = ''
  for (const byte of bytes) bits += byte.toString(2).padStart(8, '0')
  return (bits.match(/.{5}/g) ?? [])
    .map((five) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[Number.parseInt(five, 2)])
    .join('')
}
