// Downloads a file with resume: what has arrived lies in a `.part` file, which a later try or run continues. The caller
// checks the digest of the whole; a server that changed the file in between is found by that.
import { createWriteStream } from 'node:fs'
import { open, rename, stat, truncate } from 'node:fs/promises'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { printable, VlbError } from '../core/errors.ts'
import { formatBytes } from '../core/units.ts'
import { shareWithGroup } from './files.ts'

import { freeSpace, isSpaceError, requireSpace, spaceError } from './space.ts'

export interface DownloadOptions {
  signal: AbortSignal
  onProgress: (done: number, total: number | undefined) => void
  onRetry: (reason: string) => void
}

const tries = 5
/** A server that sends nothing for this long is given up on, in milliseconds. */
const silence = 30_000

/**
 * Fetches `url` into `target` by way of `target.part`. Only http and https, also after redirects. Tells whether an earlier run
 * had a part of it.
 */
export async function download(url: string, target: string, options: DownloadOptions): Promise<'whole' | 'resumed'> {
  const part = `${target}.part`
  const before = await sizeOf(part)
  // Another user of the store may have to go on with it.
  await (await open(part, 'a')).close()
  await shareWithGroup(part)
  for (let attempt = 1; ; attempt++) {
    try {
      await fetchRest(url, part, options)
      await rename(part, target)
      return before > 0 ? 'resumed' : 'whole'
    } catch (error) {
      options.signal.throwIfAborted()
      if (isSpaceError(error)) throw spaceError(target, { cause: error })
      // A TypeError of fetch has a cause; one without is ours.
      if (error instanceof VlbError || (error instanceof TypeError && error.cause === undefined)) throw error
      const reason = reasonOf(error)
      if (/redirect|scheme/i.test(reason)) {
        throw new VlbError('VLB_BASE_DOWNLOAD', `${withoutSecrets(url)} leads where it is not followed: ${reason}`, {
          hint: 'correct base.url in vlb.yaml',
          cause: error,
        })
      }
      if (attempt === tries) {
        throw new VlbError('VLB_BASE_DOWNLOAD', `download failed ${tries} times: ${withoutSecrets(url)}: ${reason}`, {
          hint: 'check the network and run the command again: it goes on where this one stopped',
          cause: error,
        })
      }
      options.onRetry(reason)
      await delay(Math.min(200 * 2 ** attempt, 5000), undefined, { signal: options.signal })
    }
  }
}

async function fetchRest(url: string, part: string, options: DownloadOptions): Promise<void> {
  // CommonJS: everything hangs on the default export once it is bundled.
  const { EnvHttpProxyAgent, fetch } = (await import('undici')).default
  const have = await sizeOf(part)
  const { address, authorization } = splitCredentials(url)
  const response = await fetch(address, {
    signal: options.signal,
    // Compressed transfer would make lengths and ranges mean something else than the file's bytes.
    headers: {
      'accept-encoding': 'identity',
      ...(have > 0 ? { range: `bytes=${have}-` } : {}),
      ...(authorization ? { authorization } : {}),
    },
    dispatcher: new EnvHttpProxyAgent({ bodyTimeout: silence, headersTimeout: silence }),
  })
  if (response.status === 416 && have > 0 && wholeSize(response.headers.get('content-range')) === have) return
  if (!response.ok) {
    await response.body?.cancel()
    if (response.status === 416 && have > 0) {
      // What has come is not the beginning of what the server has now.
      await truncate(part)
      throw new Error('the server has less than came before')
    }
    if (response.status >= 500 || response.status === 429) throw new Error(`the server answers ${response.status}`)
    throw new VlbError(
      'VLB_BASE_DOWNLOAD',
      `${withoutSecrets(url)}: the server answers ${response.status} ${printable(response.statusText)}`,
      {
        hint: 'correct base.url in vlb.yaml; old releases are often moved away',
      },
    )
  }
  const resumed = response.status === 206
  const free = freeSpace(part)
  const total = resumed
    ? wholeSize(response.headers.get('content-range'))
    : Number(response.headers.get('content-length')) || undefined
  let done = resumed ? have : 0
  try {
    if (total !== undefined) requireSpace(part, total - done)
  } catch (error) {
    await response.body?.cancel()
    throw error
  }
  // A server that does not say how much it sends may send without end, and what nobody wants is not to fill the disk.
  const most = total ?? done + (free ?? Number.POSITIVE_INFINITY) * mostOfFree
  const count = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length
      if (done > most)
        return next(total === undefined ? endless(url, done) : new Error(`more than ${total} bytes come`))
      options.onProgress(done, total)
      next(null, chunk)
    },
  })
  const body = response.body
    ? Readable.fromWeb(response.body as import('node:stream/web').ReadableStream)
    : Readable.from([])
  try {
    await pipeline(body, count, createWriteStream(part, { flags: resumed ? 'a' : 'w' }), { signal: options.signal })
  } catch (error) {
    // What has come is of no use, and in the way.
    if (done > most) await truncate(part)
    throw error
  }
  if (total !== undefined && done !== total) throw new Error(`the connection ended after ${done} of ${total} bytes`)
}

/** Of the free space, what a download of unknown length may take. */
const mostOfFree = 0.9

function endless(url: string, bytes: number): VlbError {
  return new VlbError(
    'VLB_BASE_DOWNLOAD',
    `${withoutSecrets(url)}: the server does not say how much it sends, and it is more than ${formatBytes(bytes)}: nearly all that is free`,
    { hint: 'see: df -h; free some space, or correct base.url in vlb.yaml' },
  )
}

/** fetch takes no URL with user and password in it. It sends the header on to no other server (Fetch, 4.4). */
function splitCredentials(url: string): { address: URL; authorization: string | undefined } {
  const address = new URL(url)
  const { username, password } = address
  address.username = ''
  address.password = ''
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { address, authorization: pair === ':' ? undefined : `Basic ${Buffer.from(pair).toString('base64')}` }
}

/** The 10 of a Content-Range header such as `bytes 5-9/10`. */
function wholeSize(contentRange: string | null): number | undefined {
  const match = /\/(\d+)$/.exec(contentRange ?? '')
  return match ? Number(match[1]) : undefined
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0
}

/** undici hides the reason (ECONNREFUSED, certificate…) in the cause of "fetch failed". */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return printable(cause instanceof Error ? cause.message || cause.name : String(cause))
}

/** A URL without user and password, fit for a message. */
export function withoutSecrets(url: string): string {
  const parsed = new URL(url)
  parsed.username = ''
  parsed.password = ''
  return printable(parsed.href)
}
