// Images in a registry: published, fetched and checked, also by tools that know nothing of git vlb.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import { DockerRegistry } from '../rig/docker-registry.ts'
import type { Need } from '../rig/need.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:docker-registry', 'tool:skopeo', 'tool:qemu-img', 'tool:busybox']

const packages = 'mkdir -p /var/lib/dpkg; cp status /var/lib/dpkg/status'
const status = (version: string) =>
  `Package: openssl\nStatus: install ok installed\nArchitecture: amd64\nVersion: ${version}\n`

function imageTest(name: string, body: (rig: Rig, registry: DockerRegistry) => Promise<void>, more = ''): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await DockerRegistry.start(join(rig.folder, 'registry'))
      try {
        rig.project(
          { '10_a': { 'build-layer': `#!/bin/sh\nset -eu\n${packages}\n`, status: status('3.0.11-1') } },
          `name: web\nremote: ${registry.remote()}\nseal: false\n${more}`,
        )
        rig.commit('start')
        rig.git('tag', 'v1.0')
        await body(rig, registry)
      } finally {
        await registry.end()
      }
    },
    needs,
  )
}

const sha256 = (rig: Rig, file: string) => rig.tool('sha256sum', file).slice(0, 64)

/** What oras and podman do: each blob into a file of its title. */
async function pullAsOthers(rig: Rig, registry: DockerRegistry, tag: string): Promise<string> {
  const folder = join(rig.folder, `others-${tag}`)
  mkdirSync(folder)
  const { layers } = await registry.manifest(tag)
  for (const { digest, annotations } of layers)
    copyFileSync(registry.blobFile(digest), join(folder, annotations['org.opencontainers.image.title']))
  return folder
}

imageTest('an image is published with what tells of it, and comes back as it was', async (rig, registry) => {
  const none = await rig.vlb(['push', '--image', 'v1.0'])
  expect(none.code).toBe(1)
  expect(none.stderr).toContain('there is no current image of main: 10_a is not in the store')
  expect(none.stderr).toContain('build it first: git vlb build')
  rig.write({ '10_a/status': status('3.0.15-1') })
  rig.commit('openssl 3.0.15')
  await rig.build('--no-remote')
  const image = rig.path('build/image.qcow2')
  const pushed = await rig.json('push', '--image', 'v1.1')
  const commit = rig.git('rev-parse', 'HEAD').trim()
  expect(pushed).toMatchObject({
    ...{ ok: true, tag: 'v1.1', result: 'pushed', revision: commit, signed: false },
    image: { path: image, format: 'qcow2', bytes: statSync(image).size, sha256: sha256(rig, image) },
    files: ['web-v1.1.qcow2', 'web-v1.1.spdx.json', 'web-v1.1.changelog.md', 'SHA256SUMS'],
  })
  const manifest = await registry.manifest('v1.1')
  expect(manifest).toMatchObject({
    ...{ schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json' },
    artifactType: 'application/vnd.git-vlb.image.v1',
    config: { mediaType: 'application/vnd.git-vlb.image.config.v1+json' },
    annotations: {
      'org.opencontainers.image.title': 'web',
      'org.opencontainers.image.version': 'v1.1',
      'org.opencontainers.image.revision': commit,
    },
  })
  expect(manifest.layers.map(({ mediaType }: { mediaType: string }) => mediaType)).toEqual([
    'application/vnd.git-vlb.disk.v1.qcow2',
    'application/spdx+json',
    'text/markdown',
    'text/plain',
  ])
  const folder = await pullAsOthers(rig, registry, 'v1.1')
  rig.tool('sh', '-c', `cd "$1" && sha256sum --check --strict SHA256SUMS`, 'sh', folder)
  expect(readFileSync(join(folder, 'web-v1.1.spdx.json'), 'utf8')).toContain('pkg:deb/tiny/openssl@3.0.15-1')
  expect(readFileSync(join(folder, 'web-v1.1.changelog.md'), 'utf8')).toContain('openssl 3.0.15')
  rig.tool('cmp', join(folder, 'web-v1.1.qcow2'), image)

  const b = new Clone(rig, 'b', { base: false })
  const pulled = JSON.parse((await b.ok('pull', '--image', 'v1.1', '--json')).stdout)
  expect(pulled).toMatchObject({
    ...{
      ok: true,
      tag: 'v1.1',
      result: 'pulled',
      digest: pushed.digest,
      revision: commit,
      project: 'web',
      signer: null,
    },
    image: { path: b.image, sha256: pushed.image.sha256 },
  })
  rig.tool('cmp', b.image, image)
  expect(readdirSync(join(b.folder, 'build'))).toEqual(['image.qcow2'])
  const again = await b.ok('pull', '--image', 'v1.1')
  expect(again.stdout).toMatch(
    /^image build\/image.qcow2 {2}.* qcow2, web v1\.1, of [0-9a-f]{12}, built .* ago, not signed/,
  )
  expect(again.stdout).toContain('it was there already')
  expect((await b.ok('ls-remote')).stdout).toMatch(/^ *image +revision +size +built\s+v1\.1 +[0-9a-f]{12} /)
  expect(JSON.parse((await b.ok('ls-remote', '--json')).stdout)).toMatchObject({
    snapshots: [],
    images: [{ tag: 'v1.1', bytes: pushed.image.bytes, revision: commit, signer: null }],
  })
})

imageTest('a tag keeps its image; a revision has its own, and what may not be there is not', async (rig, registry) => {
  await rig.build('--no-remote', 'v1.0')
  const first = await rig.json('push', '--image', 'stable', 'v1.0')
  expect(first.image.path).toBe(rig.path('build/image-v1.0.qcow2'))
  expect(first.files).toEqual(['web-stable.qcow2', 'web-stable.spdx.json', 'SHA256SUMS'])
  expect(await rig.json('push', '--image', 'stable', 'v1.0')).toMatchObject({
    result: 'there',
    bytes: 0,
    digest: first.digest,
  })
  rig.layer('20_b', 'echo b > /b')
  rig.write({ '20_b/.env': 'TOKEN=1234\n' })
  await rig.build('--no-remote')
  // Of what is not committed: no revision.
  const dirty = await rig.vlb(['push', '--image', 'dirty'])
  expect([dirty.code, dirty.stdout], dirty.all).toEqual([0, expect.stringContaining('of what is not committed')])
  expect(dirty.stderr).toContain('the image will name no revision')
  expect(dirty.stderr).toMatch(/warning: 20_b: \.env holds /)
  expect((await registry.manifest('dirty')).annotations).not.toHaveProperty('org.opencontainers.image.revision')
  rig.commit('b')
  const taken = await rig.vlb(['push', '--image', 'stable'])
  expect(taken.code).toBe(2)
  expect(taken.stderr).toMatch(/under the tag stable another image, of \S+ from [0-9a-f]{12}/)
  expect(taken.stderr).toContain('--force')
  // The same image of another commit is told apart.
  expect((await rig.vlb(['push', '--image', 'dirty'])).stderr).toContain(
    'this image, built from what was not committed',
  )
  expect(await rig.json('push', '--image', 'stable', '--force')).toMatchObject({ result: 'replaced' })
  // A container image, or whatever else lies there, is no image of ours, and is not overwritten.
  const text = JSON.stringify({ schemaVersion: 2, config: (await registry.manifest('dirty')).layers[1], layers: [] })
  const put = await fetch(`http://${registry.host}/v2/team/web/manifests/other`, {
    ...{ method: 'PUT', headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' } },
    body: text,
  })
  expect(put.status).toBe(201)
  expect((await rig.vlb(['push', '--image', 'other'])).stderr).toContain('something else: it is no image of git vlb')
  const strange = await rig.vlb(['pull', '--image', 'other'])
  expect([strange.code, strange.stderr]).toEqual([2, expect.stringContaining('it is no image of git vlb')])
  const absent = await rig.vlb(['pull', '--image', 'v9'])
  expect([absent.code, absent.stderr]).toEqual([2, expect.stringContaining('no image under the tag v9')])
  expect((await rig.json('ls-remote')).images.map(({ tag }: { tag: string }) => tag).sort()).toEqual([
    'dirty',
    'stable',
  ])
  for (const tag of ['0'.repeat(64), '.x', 'a/b', 'x'.repeat(129), `sha256-${'0'.repeat(64)}.sig`, ''])
    for (const verb of ['push', 'pull']) expect((await rig.vlb([verb, `--image=${tag}`])).code, tag).toBe(2)
  rig.layer('30_c', '# vlb: noshare\ntrue')
  await rig.build('--no-remote')
  const unshared = await rig.vlb(['push', '--image', 'c'])
  expect([unshared.code, unshared.stderr]).toEqual([2, expect.stringContaining('30_c says noshare')])
})

imageTest(
  'any format is published, is called as a build would call it, and its checksum stands beside it',
  async (rig) => {
    await rig.build('--no-remote')
    await rig.ok('push', '--image', 'disk', '--format', 'raw')
    await rig.ok('push', '--image', 'machine', '--format', 'vmdk')
    const missing = await rig.vlb(['push', '--image', 'x', '--format', 'vdi'])
    expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining('git vlb build --format vdi')])
    const b = new Clone(rig, 'b', { base: false })
    await b.ok('pull', '--image', 'disk')
    await b.ok('pull', '--image', 'machine')
    await b.ok('pull', '--image', 'disk', '-o', 'sub/x.img')
    rig.tool('cmp', rig.path('build/image.raw'), join(b.folder, 'build/image.raw'))
    rig.tool('cmp', rig.path('build/image.raw'), join(b.folder, 'sub/x.img'))
    rig.tool('cmp', rig.path('build/image.vmdk'), join(b.folder, 'build/image.vmdk'))
    expect(statSync(join(b.folder, 'build/image.raw')).blocks * 512).toBeLessThan(2 ** 25)
    expect(readFileSync(join(b.folder, 'sub/SHA256SUMS'), 'utf8')).toBe(
      `${sha256(rig, rig.path('build/image.raw'))}  x.img\n`,
    )
    const folder = await b.vlb('pull', '--image', 'disk', '-o', 'sub')
    expect([folder.code, folder.stderr]).toEqual([2, expect.stringContaining('is a folder')])
    for (const args of [
      ['push', '--force'],
      ['pull', '-o', 'x'],
      ['pull', '--image', 'disk', 'main'],
    ])
      expect((await b.vlb(...args)).code, args.join(' ')).toBe(2)
  },
  'output: { path: build/image.raw, format: [raw, vmdk], checksums: true }\n',
)

imageTest('skopeo copies an image to another registry and back, byte by byte', async (rig, registry) => {
  await rig.build('--no-remote')
  const { digest } = await rig.json('push', '--image', 'v1.0')
  const other = await DockerRegistry.start(join(rig.folder, 'other'))
  try {
    const insecure = ['--src-tls-verify=false', '--dest-tls-verify=false']
    const copy = (from: string, to: string) =>
      rig.tool('skopeo', 'copy', ...insecure, `docker://${from}`, `docker://${to}`)
    copy(`${registry.remote()}:v1.0`, `${other.remote()}:v1.0`)
    copy(`${other.remote()}:v1.0`, `${registry.remote('back/again')}:v1.0`)
    expect(await registry.manifest('v1.0', 'back/again')).toEqual(await registry.manifest('v1.0'))
    const b = new Clone(rig, 'b', { base: false })
    b.git('config', 'vlb.remote', other.remote())
    expect(JSON.parse((await b.ok('pull', '--image', 'v1.0', '--json')).stdout).digest).toBe(digest)
    rig.tool('cmp', b.image, rig.path('build/image.qcow2'))
  } finally {
    await other.end()
  }
})

imageTest('a blob that was cut short at the registry is sent again, in other pieces', async (rig, registry) => {
  await rig.build('--no-remote')
  await rig.ok('push', '--image', 'v1.0')
  const file = registry.blobFile((await registry.manifest('v1.0')).layers[0].digest)
  truncateSync(file, statSync(file).size - 4096)
  await registry.stop()
  await registry.run()
  expect(await rig.json('push', '--image', 'v1.0')).toMatchObject({ result: 'pushed' })
  const b = new Clone(rig, 'b', { base: false })
  await b.ok('pull', '--image', 'v1.0')
  rig.tool('cmp', b.image, rig.path('build/image.qcow2'))
  const { layers } = await registry.manifest('v1.0')
  const titles = layers.map(
    (one: { annotations: Record<string, string> }) => one.annotations['org.opencontainers.image.title'],
  )
  expect(titles.slice(0, 2)).toEqual(['web-v1.0.qcow2.001', 'web-v1.0.qcow2.002'])
  const folder = await pullAsOthers(rig, registry, 'v1.0')
  rig.tool(
    'sh',
    '-c',
    'cd "$1" && cat web-v1.0.qcow2.[0-9]* > web-v1.0.qcow2 && sha256sum --check --strict SHA256SUMS',
    'sh',
    folder,
  )
})
