// Bases that are downloaded: from servers that break off, lie, refuse or lead elsewhere.
import { createReadStream, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, inject } from 'vitest'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

type Answer = (request: IncomingMessage, response: ServerResponse, file: Served) => void | Promise<void>

interface Served {
  path: string
  size: number
  /** First byte asked for with Range. */
  from: number
  /** Where the program keeps what has arrived. */
  part: string
}

/** A server of one packed disk that answers as the test wants it. */
class Mirror {
  answer: Answer = ranged
  /** Of every request: the first byte it asked for. */
  readonly asked: number[] = []
  readonly #server: Server
  readonly file: string
  readonly digest: string

  constructor(rig: Rig) {
    this.file = `${rig.folder}/base.raw.gz`
    rig.tool('sh', '-c', 'gzip -1 <"$1" >"$2"', 'sh', inject('tinyDisk'), this.file)
    this.digest = rig.tool('sha256sum', this.file).split(' ')[0] ?? ''
    const size = statSync(this.file).size
    this.#server = createServer((request, response) => {
      const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
      this.asked.push(from)
      void this.answer(request, response, {
        path: this.file,
        size,
        from,
        part: rig.store('downloads', `sha256-${this.digest}.part`),
      })
    })
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return this
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/base.raw.gz`
  }

  close(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

/** As good servers do: the whole, or the rest that was asked for. */
const ranged: Answer = (_request, response, { path, size, from }) => {
  const part = from > 0 ? { 'content-range': `bytes ${from}-${size - 1}/${size}` } : {}
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': size - from, ...part })
  createReadStream(path, { start: from }).pipe(response)
}

/** A server that knows no Range. */
const whole: Answer = (request, response, file) => ranged(request, response, { ...file, from: 0 })

const piece = 10_000

/** Sends a piece of what it promised, waits until that has been written, and breaks off. */
const broken: Answer = async (_request, response, { path, size, from, part }) => {
  const range = from > 0 ? { 'content-range': `bytes ${from}-${size - 1}/${size}` } : {}
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': size - from, ...range })
  response.write(readFileSync(path).subarray(from, from + piece))
  while (!response.destroyed && (statSync(part, { throwIfNoEntry: false })?.size ?? 0) < from + piece) await delay(5)
  response.destroy()
}

/** Once this way, from then on another. */
const once =
  (first: Answer, mirror: Mirror, then: Answer): Answer =>
  (...args) => {
    mirror.answer = then
    void first(...args)
  }

const redirect =
  (location: string): Answer =>
  (_request, response) =>
    void response.writeHead(302, { location }).end()

const status =
  (code: number): Answer =>
  (_request, response) =>
    void response.writeHead(code).end('no')

function mirrorTest(name: string, body: (rig: Rig, mirror: Mirror) => Promise<void>): void {
  rigTest(name, async (rig) => {
    const mirror = await new Mirror(rig).listen()
    try {
      useBase(rig, mirror.url, mirror.digest)
      rig.write({ '.gitignore': '/build/\n', '10_a/build-layer': '#!/bin/sh\necho built > /a\n' })
      rig.commit()
      await body(rig, mirror)
    } finally {
      mirror.close()
    }
  })
}

function useBase(rig: Rig, url: string, digest: string): void {
  rig.write({ 'vlb.yaml': `version: 1\nbase: { url: "${url}", sha256: ${digest} }\n` })
}

const builds = async (rig: Rig) => {
  expect(await rig.build()).toEqual(['10_a built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('built\n')
}

describe('a server that works', () => {
  mirrorTest('has less than came before: that is dropped, and it is asked for all', async (rig, mirror) => {
    rig.tool('mkdir', '-p', rig.store('downloads'))
    writeFileSync(rig.store('downloads', `sha256-${mirror.digest}.part`), Buffer.alloc(statSync(mirror.file).size + 10))
    mirror.answer = (request, response, file) =>
      file.from > 0 ? void response.writeHead(416).end() : ranged(request, response, file)
    await builds(rig)
    expect(mirror.asked.at(-1)).toBe(0)
  })

  mirrorTest('is asked once, and never again', async (rig, mirror) => {
    await builds(rig)
    await rig.ok('status')
    rig.layer('20_b', 'true')
    expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
    expect(mirror.asked).toEqual([0])
  })

  mirrorTest('is not asked by what only looks', async (rig, mirror) => {
    await rig.ok('status')
    await rig.ok('build', '--dry-run')
    expect(mirror.asked).toEqual([])
  })

  mirrorTest('may lead to another place', async (rig, mirror) => {
    mirror.answer = once(redirect('/elsewhere'), mirror, ranged)
    await builds(rig)
    expect(mirror.asked).toHaveLength(2)
  })
})

describe('a server that breaks off', () => {
  mirrorTest('once: the download goes on where it stopped', async (rig, mirror) => {
    mirror.answer = once(broken, mirror, ranged)
    await builds(rig)
    expect(mirror.asked).toEqual([0, piece])
  })

  mirrorTest('once, and cannot go on: it starts anew', async (rig, mirror) => {
    mirror.answer = once(broken, mirror, whole)
    await builds(rig)
    expect(mirror.asked).toHaveLength(2)
  })

  mirrorTest(
    'always: after five tries the reason is told, and the next run goes on where this one stopped',
    async (rig, mirror) => {
      mirror.answer = broken
      await refused(rig, ['build'], {
        says: ['download failed 5 times', mirror.url],
        hint: ['check the network', 'goes on where this one stopped'],
      })
      const tries = [0, 1, 2, 3, 4].map((n) => n * piece)
      expect(mirror.asked).toEqual(tries)
      mirror.answer = ranged
      await builds(rig)
      expect(mirror.asked).toEqual([...tries, 5 * piece])
    },
  )

  mirrorTest('before it says a word', async (rig, mirror) => {
    mirror.answer = once((request) => void request.socket.destroy(), mirror, once(status(503), mirror, ranged))
    await builds(rig)
    expect(mirror.asked).toEqual([0, 0, 0])
  })
})

describe('a server that refuses', () => {
  for (const code of [404, 403, 410]) {
    mirrorTest(`with ${code}: at once`, async (rig, mirror) => {
      mirror.answer = status(code)
      await refused(rig, ['build'], { says: [mirror.url, `the server answers ${code}`], hint: 'correct base.url' })
      expect(mirror.asked).toHaveLength(1)
    })
  }

  mirrorTest('a password in the URL goes to the server, and is shown to nobody', async (rig, mirror) => {
    let authorization: string | undefined
    mirror.answer = (request, ...rest) => {
      authorization = request.headers.authorization
      return status(404)(request, ...rest)
    }
    useBase(rig, mirror.url.replace('//', '//user:hunter2@'), mirror.digest)
    const ran = await rig.vlb(['build', '--json'])
    expect(ran.code).toBe(2)
    expect(ran.all).toContain('the server answers 404')
    expect(authorization).toBe(`Basic ${btoa('user:hunter2')}`)
    expect(ran.all).not.toContain('hunter2')
    expect(mirror.asked).toHaveLength(1)
  })
})

describe('a server that lies', () => {
  mirrorTest('leads to a file of this host: not followed', async (rig, mirror) => {
    for (const place of [`file://${mirror.file}`, 'ftp://127.0.0.1/x', 'data:text/plain,x']) {
      mirror.asked.length = 0
      mirror.answer = redirect(place)
      await refused(rig, ['build'], {
        says: [mirror.url, 'leads where it is not followed'],
        hint: 'correct base.url',
      })
      expect(mirror.asked).toHaveLength(1)
    }
  })

  mirrorTest('leads to itself without end', async (rig, mirror) => {
    mirror.answer = redirect('/again')
    await refused(rig, ['build'], { says: [mirror.url, 'redirect'], hint: 'correct base.url' })
  })

  mirrorTest('serves another file: both digests are shown, and nothing is kept', async (rig, mirror) => {
    useBase(rig, mirror.url, 'cd'.repeat(32))
    await refused(rig, ['build'], {
      says: [mirror.url, `expected sha256 ${'cd'.repeat(32)}`, `found    sha256 ${mirror.digest}`],
      hint: 'put its digest into vlb.yaml',
    })
    expect(readdirSync(rig.store('downloads'))).toEqual([])
    expect(readdirSync(rig.store('bases'))).toEqual([])
    useBase(rig, mirror.url, mirror.digest)
    await builds(rig)
  })
})

rigTest('no server at all', async (rig) => {
  const mirror = await new Mirror(rig).listen()
  const { url } = mirror
  mirror.close()
  useBase(rig, url, mirror.digest)
  rig.write({ '10_a/build-layer': '#!/bin/sh\n' })
  rig.commit()
  await refused(rig, ['build'], { says: ['download failed 5 times', url, 'ECONNREFUSED'], hint: 'check the network' })
  expect(existsSync(rig.store('bases'))).toBe(true)
})
