// One contract for every kind of registry, and what Debian's does when its disk, its blobs or its process fail.
import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import { DockerRegistry, type RegistryOptions, testUser } from '../rig/docker-registry.ts'
import type { Need } from '../rig/need.ts'
import { FaultyRegistry } from '../rig/registry.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:docker-registry', 'tool:htpasswd', 'tool:openssl', 'tool:busybox']
const layers = { '10_a': 'seq 1 100000 > /a', '20_b': 'dd if=/dev/urandom of=/b bs=1M count=2 2>/dev/null' }
const pulled = ['10_a pulled', '20_b pulled']

function registryTest(
  name: string,
  options: RegistryOptions,
  body: (rig: Rig, registry: DockerRegistry) => Promise<void>,
): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await DockerRegistry.start(join(rig.folder, 'registry'), options)
      try {
        await start(rig, registry.remote())
        await body(rig, registry)
      } finally {
        await registry.end()
      }
    },
    needs,
  )
}

async function start(rig: Rig, remote: string): Promise<void> {
  rig.project(layers, `remote: ${remote}\nseal: false\n`)
  rig.commit()
  await rig.build('--no-remote')
}

function logIn(rig: Rig, host: string, user = testUser): void {
  rig.write({ '../home/.docker/config.json': DockerRegistry.login(host, user) })
}

/** What sharing is, whatever the registry. */
async function contract(rig: Rig): Promise<void> {
  const results = async (...args: string[]) =>
    (await rig.json(...args)).layers.map((layer: { result: string }) => layer.result)
  expect(await results('pull')).toEqual(['cached', 'cached'])
  expect(await results('push')).toEqual(['pushed', 'pushed'])
  expect(await results('push')).toEqual(['there', 'there'])
  const b = new Clone(rig, 'b')
  expect(await b.build()).toEqual(pulled)
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
  for (const [name, file] of [
    ['10_a', 'packages.json'],
    ['20_b', 'build.log'],
  ] as const) {
    const { layers: all } = await rig.json('build')
    const { key } = all.find((layer: { name: string }) => layer.name === name)
    expect(readFileSync(b.store('snapshots', key, file))).toEqual(readFileSync(rig.store('snapshots', key, file)))
  }
  b.layer('30_c', 'cat /a > /c')
  await b.build()
  await b.ok('push')
  rig.layer('30_c', 'cat /a > /c')
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached', '30_c pulled'])
  const { snapshots } = await rig.json('ls-remote')
  expect(snapshots.map(({ layer, here }: { layer: string; here: boolean }) => `${layer} ${here}`)).toEqual([
    '30_c true',
    '20_b true',
    '10_a true',
  ])
  expect(snapshots[1].bytes).toBeGreaterThan(2 ** 21)
  expect(snapshots[0].chainBytes).toBeGreaterThan(snapshots[1].chainBytes)
}

registryTest('the contract: an open registry', {}, contract)

registryTest('the contract: with a password', { access: 'htpasswd' }, async (rig, registry) => {
  logIn(rig, registry.host)
  await contract(rig)
})

registryTest('the contract: with tokens', { access: 'token' }, async (rig, registry) => {
  logIn(rig, registry.host)
  await contract(rig)
  expect(registry.tokensAsked.map(({ user }) => user)).toContain('alice')
})

registryTest('the contract: with TLS that this project trusts', { tls: true }, async (rig, registry) => {
  rig.git('config', '--global', 'vlb.remoteCA', registry.certificate)
  await contract(rig)
})

rigTest('the contract: a registry of the tests', async (rig) => {
  const registry = await FaultyRegistry.start()
  try {
    await start(rig, registry.remote())
    await contract(rig)
  } finally {
    registry.end()
  }
})

registryTest('a certificate that nobody vouches for is refused', { tls: true }, async (rig, registry) => {
  const ran = await rig.vlb(['push'])
  expect(ran.code).toBe(2)
  expect(ran.stderr).toMatch(/error: .*shows a certificate that is not trusted: self.signed/)
  expect(ran.stderr).toContain('git config vlb.remoteCA FILE')
  expect((await rig.vlb(['push'], { env: { NODE_EXTRA_CA_CERTS: registry.certificate } })).code).toBe(0)
  const b = await new Clone(rig, 'b').told()
  expect(b.layers).toEqual(['10_a built', '20_b built'])
  expect(b.stderr.match(/warning/g)).toHaveLength(1)
})

registryTest(
  'no login, or a wrong one: which was tried is told, and no secret',
  { access: 'htpasswd' },
  async (rig, registry) => {
    const none = await rig.vlb(['push'])
    expect(none.code).toBe(2)
    expect(none.stderr).toContain(`the registry ${registry.host} does not let us at ${registry.remote()}`)
    expect(none.stderr).toContain('asked without a login, for none was found')
    logIn(rig, registry.host, { name: 'mallory', password: 'swordfish' })
    const wrong = await rig.vlb(['push'], { env: { VLB_TRACE: '1' } })
    expect(wrong.code).toBe(2)
    expect(wrong.stderr).toMatch(/tried as mallory, from .*\.docker\/config\.json/)
    const b = await new Clone(rig, 'b').told()
    expect(b.layers).toEqual(['10_a built', '20_b built'])
    expect(b.stderr).toMatch(/warning: .*tried as mallory.*docker login/)
    for (const text of [wrong.all, b.stderr])
      for (const secret of ['swordfish', Buffer.from('mallory:swordfish').toString('base64')])
        expect(text).not.toContain(secret)
    // Before a byte was sent.
    expect(registry.requests().filter((line) => line.startsWith('PUT'))).toEqual([])
  },
)

registryTest(
  'logins of helpers: credHelpers, credsStore, git credential',
  { access: 'htpasswd' },
  async (rig, registry) => {
    const answer = JSON.stringify({ Username: testUser.name, Secret: testUser.password })
    const helper = (name: string, script: string) => {
      rig.write({ [`../bin/${name}`]: `#!/bin/sh\n${script}\n` })
    }
    helper(
      'docker-credential-test',
      `[ "$1" = get ] && read host && [ "$host" = ${registry.host} ] && echo '${answer}'`,
    )
    const env = { PATH: `${join(rig.folder, 'bin')}:${process.env['PATH']}`, VLB_TRACE: '1' }
    const config = (text: unknown) => rig.write({ '../home/.docker/config.json': JSON.stringify(text) })
    for (const with_ of [{ credHelpers: { [registry.host]: 'test' } }, { credsStore: 'test' }]) {
      config(with_)
      const ran = await rig.vlb(['push'], { env })
      expect(ran.code, ran.all).toBe(0)
      expect(ran.all).toContain('docker-credential-test get')
      expect(ran.all).not.toContain(testUser.password)
    }
    config({})
    helper(
      'git-credential-test',
      `[ "$1" = get ] && printf 'username=${testUser.name}\\npassword=${testUser.password}\\n'`,
    )
    expect((await rig.vlb(['push'], { env })).code).toBe(2)
    rig.git('config', 'credential.helper', 'test')
    rig.layer('30_c', 'true')
    await rig.vlb(['build'], { env })
    const ran = await rig.vlb(['push'], { env })
    expect(ran.code, ran.all).toBe(0)
    expect(ran.all).not.toContain(testUser.password)
  },
)

registryTest(
  'a token that ends is renewed; a repository may be closed to us',
  { access: 'token', tokenLife: 1 },
  async (rig, registry) => {
    logIn(rig, registry.host)
    await contract(rig)
    expect(registry.tokensAsked.length).toBeGreaterThan(4)
    registry.forbidden.add('team/closed')
    rig.git('config', 'vlb.remote', registry.remote('team/closed'))
    const ran = await rig.vlb(['push'])
    expect(ran.code).toBe(2)
    expect(ran.stderr).toContain(`does not let us at ${registry.remote('team/closed')}`)
  },
)

registryTest(
  'what another repository of the registry has is mounted, or sent where that may not be',
  { access: 'token' },
  async (rig, registry) => {
    logIn(rig, registry.host)
    await rig.ok('push')
    rig.git('config', 'vlb.remote', registry.remote('team/second'))
    const mounted = await rig.json('push')
    expect(mounted.bytes).toBeLessThan(20_000)
    expect(registry.tokensAsked.some(({ scopes }) => scopes.length === 2)).toBe(true)
    for (const name of ['team/web', 'team/second']) registry.forbidden.add(name)
    rig.git('config', 'vlb.remote', registry.remote('team/third'))
    expect((await rig.json('push')).bytes).toBeGreaterThan(2 ** 21)
    const b = new Clone(rig, 'b')
    b.git('config', 'vlb.remote', registry.remote('team/third'))
    expect(await b.build()).toEqual(pulled)
  },
)

/** The file of the topmost overlay in the registry's storage. */
async function topBlob(rig: Rig, registry: DockerRegistry): Promise<string> {
  const { layers: all } = await rig.json('build', '--no-remote')
  const { layers: blobs } = await registry.manifest(all.at(-1).key)
  return registry.blobFile(blobs.at(-2).digest)
}

registryTest('a blob that is damaged at the registry: built, said, replaced by a push', {}, async (rig, registry) => {
  await rig.ok('push')
  const file = await topBlob(rig, registry)
  const bytes = readFileSync(file)
  bytes[bytes.length - 1000] = (bytes[bytes.length - 1000] ?? 0) ^ 1
  writeFileSync(file, bytes)
  const b = new Clone(rig, 'b')
  const first = await b.told()
  expect(first.layers).toEqual(['10_a pulled', '20_b built'])
  expect(first.stderr).toMatch(/warning: the blob sha256:[0-9a-f]+ is damaged at/)
  // Whoever has not seen it damaged leaves it alone.
  expect((await rig.json('push')).layers.map((layer: { result: string }) => layer.result)).toEqual(['there', 'there'])
  await b.ok('push')
  expect(await new Clone(rig, 'c').build()).toEqual(pulled)
})

registryTest(
  'a blob that is cut short at the registry is sent in other pieces, for the registry keeps what it has',
  {},
  async (rig, registry) => {
    await rig.ok('push')
    const file = await topBlob(rig, registry)
    const { size } = statSync(file)
    truncateSync(file, size - 4096)
    await registry.stop()
    await registry.run()
    // Lengths are compared before it is trusted for what stands on it.
    rig.layer('30_c', 'true')
    await rig.build('--no-remote')
    await rig.ok('push')
    const b = new Clone(rig, 'b')
    copyFileSync(rig.path('tiny.raw'), join(b.folder, 'tiny.raw'))
    b.layer('30_c', 'true')
    expect(await b.build()).toEqual(['10_a pulled', '20_b pulled', '30_c pulled'])
  },
)

rigTest(
  'a registry whose disk is full says so; with room again, the push ends well',
  async (rig) => {
    const data = join(rig.folder, 'full')
    rig.tool('mkdir', data)
    rig.tool('mount', '-t', 'tmpfs', '-o', 'size=8M', 'tmpfs', data)
    const registry = await DockerRegistry.start(join(rig.folder, 'registry'), { data })
    try {
      rig.project(
        { '10_a': 'dd if=/dev/urandom of=/b bs=1M count=12 2>/dev/null' },
        `remote: ${registry.remote()}\nseal: false\n`,
      )
      rig.commit()
      await rig.build('--no-remote')
      const ran = await rig.vlb(['push'])
      expect(ran.code, ran.all).toBe(2)
      expect(ran.stderr).toMatch(/refuses, writing a blob: it answers 500|cannot be reached, writing a blob/)
      // This one keeps what it got all the same, until it purges uploads by itself: it takes it for another state of it.
      expect(registry.requests().some((line) => line.startsWith('DELETE'))).toBe(true)
      rig.tool('mount', '-o', 'remount,size=64M', data)
      await rig.ok('push')
      expect(await new Clone(rig, 'b').build()).toEqual(['10_a pulled'])
    } finally {
      await registry.end()
      rig.tool('umount', data)
    }
  },
  needs,
)

registryTest('a registry that is killed in the middle of a push: the next one ends it', {}, async (rig, registry) => {
  rig.layer('30_c', 'dd if=/dev/urandom of=/c bs=1M count=24 2>/dev/null')
  await rig.build('--no-remote')
  const running = rig.start(['push'])
  await expect.poll(() => registry.requests().some((line) => line.startsWith('POST')), { timeout: 60_000 }).toBe(true)
  await registry.stop('SIGKILL')
  const ran = await running.ended
  if (ran.code !== 0) expect(ran.stderr).toContain('cannot be reached')
  await registry.run()
  await rig.ok('push')
  const b = new Clone(rig, 'b')
  b.layer('30_c', 'dd if=/dev/urandom of=/c bs=1M count=24 2>/dev/null')
  expect(await b.build()).toEqual(['10_a pulled', '20_b pulled', '30_c pulled'])
})

registryTest('entries that a registry wrote half when it was killed are written again', {}, async (rig, registry) => {
  const below = join(registry.data, 'docker/registry/v2/repositories/team/web')
  const links = (pattern: string) => {
    const found = rig.tool('find', below, '-path', pattern, '-name', 'link').trim().split('\n')
    expect(found.length, pattern).toBeGreaterThan(1)
    return found
  }
  const again = async (clone: string) => {
    await registry.stop('SIGKILL')
    await registry.run()
    await rig.ok('push')
    expect(await new Clone(rig, clone).build()).toEqual(pulled)
  }
  await rig.ok('push')
  // Of what it writes, the length comes last. Blobs are looked for where there is no manifest yet.
  for (const path of links('*/_layers/*')) truncateSync(path)
  rig.tool('rm', '-r', join(below, '_manifests/tags'))
  await again('b')
  for (const path of links('*/_manifests/*')) truncateSync(path)
  await again('c')
})
