// Signed snapshots: what is taken of whom.
import { join } from 'node:path'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import type { Need } from '../rig/need.ts'
import { FaultyRegistry } from '../rig/registry.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { signWith, sshKey, trustOnly } from '../rig/signers.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:ssh-keygen', 'tool:gpg', 'tool:busybox']

function signTest(name: string, body: (rig: Rig, registry: FaultyRegistry) => Promise<void>): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await FaultyRegistry.start()
      try {
        rig.project({ '10_a': 'true', '20_b': 'echo b > /b' }, `remote: ${registry.remote()}\nseal: false\n`)
        rig.commit()
        await rig.build('--no-remote')
        await body(rig, registry)
      } finally {
        registry.end()
      }
    },
    needs,
  )
}

/** A clone that takes signed snapshots alone, of these signers. */
function strict(rig: Rig, name: string, allowed: string): Clone {
  const clone = new Clone(rig, name)
  trustOnly(clone, allowed)
  return clone
}

const pulled = ['10_a pulled', '20_b pulled']
const built = ['10_a built', '20_b built']

signTest(
  'by ssh: of known signers it is taken; unsigned or of others it is built, said, and replaced',
  async (rig, registry) => {
    const [alice, mallory] = [sshKey(rig, 'alice'), sshKey(rig, 'mallory')]
    await rig.ok('push')
    const first = await strict(rig, 'b', alice).told()
    expect(first.layers).toEqual(built)
    expect(first.stderr).toContain('is not taken: it is not signed')
    // An unsigned tag stays where nobody minds, and is replaced by whoever does.
    signWith(rig, 'mallory')
    expect((await rig.json('push')).layers[0].result).toBe('there')
    registry.manifests.clear()
    await rig.ok('push')
    const second = strict(rig, 'c', alice)
    const told = await second.told()
    expect(told.layers).toEqual(built)
    expect(told.stderr).toContain('it is signed by nobody known here')
    expect(await strict(rig, 'd', alice + mallory).build()).toEqual(pulled)
    // Who does not require it takes either.
    expect(await new Clone(rig, 'e').build()).toEqual(pulled)
    second.git('config', 'gpg.format', 'ssh')
    second.git('config', 'user.signingKey', join(rig.folder, 'alice.pub'))
    second.git('config', 'commit.gpgSign', 'true')
    await second.ok('push')
    expect(await strict(rig, 'f', alice).build()).toEqual(pulled)
    const { snapshots } = JSON.parse((await second.ok('ls-remote', '--json')).stdout)
    expect(snapshots.map(({ signer }: { signer: string }) => signer)).toEqual([
      'alice@example.com',
      'alice@example.com',
    ])
  },
)

signTest(
  'a changed or a replayed manifest is refused, whether or not signatures are required',
  async (rig, registry) => {
    const alice = sshKey(rig, 'alice')
    signWith(rig, 'alice')
    await rig.ok('push')
    for (const [tag, bytes] of registry.manifests) {
      const manifest = JSON.parse(bytes.toString('utf8'))
      const config = registry.blobs.get(manifest.config.digest) as Buffer
      const changed = Buffer.from(config.toString('utf8').replace(/"nonce":"./g, '"nonce":"0'))
      const digest = `sha256:${rig.tool('sh', '-c', `printf %s "$1" | sha256sum`, 'sh', changed.toString('utf8')).slice(0, 64)}`
      registry.blobs.set(digest, changed)
      registry.manifests.set(
        tag,
        Buffer.from(JSON.stringify({ ...manifest, config: { ...manifest.config, digest, size: changed.length } })),
      )
    }
    for (const clone of [strict(rig, 'b', alice), new Clone(rig, 'c')]) {
      const told = await clone.told()
      expect(told.layers).toEqual(built)
      expect(told.stderr).toContain('its signature does not fit it')
    }
    registry.manifests.clear()
    await rig.ok('push')
    const [first = '', second = ''] = registry.manifests.keys()
    registry.manifests.set(second, registry.manifests.get(first) as Buffer)
    const replayed = await strict(rig, 'd', alice).told()
    expect(replayed.layers).toEqual(['10_a pulled', '20_b built'])
    expect(replayed.stderr).toContain('its signature does not fit it')
  },
)

signTest('by gpg, with the keyring', async (rig) => {
  const home = join(rig.folder, 'home/.gnupg')
  rig.tool('mkdir', '-m', '700', home)
  const env = `GNUPGHOME=${home}`
  const made = [
    '--batch',
    '--quiet',
    '--passphrase',
    '',
    '--quick-gen-key',
    'Alice <alice@example.com>',
    'ed25519',
    'sign',
  ]
  rig.tool('env', env, 'gpg', ...made)
  try {
    rig.git('config', 'user.signingKey', 'alice@example.com')
    rig.git('config', 'vlb.sign', 'true')
    await rig.ok('push')
    const b = strict(rig, 'b', '')
    expect(await b.build()).toEqual(pulled)
    const c = strict(rig, 'c', '')
    c.env = { GNUPGHOME: join(rig.folder, 'nobody') }
    rig.tool('mkdir', '-m', '700', join(rig.folder, 'nobody'))
    const told = await c.told()
    expect(told.layers).toEqual(built)
    expect(told.stderr).toContain('it is signed by nobody known here')
  } finally {
    rig.tool('env', env, 'gpgconf', '--kill', 'all')
    rig.tool('env', `GNUPGHOME=${join(rig.folder, 'nobody')}`, 'gpgconf', '--kill', 'all')
  }
})

signTest('without a key nothing is pushed unsigned that was to be signed', async (rig, registry) => {
  rig.git('config', 'vlb.sign', 'true')
  rig.git('config', 'gpg.format', 'ssh')
  const ran = await rig.vlb(['push'])
  expect(ran.code).toBe(2)
  expect(ran.stderr).toContain('git knows no key file for that')
  expect(registry.manifests.size).toBe(0)
})
