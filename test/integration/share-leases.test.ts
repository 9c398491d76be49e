// Several machines that share a registry and have nothing yet: each layer is built once, whatever becomes of who builds it.
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { composeLease, type Lease, leaseTag } from '../../src/core/lease.ts'
import { blobOf } from '../../src/core/oci.ts'
import { Clone } from '../rig/clone.ts'
import { DockerRegistry, type RegistryOptions } from '../rig/docker-registry.ts'
import type { Need } from '../rig/need.ts'
import { FaultyRegistry } from '../rig/registry.ts'
import { type Hold, type Rig, type Running, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:docker-registry', 'tool:qemu-img', 'tool:busybox', 'tool:mke2fs']

/** In seconds: others wait so long for who shows no sign of life. */
const lease = 4

interface Farm {
  rig: Rig
  registry: DockerRegistry
  /** Where the scripts of the two layers call: they count how often those are run. */
  holds: [Hold, Hold]
  /** Another machine. */
  other: Clone
  start: (where?: Clone) => Running
}

function farmTest(name: string, body: (farm: Farm) => Promise<void>, options: RegistryOptions = {}): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await DockerRegistry.start(join(rig.folder, 'registry'), options)
      try {
        const holds: [Hold, Hold] = [await rig.hold(), await rig.hold()]
        const script = ({ line }: Hold, file: string) => `${line}\ncat /proc/sys/kernel/random/uuid > ${file}`
        rig.project(
          { '10_a': script(holds[0], '/a'), '20_b': script(holds[1], '/b') },
          `remote: ${registry.remote()}\nseal: false\n`,
        )
        rig.commit()
        rig.git('config', '--global', 'vlb.push', 'auto')
        rig.git('config', '--global', 'vlb.lease', `${lease}s`)
        const start = (where?: Clone) => rig.start(['build'], where ? { cwd: where.folder } : {})
        await body({ rig, registry, holds, other: new Clone(rig, 'other'), start })
      } finally {
        await registry.end()
      }
    },
    needs,
  )
}

const leasesAt = async (registry: DockerRegistry) => (await registry.tags()).filter((tag) => tag.startsWith('lease-'))

/** Which of two that were started at once builds, and which waits for it. */
async function roles(holds: Hold[], ...both: [Running, Running]): Promise<{ builds: Running; waits: Running }> {
  await holds[0]?.reached()
  const waits = await Promise.any(both.map(async (one) => one.says('waiting for').then(() => one)))
  return { builds: both[0] === waits ? both[1] : both[0], waits }
}

farmTest('two builders at once, with nothing: each layer is built once between them', async (farm) => {
  const { rig, registry, holds, other, start } = farm
  const { builds, waits } = await roles(holds, start(), start(other))
  // It shows that it lives for longer than anybody would wait for one that does not.
  await delay(2500 * lease)
  expect(waits.stderr).not.toContain('is gone')
  expect(await leasesAt(registry)).toHaveLength(1)
  holds[0].release()
  // The one is sent while the other is built, and whoever waits has it before the build is over.
  await holds[1].reached()
  await waits.says('which builds 20_b')
  holds[1].release()
  const [first, second] = [await builds.ended, await waits.ended]
  expect([first.code, second.code], first.all + second.all).toEqual([0, 0])
  expect(holds.map(({ calls }) => calls)).toEqual([1, 1])
  expect(first.stderr).toMatch(/pushed to \S+: 10_a\n[\s\S]*pushed to \S+: 20_b\n/)
  expect(second.stderr).toMatch(/waiting for \S+, which builds 10_a \(\w+\), until it is pushed or \S+ is silent for 4/)
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), other.image)
  expect(await leasesAt(registry)).toEqual([])
  // With nothing missing, nobody asks.
  const quiet = registry.log.length
  expect((await rig.vlb(['build'])).code).toBe(0)
  expect(registry.requests(quiet).filter((line) => line.includes('lease-'))).toEqual([])
})

farmTest('one is killed in mid-layer: the other takes over', async (farm) => {
  const { registry, holds, start, other } = farm
  const { builds, waits } = await roles(holds, start(), start(other))
  builds.kill('SIGKILL')
  await builds.ended
  holds[0].release()
  holds[1].release()
  const ran = await waits.ended
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).toMatch(/began to build 10_a, and is gone: it is built here\n/)
  expect(holds.map(({ calls }) => calls)).toEqual([2, 1])
  expect(await leasesAt(registry)).toEqual([])
})

farmTest('one is interrupted: nobody waits for what it promised', async (farm) => {
  const { registry, holds, start, other } = farm
  const { builds, waits } = await roles(holds, start(), start(other))
  builds.kill('SIGINT')
  expect((await builds.ended).code).toBe(130)
  holds[0].release()
  holds[1].release()
  const ran = await waits.ended
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).not.toContain('is gone')
  expect(await leasesAt(registry)).toEqual([])
})

farmTest(
  'a layer that fails, at a registry that lets nobody delete: its lease is over, and the next one sees for itself',
  async ({ rig, registry, other, holds }) => {
    holds[0].release()
    rig.layer('20_b', `${holds[1].line}\nexit 3`)
    rig.commit()
    holds[1].release()
    other.git('pull', '--quiet')
    for (const ran of [await rig.vlb(['build']), await other.vlb('build')]) {
      expect(ran.code, ran.all).toBe(1)
      expect(ran.stderr).not.toContain('waiting for')
    }
    expect(holds.map(({ calls }) => calls)).toEqual([1, 2])
    const [tag = ''] = await leasesAt(registry)
    const { annotations } = await registry.manifest(tag)
    expect(JSON.parse(annotations['vnd.git-vlb.lease'])).toMatchObject({ ended: true })
    const listed = await rig.json('ls-remote')
    expect(listed.snapshots.map((one: { layer: string }) => one.layer)).toEqual(['10_a'])
  },
  { deletes: false },
)

interface Lone {
  rig: Rig
  registry: FaultyRegistry
  /** Tag of the lease of 10_a. */
  tag: string
  /** Puts there what another machine wrote. */
  leave: (lease: Lease) => void
}

/** Nothing is built, and all that is is to be pushed. */
function loneTest(name: string, body: (lone: Lone) => Promise<void>): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await FaultyRegistry.start()
      try {
        rig.project({ '10_a': 'true' }, `remote: ${registry.remote()}\nseal: false\n`)
        rig.commit()
        rig.git('config', 'vlb.push', 'auto')
        const { layers } = await rig.json('status')
        const tag = `team/web:${leaseTag(layers[0].key)}`
        const leave = (lease: Lease) => registry.manifests.set(tag, Buffer.from(composeLease(lease, blobOf('{}'))))
        await body({ rig, registry, tag, leave })
      } finally {
        registry.end()
      }
    },
    needs,
  )
}

const theirs = { owner: 'f'.repeat(32), host: 'ci-7', layer: '10_a', beat: 5 }

loneTest('a registry that takes no lease: the build goes on, and pushes', async ({ rig, registry }) => {
  rig.layer('20_b', 'true')
  registry.fault = ({ method, path }) =>
    method === 'PUT' && path.includes('/manifests/lease-') ? { status: 403, body: '{}' } : undefined
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).not.toContain('warning')
  expect(ran.stderr).toMatch(/pushed to \S+: 10_a, 20_b\n/)
  // One try.
  expect(registry.seen(/^PUT .*lease-/)).toHaveLength(1)
  rig.git('config', 'vlb.lease', 'long')
  expect((await rig.vlb(['build'])).stderr).toContain('vlb.lease is never, or a time from 1s to 1h, not "long"')
  rig.git('config', 'vlb.lease', 'never')
  rig.layer('30_c', 'true')
  const since = registry.calls.length
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached', '30_c built'])
  expect(registry.calls.slice(since).filter(({ path }) => path.includes('lease-'))).toEqual([])
})

loneTest(
  'what somebody left is taken over: at once, where the registry says that it is old',
  async ({ rig, registry, leave }) => {
    leave({ ...theirs, seconds: 2 })
    const ran = await rig.vlb(['build'])
    expect(ran.code, ran.all).toBe(0)
    expect(ran.stderr).toMatch(/waiting for ci-7, which builds 10_a [\s\S]*ci-7 began to build 10_a, and is gone/)
    rig.forget()
    registry.manifests.clear()
    leave({ ...theirs, seconds: 2, at: Date.now() - 3600_000 })
    const again = await rig.vlb(['build'])
    expect(again.code, again.all).toBe(0)
    expect(again.stderr).not.toContain('waiting for')
    expect(again.stderr).toContain('ci-7 began to build 10_a, and is gone')
    expect([...registry.manifests.keys()].filter((name) => name.includes('lease-'))).toEqual([])
  },
)

loneTest(
  'a registry that is silent is not asked for leases as well; who waits can be interrupted',
  async ({ rig, registry, tag, leave }) => {
    leave({ ...theirs, seconds: 90 })
    const waits = rig.start(['build'])
    await waits.says('waiting for ci-7')
    waits.kill('SIGINT')
    expect((await waits.ended).code).toBe(130)
    // It is not ours to end.
    expect([...registry.manifests.keys()]).toEqual([tag])
    registry.fault = () => ({ status: 503 })
    const since = registry.calls.length
    const ran = await rig.vlb(['build'])
    expect(ran.code, ran.all).toBe(0)
    expect(registry.calls.slice(since).filter(({ path }) => path.includes('lease-'))).toEqual([])
  },
)
