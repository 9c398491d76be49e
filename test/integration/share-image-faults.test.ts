// What goes wrong with an image on its way, and who is not believed: played by a registry inside the test.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import { forge } from '../rig/forge.ts'
import { type Call, type Fault, FaultyRegistry } from '../rig/registry.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { signWith, sshKey, trustOnly } from '../rig/signers.ts'
import { withSmallDisk } from '../rig/small-disk.ts'

function faultTest(name: string, body: (rig: Rig, registry: FaultyRegistry, b: Clone) => Promise<void>): void {
  rigTest(name, async (rig) => {
    const registry = await FaultyRegistry.start()
    try {
      const script = 'dd if=/dev/urandom of=/a bs=1M count=3 2>/dev/null'
      rig.project({ '10_a': script }, `name: web\nremote: ${registry.remote()}\nseal: false\n`)
      rig.commit()
      await rig.build('--no-remote')
      await body(rig, registry, new Clone(rig, 'b', { base: false }))
    } finally {
      registry.end()
    }
  })
}

const image = (rig: Rig) => rig.path('build/image.qcow2')
const parts = (b: Clone) => readdirSync(join(b.folder, 'build')).filter((name) => name.endsWith('.part'))

/** A fault of downloads of the image itself. */
function ofTheImage(registry: FaultyRegistry, fault: () => Fault | undefined): void {
  registry.fault = ({ method, path }: Call) => {
    const size = registry.blobs.get(path.split('/').at(-1) ?? '')?.length ?? 0
    return method === 'GET' && path.includes('/blobs/') && size > 2 ** 21 ? fault() : undefined
  }
}

faultTest('a download that is cut goes on where it was', async (rig, registry, b) => {
  await rig.ok('push', '--image', 'v1')
  let cut = 0
  ofTheImage(registry, () => (cut++ < 1 ? { cutAfter: 2 ** 20 } : undefined))
  await b.ok('pull', '--image', 'v1')
  expect(registry.calls.flatMap(({ headers }) => headers.range ?? [])).toHaveLength(1)
  rig.tool('cmp', b.image, image(rig))
})

faultTest(
  'a pull that is killed leaves what was there and a .part file, with which the next one goes on',
  async (rig, registry, b) => {
    await rig.ok('push', '--image', 'v1')
    mkdirSync(join(b.folder, 'build'))
    writeFileSync(b.image, 'of yesterday')
    ofTheImage(registry, () => ({ waitAfter: 2 ** 20, until: new Promise(() => {}) }))
    const running = rig.start(['pull', '--image', 'v1'], { cwd: b.folder })
    const arrived = () => parts(b).some((name) => statSync(join(b.folder, 'build', name)).size >= 2 ** 20)
    await expect.poll(arrived, { timeout: 60_000 }).toBe(true)
    running.kill('SIGKILL')
    await running.ended
    expect(readFileSync(b.image, 'utf8')).toBe('of yesterday')
    expect(parts(b)).toEqual([expect.stringMatching(/^image\.qcow2\.[0-9a-f]{16}\.part$/)])
    // Of another image, which nobody will go on with.
    writeFileSync(join(b.folder, 'build', `image.qcow2.${'0'.repeat(16)}.part`), 'x')
    registry.fault = () => undefined
    const before = registry.calls.length
    await b.ok('pull', '--image', 'v1')
    expect(registry.calls.slice(before).flatMap(({ headers }) => headers.range ?? [])).toEqual([`bytes=${2 ** 20}-`])
    rig.tool('cmp', b.image, image(rig))
    expect(parts(b)).toEqual([])
  },
)

faultTest('an upload that is cut begins again, and the tag comes last', async (rig, registry, b) => {
  let cut = 0
  registry.fault = (call) => {
    const large = call.method === 'PUT' && Number(call.headers['content-length']) > 2 ** 21
    return large && cut++ < 1 ? { cutAfter: 2 ** 20 } : undefined
  }
  await rig.ok('push', '--image', 'v1')
  expect(cut).toBe(2)
  expect([...registry.sessions.keys()]).toEqual([])
  await b.ok('pull', '--image', 'v1')
  registry.manifests.clear()
  registry.blobs.clear()
  registry.fault = ({ method, path }) => (method === 'PUT' && path.includes('/uploads/') ? { status: 500 } : undefined)
  expect((await rig.vlb(['push', '--image', 'v1'])).code).toBe(2)
  expect(registry.manifests.size).toBe(0)
})

faultTest('a blob that was tampered with is refused, and what was there stays', async (rig, registry, b) => {
  const { image: pushed } = await rig.json('push', '--image', 'v1')
  const digest = `sha256:${pushed.sha256}`
  const bytes = Buffer.from(registry.blobs.get(digest) as Buffer)
  bytes[bytes.length - 1000] = (bytes[bytes.length - 1000] ?? 0) ^ 1
  registry.blobs.set(digest, bytes)
  mkdirSync(join(b.folder, 'build'))
  writeFileSync(b.image, 'of yesterday')
  const ran = await b.vlb('pull', '--image', 'v1')
  expect([ran.code, ran.stderr], ran.all).toEqual([4, expect.stringContaining(`the blob ${digest} is damaged at`)])
  expect(ran.stderr).toContain('nothing was written; whoever has the image can push it again')
  expect(readFileSync(b.image, 'utf8')).toBe('of yesterday')
  expect(parts(b).filter((name) => statSync(join(b.folder, 'build', name)).size > 0)).toEqual([])
  // Who has seen that it is damaged replaces it, in other pieces, for registries keep what they have.
  expect((await rig.vlb(['pull', '--image', 'v1', '-o', 'x'])).code).toBe(4)
  expect((await rig.json('push', '--image', 'v1')).result).toBe('pushed')
  await b.ok('pull', '--image', 'v1')
  rig.tool('cmp', b.image, image(rig))
})

faultTest('the manifest of another tag is refused', async (rig, registry, b) => {
  await rig.ok('push', '--image', 'v1')
  registry.manifests.set('team/web:v2', registry.manifests.get('team/web:v1') as Buffer)
  const ran = await b.vlb('pull', '--image', 'v2')
  expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('it was pushed as v1')])
  expect(existsSync(b.image)).toBe(false)
})

faultTest(
  'by ssh: only of known signers where that is required, and never with a wrong one',
  async (rig, registry, b) => {
    const [alice, mallory] = [sshKey(rig, 'alice'), sshKey(rig, 'mallory')]
    const refused = async (reason: string, from: Clone = b) => {
      const ran = await from.vlb('pull', '--image', 'v1')
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining(reason)])
      expect(existsSync(from.image)).toBe(false)
    }
    trustOnly(b, alice)
    await rig.ok('push', '--image', 'v1')
    await refused('the image v1 at 127.0.0.1')
    await refused('it is not signed')
    signWith(rig, 'mallory')
    // The same image, signed now, needs no force.
    expect(await rig.json('push', '--image', 'v1')).toMatchObject({ result: 'pushed', signed: true })
    await refused('it is signed by nobody known here')
    const careless = new Clone(rig, 'careless', { base: false })
    expect((await careless.ok('pull', '--image', 'v1')).stdout).toContain('not signed by anybody known here')
    signWith(rig, 'alice')
    rig.git('config', 'gpg.ssh.allowedSignersFile', join(rig.folder, 'signers'))
    writeFileSync(join(rig.folder, 'signers'), alice)
    expect((await rig.json('push', '--image', 'v1')).result).toBe('pushed')
    expect((await rig.json('push', '--image', 'v1')).result).toBe('there')
    expect((await rig.json('ls-remote')).images).toMatchObject([{ tag: 'v1', signer: 'alice@example.com' }])
    const good = JSON.parse((await b.ok('pull', '--image', 'v1', '--json')).stdout)
    expect(good).toMatchObject({ result: 'pulled', signer: 'alice@example.com' })
    // Of another key, and of another image.
    writeFileSync(join(b.folder, '.git/allowed'), mallory)
    const c = new Clone(rig, 'c', { base: false })
    trustOnly(c, alice)
    const sound = registry.manifests.get('team/web:v1') as Buffer
    forge(registry, 'v1', (config) => (config.project = 'other'))
    await refused('its signature does not fit it', c)
    await refused('its signature does not fit it', new Clone(rig, 'd', { base: false }))
    // A replay under another tag.
    forge(registry, 'v1', (config) => (config.tag = 'v2'))
    registry.manifests.set('team/web:v2', registry.manifests.get('team/web:v1') as Buffer)
    registry.manifests.set('team/web:v1', sound)
    const replayed = await c.vlb('pull', '--image', 'v2')
    expect([replayed.code, replayed.stderr]).toEqual([2, expect.stringContaining('its signature does not fit it')])
  },
)

faultTest('a disk that has no room: told, and nothing is left on it', async (rig, registry, b) => {
  await rig.ok('push', '--image', 'v1')
  await withSmallDisk(rig, join(b.folder, 'build'), 'size=8M', async (disk) => {
    const filler = join(disk.path, 'filler')
    writeFileSync(filler, Buffer.alloc(disk.free() - 2 ** 20))
    const before = await b.vlb('pull', '--image', 'v1')
    expect([before.code, before.stderr]).toEqual([
      3,
      expect.stringMatching(/no space left .*: about .* needed, .* free/),
    ])
    expect(parts(b)).toEqual([])
    // And in the middle.
    writeFileSync(filler, '')
    let go = () => {}
    const until = new Promise<void>((resolve) => (go = resolve))
    ofTheImage(registry, () => ({ waitAfter: 2 ** 20, until }))
    const running = rig.start(['pull', '--image', 'v1'], { cwd: b.folder })
    await expect.poll(() => parts(b).length, { timeout: 60_000 }).toBe(1)
    rig.tool('sh', '-c', `cat /dev/zero > ${filler} 2>/dev/null || true`)
    go()
    const ran = await running.ended
    expect([ran.code, ran.stderr], ran.all).toEqual([3, expect.stringContaining('no space left on the host')])
    expect(readdirSync(disk.path)).toEqual(['filler'])
  })
})

faultTest('an image that would have a program open other files is refused', async (rig, registry, b) => {
  await rig.ok('build', '--no-remote', '--format', 'vmdk', '--format', 'raw', '--format', 'qcow2')
  for (const format of ['vmdk', 'raw', 'qcow2']) await rig.ok('push', '--image', format, '--format', format)
  const secret = join(rig.folder, 'secret')
  writeFileSync(secret, 'x'.repeat(2 ** 20))
  const path = join(rig.folder, 'tampered')
  const swap = (tag: string, change: () => void) =>
    forge(registry, tag, ({ disk }, put, { layers }) => {
      writeFileSync(path, registry.blobs.get(disk.file.parts[0].digest) as Buffer)
      change()
      const blob = put(readFileSync(path))
      Object.assign(layers[0], blob)
      disk.file = { size: blob.size, parts: [blob] }
      disk.sha256 = blob.digest.slice('sha256:'.length)
    })
  const refused = async (tag: string, reason: string) => {
    const ran = await b.vlb('pull', '--image', tag)
    expect([ran.code, ran.stderr], ran.all).toEqual([4, expect.stringContaining(`is not taken: it ${reason}`)])
    expect(readdirSync(join(b.folder, 'build'))).toEqual([])
  }
  swap('qcow2', () => rig.tool('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', secret, path))
  await refused('qcow2', 'names another file')
  swap('qcow2', () => rig.tool('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M'))
  await refused('qcow2', 'is a disk of 1048576 bytes instead of')
  swap('raw', () => rig.tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', secret, path))
  await refused('raw', 'is no raw disk, but a qcow2')
  swap('vmdk', () => {
    writeFileSync(path, `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\nRW 2048 FLAT "${secret}" 0\n`)
  })
  await refused('vmdk', 'is no sparse VMDK')
})

faultTest('an image whose description the registry lost is pushed again', async (rig, registry, b) => {
  await rig.ok('push', '--image', 'v1')
  const { config } = JSON.parse(registry.manifests.get('team/web:v1')?.toString() ?? '{}')
  registry.blobs.set(config.digest, Buffer.from('{'))
  const pulled = await b.vlb('pull', '--image', 'v1')
  expect(pulled.code, pulled.all).not.toBe(0)
  await rig.ok('push', '--image', 'v1')
  await b.ok('pull', '--image', 'v1')
  rig.tool('cmp', b.image, image(rig))
})
