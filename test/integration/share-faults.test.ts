// What goes wrong between a machine and a registry, played by a registry inside the test.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import { type Call, FaultyRegistry } from '../rig/registry.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

/** Two layers; the second has enough in it that a connection can be cut in the middle. */
const layers = { '10_a': 'echo a > /a', '20_b': 'dd if=/dev/urandom of=/b bs=1M count=3 2>/dev/null' }

function faultTest(name: string, body: (rig: Rig, registry: FaultyRegistry) => Promise<void>): void {
  rigTest(name, async (rig) => {
    const registry = await FaultyRegistry.start()
    try {
      rig.project(layers, `remote: ${registry.remote()}\nseal: false\n`)
      rig.commit()
      await rig.build('--no-remote')
      await body(rig, registry)
    } finally {
      registry.end()
    }
  })
}

const pulled = ['10_a pulled', '20_b pulled']
const isBlob = ({ method, path }: Call, which: string) =>
  method === which && /\/blobs\/(sha256:|uploads\/\d)/.test(path)

faultTest('an upload whose connection is cut begins again, and nothing stays behind', async (rig, registry) => {
  let cut = 0
  registry.fault = (call) => {
    if (!isBlob(call, 'PUT') || Number(call.headers['content-length']) < 2 ** 21 || cut >= 2) return undefined
    cut++
    return { cutAfter: 2 ** 20 }
  }
  await rig.ok('push')
  expect(cut).toBe(2)
  expect([...registry.sessions.keys()]).toEqual([])
  expect(await new Clone(rig, 'b').build()).toEqual(pulled)
})

faultTest('a download that is cut goes on where it was', async (rig, registry) => {
  await rig.ok('push')
  let cut = 0
  registry.fault = (call) => {
    const size = registry.blobs.get(call.path.split('/').at(-1) ?? '')?.length ?? 0
    return isBlob(call, 'GET') && size > 2 ** 21 && cut++ < 1 ? { cutAfter: 2 ** 20 } : undefined
  }
  const b = new Clone(rig, 'b')
  expect(await b.build()).toEqual(pulled)
  const ranges = registry.calls.flatMap(({ headers }) => headers.range ?? [])
  expect(ranges).toHaveLength(1)
  expect(Number(ranges[0]?.replace(/\D/g, ''))).toBeGreaterThan(0)
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
})

faultTest('a pull that is killed leaves no snapshot, and the next one goes on where it was', async (rig, registry) => {
  await rig.ok('push')
  const never = new Promise(() => {})
  registry.fault = (call) => {
    const size = registry.blobs.get(call.path.split('/').at(-1) ?? '')?.length ?? 0
    return isBlob(call, 'GET') && size > 2 ** 21 ? { waitAfter: 2 ** 20, until: never } : undefined
  }
  const b = new Clone(rig, 'b')
  const running = rig.start(['pull'], { cwd: b.folder })
  const part = async () => {
    const files = existsSync(b.store('downloads')) ? readdirSync(b.store('downloads')) : []
    return files.some((name) => name.endsWith('.part') && statSync(b.store('downloads', name)).size >= 2 ** 20)
  }
  await expect.poll(part, { timeout: 60_000 }).toBe(true)
  running.kill('SIGKILL')
  await running.ended
  registry.fault = () => undefined
  const before = registry.calls.length
  await b.ok('pull')
  const ranges = registry.calls.slice(before).flatMap(({ headers }) => headers.range ?? [])
  expect(ranges).toEqual([`bytes=${2 ** 20}-`])
  expect(await b.build('--no-remote', '--frozen')).toEqual(['10_a cached', '20_b cached'])
  expect(readdirSync(b.store('downloads'))).toEqual([])
})

faultTest('damage to what an earlier run left is found, and that is fetched again', async (rig, registry) => {
  await rig.ok('push')
  registry.fault = (call) => {
    if (!isBlob(call, 'GET') || call.nth <= 2) return undefined
    return call.nth <= 4 ? { cutAfter: 1000 } : { status: 503 }
  }
  const b = new Clone(rig, 'b')
  expect((await b.vlb('pull')).code).toBe(2)
  for (const name of readdirSync(b.store('downloads'))) writeFileSync(b.store('downloads', name), 'x'.repeat(5000))
  registry.fault = () => undefined
  await b.ok('pull')
  expect(await b.build('--no-remote', '--frozen')).toEqual(['10_a cached', '20_b cached'])
})

faultTest('a login that ends in the middle of an upload is shown again', async (rig, registry) => {
  registry.login = 'alice:correct horse'
  const auth = Buffer.from(registry.login).toString('base64')
  rig.write({ '../home/.docker/config.json': JSON.stringify({ auths: { [registry.host]: { auth } } }) })
  let refused = 0
  registry.fault = (call) => {
    if (!isBlob(call, 'PUT') || refused++ > 0) return undefined
    return { status: 401, headers: { 'www-authenticate': 'Basic realm="again"' } }
  }
  await rig.ok('push')
  expect(await new Clone(rig, 'b').build()).toEqual(pulled)
})

faultTest('a registry whose disk is full: it is told, and the upload is given up there', async (rig, registry) => {
  registry.fault = (call) =>
    isBlob(call, 'PUT') ? { status: 500, body: '{"errors":[{"code":"UNKNOWN"}]}' } : undefined
  const ran = await rig.vlb(['push'])
  expect(ran.code).toBe(2)
  expect(ran.stderr).toContain(`the registry of ${registry.remote()} refuses`)
  expect(ran.stderr).toContain('is its disk full?')
  expect([...registry.sessions.keys()]).toEqual([])
  expect(registry.manifests.size).toBe(0)
})

faultTest('a registry that is silent or down holds no build up, and is one line', async (rig, registry) => {
  registry.fault = () => ({ silent: true })
  const b = new Clone(rig, 'b')
  const silent = await b.told()
  expect(silent.layers).toEqual(['10_a built', '20_b built'])
  expect(silent.stderr.match(/warning/g)).toHaveLength(1)
  expect(silent.stderr).toContain(`the registry ${registry.host} cannot be reached`)
  registry.end()
  const down = await new Clone(rig, 'c').told()
  expect(down.layers).toEqual(['10_a built', '20_b built'])
  expect(down.stderr.match(/warning.*/g)).toEqual([expect.stringMatching(/ECONNREFUSED.*going on without it/)])
  const ran = await b.vlb('push')
  expect(ran.code).toBe(2)
  expect(ran.stderr).toContain('hint: ')
})

faultTest('a blob that is served from elsewhere: nobody else gets the login', async (rig, registry) => {
  await rig.ok('push')
  const other = await FaultyRegistry.start()
  try {
    for (const [digest, bytes] of registry.blobs) other.blobs.set(digest, bytes)
    registry.login = 'alice:correct horse'
    const auth = Buffer.from(registry.login).toString('base64')
    rig.write({ '../home/.docker/config.json': JSON.stringify({ auths: { [registry.host]: { auth } } }) })
    registry.fault = (call) =>
      isBlob(call, 'GET') && call.headers.authorization
        ? { status: 307, headers: { location: `http://${other.host}${call.path}` } }
        : undefined
    expect(await new Clone(rig, 'b').build()).toEqual(pulled)
    expect(other.calls.length).toBeGreaterThan(3)
    expect(other.calls.flatMap(({ headers }) => headers.authorization ?? [])).toEqual([])
  } finally {
    other.end()
  }
})

faultTest(
  'this host full in the middle of a pull: said, and what came is not left to fill it',
  async (rig, registry) => {
    await rig.ok('push')
    const b = new Clone(rig, 'b')
    const store = join(rig.folder, 'small')
    rig.tool('mkdir', store)
    rig.tool('mount', '-t', 'tmpfs', '-o', 'size=64M', 'tmpfs', store)
    try {
      b.git('config', 'vlb.store', store)
      // The base is there, and the lower layer.
      await b.ok('build', '--last', '10_a')
      let go = () => {}
      const until = new Promise<void>((resolve) => (go = resolve))
      registry.fault = (call) => {
        const size = registry.blobs.get(call.path.split('/').at(-1) ?? '')?.length ?? 0
        return isBlob(call, 'GET') && size > 2 ** 21 ? { waitAfter: 2 ** 20, until } : undefined
      }
      const running = rig.start(['pull'], { cwd: b.folder })
      const arrived = () => existsSync(join(store, 'downloads'))
      await expect.poll(arrived, { timeout: 60_000 }).toBe(true)
      await expect
        .poll(
          () =>
            readdirSync(join(store, 'downloads')).some((n) => statSync(join(store, 'downloads', n)).size === 2 ** 20),
          { timeout: 60_000 },
        )
        .toBe(true)
      rig.tool('sh', '-c', `cat /dev/zero > ${store}/filler 2>/dev/null || true`)
      go()
      const ran = await running.ended
      expect(ran.code, ran.all).toBe(3)
      expect(ran.stderr).toContain('no space left on the host')
      const large = readdirSync(join(store, 'downloads')).filter(
        (n) => statSync(join(store, 'downloads', n)).size >= 2 ** 20,
      )
      expect(large).toEqual([])
      // Beforehand it is seen, too.
      rig.tool('sh', '-c', `truncate -s -1M ${store}/filler`)
      const again = await b.vlb('pull')
      expect(again.code).toBe(3)
      expect(again.stderr).toMatch(/no space left on the host to write .*downloads: about .* needed, .* free/)
    } finally {
      rig.tool('umount', store)
    }
  },
)

faultTest('a manifest under another key is refused, and its layer built', async (rig, registry) => {
  await rig.ok('push')
  const tags = [...registry.manifests.keys()]
  const [first = '', second = ''] = tags
  registry.manifests.set(second, registry.manifests.get(first) as Buffer)
  const b = new Clone(rig, 'b')
  const { layers: built, stderr } = await b.told()
  expect(built).toEqual(['10_a pulled', '20_b built'])
  expect(stderr).toContain('is not taken: it is of another key')
})

faultTest('an overlay that names files of this host: never followed, or refused', async (rig, registry) => {
  await rig.ok('push')
  const secret = join(rig.folder, 'secret')
  writeFileSync(secret, 'x'.repeat(1024 * 1024))
  const sound = new Map(registry.manifests)
  const tampered = (change: (file: string) => void) => {
    for (const [tag, bytes] of sound) registry.manifests.set(tag, bytes)
    return replaceTop(rig, registry, change)
  }
  const backing = tampered((file) =>
    rig.tool('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', secret, file),
  )
  const b = new Clone(rig, 'b')
  expect(await b.build()).toEqual(pulled)
  const [top = ''] = readdirSync(b.store('snapshots')).filter((id) => !backing.below.includes(id))
  const info = JSON.parse(rig.tool('qemu-img', 'info', '--output=json', b.store('chain', `${top}.qcow2`)))
  expect(info['backing-filename']).toBe(`${backing.below[0]}.qcow2`)
  tampered((file) => {
    const bytes = readFileSync(file)
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(72) | 4n, 72)
    writeFileSync(file, bytes)
  })
  const c = await new Clone(rig, 'c').told()
  expect(c.layers).toEqual(['10_a pulled', '20_b built'])
  expect(c.stderr).toContain('has its data in another file')
  tampered((file) => {
    const bytes = readFileSync(file)
    bytes.writeBigUInt64BE(bytes.readBigUInt64BE(24) * 2n, 24)
    writeFileSync(file, bytes)
  })
  const d = await new Clone(rig, 'd').told()
  expect(d.layers).toEqual(['10_a pulled', '20_b built'])
  expect(d.stderr).toMatch(/is a disk of \d+ bytes instead of \d+/)
  tampered((file) => writeFileSync(file, 'no qcow2'.repeat(100)))
  const e = await new Clone(rig, 'e').told()
  expect(e.layers).toEqual(['10_a pulled', '20_b built'])
  expect(e.stderr).toContain('is no qcow2')
})

/** Puts another overlay in the place of the topmost one, with digests that fit. */
function replaceTop(rig: Rig, registry: FaultyRegistry, change: (file: string) => void): { below: string[] } {
  for (const [tag, bytes] of registry.manifests) {
    const manifest = JSON.parse(bytes.toString('utf8'))
    const config = JSON.parse((registry.blobs.get(manifest.config.digest) as Buffer).toString('utf8'))
    if (config.layers.length < 2) continue
    const { file } = config.layers.at(-1)
    const old = file.parts[0].digest
    const path = join(rig.folder, 'tampered')
    writeFileSync(path, registry.blobs.get(old) as Buffer)
    change(path)
    const put = (content: Buffer) => {
      const digest = `sha256:${rig.tool('sha256sum', writeTo(path, content)).slice(0, 64)}`
      registry.blobs.set(digest, content)
      return { digest, size: content.length }
    }
    const blob = put(readFileSync(path))
    Object.assign(file, { size: blob.size, parts: [blob] })
    for (const layer of manifest.layers) if (layer.digest === old) Object.assign(layer, blob)
    Object.assign(manifest.config, put(Buffer.from(JSON.stringify(config))))
    registry.manifests.set(tag, Buffer.from(JSON.stringify(manifest)))
    return { below: config.layers.slice(0, -1).map((one: { manifest: { key: string } }) => one.manifest.key) }
  }
  throw new Error('no manifest of two layers')
}

function writeTo(path: string, content: Buffer): string {
  writeFileSync(path, content)
  return path
}
