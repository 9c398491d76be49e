// The whole story on a real Debian: a project from the template is built from packages, booted, asked for its web page,
// changed and built again. What boots first went through a registry. The booted image stays as it is, byte for byte.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { DockerRegistry } from '../rig/docker-registry.ts'
import { freePort } from '../rig/ports.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const tools = ['tool:mmdebstrap', 'tool:extlinux', 'tool:qemu-system-x86_64', 'tool:docker-registry'] as const
const needs = ['root', 'fuse', 'loop', ...tools] as const

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** Asks until there is an answer: services come up around the time of the login prompt. */
async function fetchPage(port: number): Promise<string> {
  for (let i = 0; ; i++) {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(5000) })
      return await response.text()
    } catch (error) {
      if (i === 60) throw error
      await delay(1000)
    }
  }
}

async function bootAndFetch(rig: Rig): Promise<string> {
  const port = await freePort()
  const guest = rig.start(['test-boot', '--console', '--forward', `${port}:80`])
  try {
    for (let i = 0; i < 3000 && !/login:/.test(guest.stdout + guest.stderr); i++) await delay(100)
    expect(guest.stdout + guest.stderr).toMatch(/debian login:/)
    return await fetchPage(port)
  } finally {
    guest.kill('SIGTERM')
    await guest.ended
  }
}

/** The image as somebody else gets it. */
async function throughRegistry(rig: Rig): Promise<string> {
  const registry = await DockerRegistry.start(join(rig.folder, 'registry'))
  try {
    rig.git('config', 'vlb.remote', registry.remote())
    const { files } = await rig.json('push', '--image', 'v1.0')
    expect(files).toContainEqual(expect.stringMatching(/\.spdx\.json$/))
    await rig.ok('pull', '--image', 'v1.0', '-o', '../pulled.qcow2')
  } finally {
    await registry.end()
    rig.git('config', '--unset', 'vlb.remote')
  }
  return join(rig.folder, 'pulled.qcow2')
}

rigTest(
  'a Debian image is built from the template, boots to its login prompt and serves its page',
  async (rig) => {
    await rig.ok('init', '--template', 'debian', '.')
    rig.commit('a web server')
    const all = ['00_base', 'disk', '10_nginx', '20_site', '30_motd']
    expect(await rig.build()).toEqual(all.map((name) => `${name} built`))
    expect(await rig.build()).toEqual(all.map((name) => `${name} cached`))

    const image = rig.path('build/image.qcow2')
    const before = await sha256(image)
    const pulled = await throughRegistry(rig)
    expect(await sha256(pulled)).toBe(before)
    const boot = await rig.json('test-boot', pulled, '--expect', 'login:', '--timeout', '20m')
    expect(boot, boot.reason).toMatchObject({ ok: true, expect: 'login:' })
    expect(boot.matched).toContain('debian login:')
    expect(await bootAndFetch(rig)).toContain('<html')
    expect(await sha256(image)).toBe(before)

    // Nothing to build and nothing to write: booting is not even noticed.
    const again = await rig.json('build')
    expect(again.image.written).toBe(false)

    rig.write({ '30_motd/build-layer': '#!/bin/sh\necho changed >/etc/motd\n' })
    expect(await rig.build()).toEqual([...all.slice(0, 4).map((name) => `${name} cached`), '30_motd built'])
    rig.commit('another motd')
    expect(await rig.build()).toEqual(all.map((name) => `${name} cached`))

    const never = await rig.vlb(['test-boot', '--expect', 'this is never shown', '--timeout', '5s'])
    expect(never.code).toBe(1)
    expect(never.all).toMatch(/this is never shown/)
  },
  needs,
)
