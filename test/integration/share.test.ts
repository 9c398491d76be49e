// Sharing snapshots through a registry: two stores, and Debian's docker-registry between them.
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import { DockerRegistry } from '../rig/docker-registry.ts'
import type { Need } from '../rig/need.ts'
import { type Ran, type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:docker-registry', 'tool:skopeo', 'tool:qemu-img', 'tool:busybox']

const layers = {
  '10_a': 'cat /proc/sys/kernel/random/uuid > /a; seq 1 200000 > /numbers',
  '20_b': 'cat /a > /b; cat /proc/sys/kernel/random/uuid >> /b',
  '30_c': 'cat /b > /c',
}

/** A registry that ends with the test. */
function shareTest(name: string, body: (rig: Rig, registry: DockerRegistry) => Promise<void>): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await DockerRegistry.start(join(rig.folder, 'registry'))
      try {
        await body(rig, registry)
      } finally {
        await registry.end()
      }
    },
    needs,
  )
}

shareTest(
  'A builds and pushes, B builds nothing; B adds a layer and pushes, A pulls that one',
  async (rig, registry) => {
    rig.project(layers, `remote: ${registry.remote()}\nseal: false\n`)
    rig.commit()
    expect(await rig.build()).toEqual(['10_a built', '20_b built', '30_c built'])
    const pushed = await rig.json('push')
    expect(pushed.layers.map((l: { result: string }) => l.result)).toEqual(['pushed', 'pushed', 'pushed'])
    const b = new Clone(rig, 'b')
    expect(await b.build()).toEqual(['10_a pulled', '20_b pulled', '30_c pulled'])
    rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
    expect(await b.build()).toEqual(['10_a cached', '20_b cached', '30_c cached'])
    // B's branch, and A takes it.
    b.git('checkout', '--quiet', '-b', 'feature')
    b.layer('40_d', 'echo from b; cat /c > /d; cat /proc/sys/kernel/random/uuid >> /d')
    b.git('add', '--all')
    b.git('commit', '--quiet', '--message', 'd')
    expect(await b.build()).toEqual(['10_a cached', '20_b cached', '30_c cached', '40_d built'])
    const log = registry.log.length
    await b.ok('push')
    // Overlay, details and config.
    const uploads = registry.requests(log).filter((line) => line.startsWith('PUT /v2/team/web/blobs'))
    expect(uploads).toHaveLength(3)
    rig.git('fetch', '--quiet', b.folder, 'feature:theirs')
    rig.git('checkout', '--quiet', 'theirs')
    expect(await rig.build()).toEqual(['10_a cached', '20_b cached', '30_c cached', '40_d pulled'])
    rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
    // Nothing new: one question for each layer.
    const quiet = registry.log.length
    const again = await rig.json('push')
    expect(again).toMatchObject({ bytes: 0, layers: Array(4).fill(expect.objectContaining({ result: 'there' })) })
    expect(registry.requests(quiet)).toHaveLength(4)
    expect(registry.log).not.toContain('referrers')
  },
)

shareTest('files of a layer that look like secrets: a warning each, when it is sent', async (rig, registry) => {
  const key = `-----BEGIN OPENSSH PRIVATE KEY-----\n${'A'.repeat(70)}\n-----END OPENSSH PRIVATE KEY-----\n`
  rig.project(
    {
      '10_a': {
        'build-layer': '#!/bin/sh\ntrue\n',
        'root/.ssh/id_ed25519': key,
        'root/.ssh/id_ed25519.pub': 'ssh-ed25519 A\n',
      },
      '20_b': '# vlb: include shared/netrc\ntrue',
      '30_c': { 'build-layer': '#!/bin/sh\n# vlb: noshare\ntrue\n', '.env': 'TOKEN=1234\n' },
    },
    `remote: ${registry.remote()}\nseal: false\n`,
  )
  rig.write({ 'shared/netrc': 'machine example.com login me password 1234\n' })
  rig.commit()
  await rig.build()
  const warned = (ran: Ran) => ran.stderr.split('\n').filter((line) => line.includes(' holds '))
  const pushed = await rig.vlb(['push'])
  expect(pushed.code, pushed.all).toBe(0)
  expect(warned(pushed)).toEqual([
    expect.stringMatching(/^warning: 10_a: root\/\.ssh\/id_ed25519 holds a private key; .*# vlb: noshare/),
    expect.stringMatching(/^warning: 20_b: shared\/netrc holds a password; /),
  ])
  expect(warned(await rig.vlb(['push'])), 'nothing was sent').toEqual([])
  rig.git('config', 'vlb.push', 'auto')
  rig.write({ '20_b/build-layer': '#!/bin/sh\n# vlb: include shared/netrc\necho b > /b\n' })
  expect(warned(await rig.vlb(['build'])), 'not committed, and pushed by a build').toEqual([
    expect.stringMatching(/^warning: 20_b: shared\/netrc holds a password; /),
  ])
})

shareTest('what is not shared stays at home, with all that stands on it; values stay, too', async (rig, registry) => {
  rig.project(
    { '10_a': '# vlb: env TOKEN\ntrue', '20_b': '# vlb: noshare\ntrue', '30_c': 'true' },
    `remote: ${registry.remote()}\nseal: false\n`,
  )
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('tiny.raw }', 'tiny.raw, share: false }') })
  rig.commit()
  const env = ['--env', 'TOKEN=swordfish']
  await rig.build(...env)
  const { layers } = await rig.json('push', ...env)
  expect(layers.map((l: { name: string; result: string }) => `${l.name} ${l.result}`)).toEqual([
    '10_a pushed',
    '20_b kept',
    '30_c kept',
  ])
  const { layers: blobs, config } = await registry.manifest(layers[0].key)
  expect(blobs.map((one: { mediaType: string }) => one.mediaType)).toEqual([
    'application/vnd.git-vlb.layer.v1.qcow2',
    'application/vnd.git-vlb.details.v1+json+gzip',
  ])
  const told = readFileSync(registry.blobFile(config.digest), 'utf8')
  expect(told).toContain('"values":["TOKEN"]')
  for (const secret of ['swordfish', rig.folder]) expect(told).not.toContain(secret)
  const b = new Clone(rig, 'b')
  expect(await b.build(...env)).toEqual(['10_a pulled', '20_b built', '30_c built'])
  expect((await b.ok('status', ...env)).stdout).toContain('cached')
  expect(await b.build('--env', 'TOKEN=other')).toEqual(['10_a built', '20_b built', '30_c built'])
})

shareTest('a base that is not here comes from the registry, and status tells what is there', async (rig, registry) => {
  rig.project(layers, `remote: ${registry.remote()}\nseal: false\ndisk: { size: 64M }\n`)
  const sum = rig.tool('sha256sum', rig.path('tiny.raw')).slice(0, 64)
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('tiny.raw }', `tiny.raw, sha256: ${sum} }`) })
  rig.commit()
  await rig.build()
  const b = new Clone(rig, 'b', { base: false })
  const none = await b.vlb('build')
  expect(none.code).toBe(2)
  expect(none.stderr).toContain('the base tiny.raw is not there')
  await rig.ok('push')
  const states = async (...args: string[]) =>
    JSON.parse((await b.ok('status', '--json', ...args)).stdout).layers.map((l: { state: string }) => l.state)
  expect(await states()).toEqual(['missing', 'missing', 'missing'])
  expect(await states('--remote')).toEqual(['remote', 'remote', 'remote'])
  const pulled = JSON.parse((await b.ok('pull', '--json')).stdout)
  expect(pulled.layers.map((l: { name: string; result: string }) => `${l.name} ${l.result}`)).toEqual([
    'disk pulled',
    '10_a pulled',
    '20_b pulled',
    '30_c pulled',
  ])
  expect(new Set(await b.build('--frozen'))).toEqual(
    new Set(['disk cached', '10_a cached', '20_b cached', '30_c cached']),
  )
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
  b.layer('40_d', 'cat /c > /d')
  expect((await b.build()).at(-1)).toBe('40_d built')
})

shareTest('what others build on another build of a layer is pulled with that', async (rig, registry) => {
  rig.project({ '10_a': layers['10_a'] }, `remote: ${registry.remote()}\nseal: false\n`)
  rig.commit()
  const b = new Clone(rig, 'b')
  await rig.build()
  await b.build()
  await rig.ok('push')
  // B's own build of 10_a goes along with what stands on it; the key stays that of A's.
  b.layer('20_b', 'cat /a > /b')
  await b.build('--no-remote')
  await b.ok('push')
  rig.layer('20_b', 'cat /a > /b')
  expect(await rig.build()).toEqual(['10_a pulled', '20_b pulled'])
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  // A layer built again has another content id, and gives other keys to all above.
  rig.layer('30_c', 'cat /b > /c')
  await rig.build('--rebuild', '10_a')
  await rig.ok('push')
  const c = new Clone(rig, 'c')
  for (const name of ['20_b', '30_c']) c.layer(name, rig.read(name, 'build-layer').replace('#!/bin/sh\n', '').trimEnd())
  const first = await c.build()
  expect(first[0]).toBe('10_a pulled')
})

shareTest(
  'vlb.push auto: a build pushes, also below a layer that failed; --no-remote does not',
  async (rig, registry) => {
    rig.project({ '10_a': 'true', '20_b': 'exit 3' }, `seal: false\n`)
    rig.commit()
    rig.git('config', 'vlb.remote', registry.remote('other/place'))
    rig.git('config', 'vlb.push', 'auto')
    expect((await rig.vlb(['build', '--no-remote'])).code).toBe(1)
    expect(registry.requests().filter((line) => line.includes('manifests'))).toEqual([])
    const ran = await rig.vlb(['build'])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain(`pushed to ${registry.remote('other/place')}: 10_a`)
    rig.git('config', 'vlb.push', 'sometimes')
    expect((await rig.vlb(['build'])).stderr).toContain('vlb.push is auto or never')
    rig.git('config', 'vlb.push', 'never')
    rig.git('config', 'vlb.remote', '')
    expect((await rig.vlb(['push'])).stderr).toContain('this project has no remote')
  },
)

shareTest('rolled-up layers, and a base that a layer makes, are shared like any other', async (rig, registry) => {
  rig.project({ '10_a/layers/10_x': 'echo x > /x', '10_a/layers/20_y': 'echo y > /y', '20_b': 'cat /x /y > /b' })
  copyFileSync(rig.path('tiny.raw'), rig.path('00_base.raw'))
  rig.write({
    'vlb.yaml': `version: 1\nremote: ${registry.remote()}\nseal: false\n`,
    '00_base/build-base': `#!/bin/sh\ncp ${rig.path('tiny.raw')} "$1"\n`,
  })
  rig.commit()
  await rig.build()
  await rig.ok('push')
  const b = new Clone(rig, 'b')
  expect(await b.build()).toEqual(['00_base pulled', '10_a pulled', '20_b pulled'])
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), b.image)
})

shareTest('after a rollup the new layer is pushed, though what stands on it is there', async (rig, registry) => {
  rig.project({ ...layers, '40_d': 'true' }, `remote: ${registry.remote()}\nseal: false\n`)
  rig.commit()
  await rig.build('--no-flatten')
  await rig.ok('push')
  await rig.ok('rollup', '10..30', '--name', 'base')
  const { layers: pushed } = await rig.json('push')
  expect(pushed.map(({ name, result }: { name: string; result: string }) => `${name} ${result}`)).toEqual([
    '10_base pushed',
    '40_d there',
  ])
})

shareTest('what is too old by its ttl at the remote is pushed anew', async (rig, registry) => {
  rig.project(
    { '10_a': `# vlb: ttl 2s\ncat /proc/sys/kernel/random/uuid > /a`, '20_b': 'cat /a > /b' },
    `remote: ${registry.remote()}\nseal: false\n`,
  )
  rig.commit()
  const results = async () => (await rig.json('push')).layers.map((one: { result: string }) => one.result)
  await rig.build('--no-flatten')
  expect(await results()).toEqual(['pushed', 'pushed'])
  await delay(2100)
  rig.forget()
  expect(await rig.build('--no-flatten')).toEqual(['10_a built', '20_b built'])
  expect(await results()).toEqual(['pushed', 'pushed'])
})

shareTest('a build whose push cannot be signed is a build all the same', async (rig, registry) => {
  rig.project({ '10_a': 'true' }, `remote: ${registry.remote()}\nseal: false\n`)
  rig.commit()
  for (const [name, value] of [
    ['vlb.push', 'auto'],
    ['vlb.sign', 'true'],
    ['gpg.format', 'ssh'],
    ['user.signingKey', '/no/such/key'],
  ] as const)
    rig.git('config', name, value)
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).toMatch(/warning: not pushed to \S+: /)
  expect(rig.exists('build/image.qcow2')).toBe(true)
})

shareTest('skopeo copies a snapshot to another registry and back, byte by byte', async (rig, registry) => {
  rig.project(layers, `remote: ${registry.remote()}\nseal: false\n`)
  rig.commit()
  await rig.build()
  const { layers: pushed } = await rig.json('push')
  const { key } = pushed.at(-1)
  const other = await DockerRegistry.start(join(rig.folder, 'other'))
  try {
    const copy = (from: string, to: string) =>
      rig.tool(
        'skopeo',
        'copy',
        // docker-registry answers 500 for a blob whose entry is just being written.
        '--retry-times=3',
        '--src-tls-verify=false',
        '--dest-tls-verify=false',
        `docker://${from}`,
        `docker://${to}`,
      )
    copy(`${registry.remote()}:${key}`, `${other.remote()}:${key}`)
    copy(`${other.remote()}:${key}`, `${registry.remote('back/again')}:${key}`)
    expect(await registry.manifest(key, 'back/again')).toEqual(await registry.manifest(key))
    const b = new Clone(rig, 'b')
    b.git('config', 'vlb.remote', other.remote())
    // The tag of the topmost alone was copied: it is a whole chain all the same.
    expect((await b.ok('pull')).stdout).toContain('not there')
    copy(`${registry.remote()}:${pushed[0].key}`, `${other.remote()}:${pushed[0].key}`)
    expect(await b.build()).toEqual(['10_a pulled', '20_b pulled', '30_c pulled'])
  } finally {
    await other.end()
  }
})
