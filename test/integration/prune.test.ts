// What of a remote goes with git vlb prune, and what never does.
import { join } from 'node:path'
import { expect } from 'vitest'
import { composeLease, type Lease, leaseTag } from '../../src/core/lease.ts'
import { blobOf } from '../../src/core/oci.ts'
import { Clone } from '../rig/clone.ts'
import { DockerRegistry, type RegistryOptions } from '../rig/docker-registry.ts'
import type { Need } from '../rig/need.ts'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:docker-registry', 'tool:qemu-img', 'tool:busybox', 'tool:mke2fs']
const manifestType = 'application/vnd.oci.image.manifest.v1+json'

interface Place {
  rig: Rig
  registry: DockerRegistry
  /** Commits, builds and pushes; the keys by layer. */
  push: (message: string) => Promise<Record<string, string>>
}

function pruneTest(name: string, body: (place: Place) => Promise<void>, options: RegistryOptions = {}): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await DockerRegistry.start(join(rig.folder, 'registry'), options)
      try {
        rig.project({ '10_a': 'true', '20_b': 'echo 1 > /b' }, `remote: ${registry.remote()}\nseal: false\n`)
        const push = async (message: string) => {
          rig.commit(message)
          await rig.build('--no-flatten')
          const { layers } = await rig.json('push')
          return Object.fromEntries(layers.map((one: { name: string; key: string }) => [one.name, one.key]))
        }
        await body({ rig, registry, push })
      } finally {
        await registry.end()
      }
    },
    needs,
  )
}

async function put(registry: DockerRegistry, tag: string, text: string): Promise<void> {
  const answer = await fetch(`http://${registry.host}/v2/team/web/manifests/${tag}`, {
    method: 'PUT',
    headers: { 'content-type': manifestType },
    body: text,
  })
  expect(answer.status, await answer.text()).toBe(201)
}

async function get(registry: DockerRegistry, tag: string): Promise<string> {
  const headers = { accept: manifestType }
  return await (await fetch(`http://${registry.host}/v2/team/web/manifests/${tag}`, { headers })).text()
}

async function putBlob(registry: DockerRegistry, text: string): Promise<void> {
  const opened = await fetch(`http://${registry.host}/v2/team/web/blobs/uploads/`, { method: 'POST' })
  const url = new URL(opened.headers.get('location') ?? '', `http://${registry.host}`)
  url.searchParams.set('digest', blobOf(text).digest)
  const headers = { 'content-type': 'application/octet-stream' }
  expect((await fetch(url, { method: 'PUT', headers, body: text })).status).toBe(201)
}

pruneTest('what no branch, tag or working tree finds goes; what is new, named or below that stays', async (place) => {
  const { rig, registry, push } = place
  const first = await push('1')
  rig.git('tag', 'v1')
  rig.layer('20_b', 'echo 2 > /b')
  const second = await push('2')
  rig.layer('20_b', 'echo 3 > /b')
  const third = await push('3')
  rig.git('checkout', '--quiet', '-b', 'feature')
  rig.layer('30_c', 'true')
  rig.layer('40_d', 'true')
  const feature = await push('4')
  rig.git('checkout', '--quiet', 'main')
  rig.git('branch', '--quiet', '-D', 'feature')
  // Not committed, and needed all the same.
  rig.layer('50_e', 'echo e > /e')
  await rig.build('--no-flatten')
  const dirty = (await rig.json('push')).layers.at(-1).key
  // Somebody has given one a name; and there is something else.
  await put(registry, 'release-1', await get(registry, second['20_b'] ?? ''))
  await putBlob(registry, '{}')
  const lease: Lease = { owner: 'f'.repeat(32), host: 'ci', layer: '10_a', seconds: 90, beat: 0, at: Date.now() }
  const write = async (key: string, change: Partial<Lease>) =>
    await put(registry, leaseTag(key), composeLease({ ...lease, ...change }, blobOf('{}')))
  await write('1'.repeat(64), {})
  await write('2'.repeat(64), { ended: true })
  await write('3'.repeat(64), { at: Date.now() - 3600_000 })
  const before = (await registry.tags()).sort()
  expect(await rig.json('prune', '--dry-run')).toMatchObject({ removed: [], leases: 2, spared: 3, needed: 4 })
  const wish = await rig.json('prune', '--keep-days', '0', '--dry-run')
  expect(wish.removed.map(({ layer }: { layer: string }) => layer)).toEqual(['40_d', '30_c'])
  expect((await registry.tags()).sort()).toEqual(before)
  expect(await rig.ok('prune', '--keep-days', '0')).toMatch(
    /^ *40_d .* pushed \d+ s ago\n *30_c .*\nremoved 2 snapshots, \S+ \S+ and 2 leases from \S+; 4 snapshots of branches and tags stay, and 1 besides/,
  )
  const gone = [feature['30_c'], feature['40_d'], leaseTag('2'.repeat(64)), leaseTag('3'.repeat(64))]
  expect((await registry.tags()).sort()).toEqual(before.filter((tag) => !gone.includes(tag)))
  for (const key of [first['20_b'], second['20_b'], third['20_b'], dirty])
    expect(await registry.manifest(key ?? '')).toBeDefined()
  expect(await rig.ok('prune', '--keep-days', '0')).toMatch(/^removed nothing at /)
  // All that stays can be pulled, also with what is gone collected.
  await registry.stop()
  rig.tool('docker-registry', 'garbage-collect', join(registry.folder, 'config.yml'))
  await registry.run()
  const b = new Clone(rig, 'b')
  expect(await b.build()).toEqual(['10_a pulled', '20_b pulled'])
  b.git('checkout', '--quiet', 'v1')
  expect(await b.build()).toEqual(['10_a cached', '20_b pulled'])
})

pruneTest('what only others have: their branches are known once they are fetched', async ({ rig, registry, push }) => {
  const main = await push('1')
  const b = new Clone(rig, 'b')
  rig.git('checkout', '--quiet', '-b', 'feature')
  rig.layer('30_c', 'true')
  const feature = await push('2')
  const nothingFetched = await b.vlb('prune', '--keep-days', '0')
  expect(nothingFetched.code).toBe(2)
  expect(nothingFetched.stderr).toContain('nothing was ever fetched here')
  expect(nothingFetched.stderr).toContain('git fetch --all')
  b.git('fetch', '--quiet', '--all')
  expect((await b.ok('prune', '--keep-days', '0')).stdout).toMatch(/^removed nothing/)
  // Pushed after the last fetch: not old, however it is counted.
  rig.layer('40_d', 'true')
  const later = await push('3')
  expect((await b.ok('prune', '--keep-days', '0')).stdout).toMatch(/^removed nothing/)
  const keys = [main['20_b'], feature['30_c'], later['40_d']]
  expect(await registry.tags()).toEqual(expect.arrayContaining(keys))
  // Given up, and heard of.
  rig.git('checkout', '--quiet', 'main')
  rig.git('branch', '--quiet', '-D', 'feature')
  b.git('fetch', '--quiet', '--all', '--prune')
  expect((await b.ok('prune', '--keep-days', '0')).stdout).toMatch(/^ *40_d [\s\S]*\n *30_c [\s\S]*removed 2 snapshots/)
})

pruneTest('clones that do not know all branches, and branches that cannot be read', async ({ rig, registry, push }) => {
  await push('1')
  rig.git('branch', 'other')
  const clone = async (name: string, ...args: string[]) => {
    const folder = join(rig.folder, name)
    rig.git('clone', '--quiet', ...args, `file://${rig.repo}`, folder)
    return await rig.vlb(['prune', '--keep-days', '0'], { cwd: folder })
  }
  const tags = await registry.tags()
  const shallow = await clone('shallow', '--depth', '1')
  expect([shallow.code, shallow.stderr]).toEqual([2, expect.stringMatching(/this clone is shallow.*\n.*--unshallow/)])
  const single = await clone('single', '--single-branch')
  expect(single.code).toBe(2)
  expect(single.stderr).toMatch(/remote origin not all branches are fetched.*\n.*set-branches origin '\*'/)
  rig.git('checkout', '--quiet', 'other')
  rig.layer('20_b', '# vlb: tomorrow\ntrue')
  rig.commit('of a newer version')
  rig.git('checkout', '--quiet', 'main')
  await refused(rig, ['prune', '--keep-days', '0'], {
    says: ['20_b of the branch other cannot be read', 'what others need would be removed'],
    hint: ['correct it', '--force'],
  })
  await refused(rig, ['prune', '--keep-days', 'week'], { says: '--keep-days takes a number', hint: '--keep-days 7' })
  expect(await registry.tags()).toEqual(tags)
  expect(await rig.ok('prune', '--keep-days', '0', '--force')).toMatch(/^removed nothing/)
})

pruneTest(
  'a registry that lets nobody delete says so',
  async ({ rig, registry, push }) => {
    await push('1')
    rig.layer('20_b', 'echo 2 > /b')
    await push('2')
    const tags = await registry.tags()
    await refused(rig, ['prune', '--keep-days', '0'], {
      says: `the registry of ${registry.remote()} lets nobody delete`,
      hint: 'REGISTRY_STORAGE_DELETE_ENABLED=true',
    })
    expect(await registry.tags()).toEqual(tags)
  },
  { deletes: false },
)

pruneTest('a project that lies elsewhere in another branch, and was not built here', async ({ rig, push }) => {
  await push('1')
  rig.git('checkout', '--quiet', '-b', 'release')
  rig.tool('mkdir', rig.path('image'))
  for (const name of ['vlb.yaml', '10_a', '20_b']) rig.git('mv', name, `image/${name}`)
  rig.tool('cp', rig.path('tiny.raw'), rig.path('.gitignore'), rig.path('image'))
  rig.write({ 'image/20_b/build-layer': '#!/bin/sh\necho release > /b\n' })
  rig.commit('release')
  await rig.ok('build', '-C', 'image', '--no-flatten')
  await rig.ok('push', '-C', 'image')
  // Another machine, which has the other branch only in git.
  rig.git('checkout', '--quiet', 'main')
  const b = new Clone(rig, 'b')
  b.git('fetch', '--quiet', '--all')
  await b.build()
  const { removed, needed } = JSON.parse((await b.ok('prune', '--keep-days', '0', '--json')).stdout)
  expect(removed).toEqual([])
  expect(needed).toBe(3)
})

pruneTest(
  'a registry whose tokens say what they are for: to delete is asked for',
  async ({ rig, registry, push }) => {
    rig.write({ '../home/.docker/config.json': DockerRegistry.login(registry.host) })
    await push('1')
    rig.layer('20_b', 'echo 2 > /b')
    await push('2')
    rig.git('reset', '--quiet', '--soft', 'HEAD~1')
    rig.git('commit', '--quiet', '--amend', '--message', 'only this')
    expect(await rig.ok('prune', '--keep-days', '0')).toMatch(/removed 1 snapshot,/)
    rig.git('config', 'vlb.push', 'auto')
    rig.layer('30_c', 'true')
    await rig.build('--no-flatten')
    expect((await registry.tags()).filter((tag) => tag.startsWith('lease-'))).toEqual([])
  },
  { access: 'token' },
)

pruneTest('a fetch of one branch does not count as one of all', async ({ rig, push }) => {
  await push('1')
  rig.git('branch', '--quiet', 'feature')
  const b = new Clone(rig, 'b')
  b.git('fetch', '--quiet', '--all')
  expect((await b.ok('prune')).stdout).toMatch(/^removed nothing/)
  b.git('fetch', '--quiet', 'origin', 'main')
  const ran = await b.vlb('prune')
  expect(ran.code, ran.all).toBe(2)
  expect(ran.stderr).toMatch(
    /the last fetch was not one of all branches: origin\/feature was left out[\s\S]*git fetch --all --prune/,
  )
  // One that is gone there stays known here until it is pruned.
  rig.git('branch', '--quiet', '-D', 'feature')
  b.git('fetch', '--quiet', '--all', '--prune')
  expect((await b.ok('prune')).stdout).toMatch(/^removed nothing/)
})

pruneTest('what was pushed long ago is as new as the push that finds it there', async ({ registry, rig, push }) => {
  const { '20_b': key = '' } = await push('1')
  const old = JSON.parse(await get(registry, key))
  const { 'vnd.git-vlb.pushed': pushed } = old.annotations
  const long = new Date(Date.now() - 30 * 86_400_000).toISOString()
  await put(registry, key, JSON.stringify({ ...old, annotations: { ...old.annotations, 'vnd.git-vlb.pushed': long } }))
  const { layers } = await rig.json('push')
  expect(layers.map(({ result }: { result: string }) => result)).toEqual(['there', 'there'])
  const now = JSON.parse(await get(registry, key))
  expect(Date.parse(now.annotations['vnd.git-vlb.pushed'])).toBeGreaterThan(Date.parse(pushed))
  expect({ ...now, annotations: undefined }).toEqual({ ...old, annotations: undefined })
  expect(await new Clone(rig, 'b').build()).toEqual(['10_a pulled', '20_b pulled'])
})
