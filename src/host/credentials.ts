// Who we are to a registry: what docker's configuration knows, else what git's credential helpers know. A secret goes
// through pipes only, never into an argument, a message or a trace.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { printable } from '../core/errors.ts'
import { spawn } from './run.ts'

export interface Login {
  user: string
  secret: string
  /** `token`: the secret is what docker calls an identity token (OAuth 2.0, refresh token). */
  kind: 'password' | 'token'
  /** For messages: who, and where that was found. */
  shown: string
}

interface DockerConfig {
  auths?: Record<string, { auth?: string; username?: string; password?: string; identitytoken?: string }>
  credHelpers?: Record<string, string>
  credsStore?: string
}

/** The login for a registry, or undefined: then it is asked as anybody. git's own configuration is that of `cwd`. */
export async function findLogin(host: string, scheme: 'https' | 'http', cwd: string): Promise<Login | undefined> {
  return (await fromDocker(host, cwd)) ?? (await fromGit(host, scheme, cwd))
}

async function fromDocker(host: string, cwd: string): Promise<Login | undefined> {
  const folder = process.env['DOCKER_CONFIG'] || join(process.env['HOME'] ?? '/root', '.docker')
  const file = join(folder, 'config.json')
  const config = await readConfig(file)
  if (!config) return undefined
  const helper = own(config.credHelpers, host) ?? config.credsStore
  if (typeof helper === 'string' && /^[A-Za-z0-9._-]+$/.test(helper)) {
    const found = await askHelper(helper, host, cwd)
    if (found) return found
  }
  for (const name of [host, `https://${host}`, `http://${host}`, `https://${host}/v1/`, `https://${host}/v2/`]) {
    const entry = own(config.auths, name)
    const login = entry && decode(entry)
    if (login) return { ...login, shown: `${printable(login.user, 80)}, from ${file}` }
  }
  return undefined
}

async function readConfig(file: string): Promise<DockerConfig | undefined> {
  try {
    const data = JSON.parse(await readFile(file, 'utf8')) as DockerConfig | null
    return typeof data === 'object' && data !== null ? data : undefined
  } catch {
    // Absent, or not for us to repair.
    return undefined
  }
}

function own<T>(values: Record<string, T> | undefined, name: string): T | undefined {
  return values && Object.hasOwn(values, name) ? values[name] : undefined
}

function decode(entry: NonNullable<DockerConfig['auths']>[string]): Omit<Login, 'shown'> | undefined {
  const text = entry.auth ? Buffer.from(entry.auth, 'base64').toString('utf8').replace(/\0+$/, '') : ''
  const colon = text.indexOf(':')
  const user = entry.username ?? text.slice(0, Math.max(0, colon))
  if (entry.identitytoken) return { user, secret: entry.identitytoken, kind: 'token' }
  const secret = entry.password ?? (colon < 0 ? '' : text.slice(colon + 1))
  return secret === '' ? undefined : { user, secret, kind: 'password' }
}

/** docker-credential-helpers: the server's name on standard input, JSON on standard output. */
async function askHelper(helper: string, host: string, cwd: string): Promise<Login | undefined> {
  const program = `docker-credential-${helper}`
  const answer = await exchange(program, ['get'], `${host}\n`, { cwd })
  if (answer === undefined) return undefined
  try {
    const { Username = '', Secret = '' } = JSON.parse(answer) as { Username?: string; Secret?: string }
    if (Secret === '') return undefined
    // The name that stands for an identity token.
    const kind = Username === '<token>' ? 'token' : 'password'
    return { user: Username, secret: Secret, kind, shown: `${printable(Username, 80)}, from ${program}` }
  } catch {
    return undefined
  }
}

/** git-credential(1): what git itself would send to that host. Nobody is asked. */
async function fromGit(host: string, scheme: string, cwd: string): Promise<Login | undefined> {
  const silent = ['-c', 'core.askPass=', '-c', 'credential.interactive=false', 'credential', 'fill']
  const answer = await exchange('git', silent, `protocol=${scheme}\nhost=${host}\n\n`, {
    cwd,
    env: { GIT_TERMINAL_PROMPT: '0' },
  })
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(answer ?? '')?.[1] ?? ''
  const [user, secret] = [value('username'), value('password')]
  if (secret === '') return undefined
  return { user, secret, kind: 'password', shown: `${printable(user, 80)}, from git credential` }
}

/** What a program answers to that input; undefined if it has no answer, or is not there. */
async function exchange(
  program: string,
  args: readonly string[],
  input: string,
  options: { cwd: string; env?: Record<string, string> },
): Promise<string | undefined> {
  const child = spawn(program, args, options)
  child.stdin?.end(input)
  let said = ''
  child.stdout?.on('data', (chunk: Buffer) => (said += chunk.toString('utf8')))
  // A helper that waits for somebody to unlock something must not hold up a build for ever.
  const limit = setTimeout(() => child.kill('SIGKILL'), 30_000)
  const { exitCode } = await child.ended
  clearTimeout(limit)
  return exitCode === 0 ? said : undefined
}
