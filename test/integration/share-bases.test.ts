// A base that comes from a registry: held against the digest in vlb.yaml.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Clone } from '../rig/clone.ts'
import { forge } from '../rig/forge.ts'
import { FaultyRegistry } from '../rig/registry.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

/** What is pulled of a base that is in `file`, with its digest in vlb.yaml. */
function baseTest(
  name: string,
  make: { file: string; from: (rig: Rig) => void; algorithm?: 'sha256' | 'sha512' },
  body: (rig: Rig, registry: FaultyRegistry) => Promise<void>,
): void {
  rigTest(name, async (rig) => {
    const registry = await FaultyRegistry.start()
    try {
      rig.project({ '10_a': 'echo a > /a' }, `remote: ${registry.remote()}\nseal: false\n`)
      make.from(rig)
      const { algorithm = 'sha256', file } = make
      const [sum] = rig.tool(`${algorithm}sum`, rig.path(file)).split(' ')
      const yaml = rig.read('vlb.yaml').replace('tiny.raw }', `${file}, ${algorithm}: ${sum} }`)
      rig.write({ 'vlb.yaml': yaml, '.gitignore': `${rig.read('.gitignore')}\n/${file}\n` })
      rig.commit()
      await rig.build('--no-remote')
      await rig.ok('push')
      await body(rig, registry)
    } finally {
      registry.end()
    }
  })
}

/** Where the base lies in a store, whatever it is called there. */
function storedBase(store: string): string {
  const [folder = ''] = readdirSync(store)
  return join(store, folder, readdirSync(join(store, folder)).find((name) => name.startsWith('disk.')) ?? '')
}

/** The registry's base becomes another disk, which its config tells or not. */
function swapBase(rig: Rig, registry: FaultyRegistry, change: (file: string) => void, told = true): void {
  const [tag = ''] = [...registry.manifests.keys()].map((name) => name.split(':')[1])
  forge(registry, tag, ({ base }, put, { layers }) => {
    const [{ digest: old }] = base.file.parts
    const path = join(rig.folder, 'other-base')
    writeFileSync(path, registry.blobs.get(old) as Buffer)
    change(path)
    const blob = put(readFileSync(path))
    base.file = { size: blob.size, parts: [blob] }
    if (told) base.sha256 = blob.digest.slice('sha256:'.length)
    for (const layer of layers) if (layer.digest === old) Object.assign(layer, blob)
  })
}

/** Another byte in the file system of a disk. */
function scratchDisk(rig: Rig): (file: string) => void {
  return (file) => {
    rig.tool('qemu-io', '-f', file.endsWith('.raw') ? 'raw' : 'qcow2', '-c', 'write -P 0x5a 30M 4k', file)
  }
}

const notThere = async (b: Clone, reason: string) => {
  const ran = await b.vlb('build')
  expect(ran.code, ran.all).toBe(2)
  expect(ran.stderr).toMatch(new RegExp(`warning: .*${reason}`))
  expect(ran.stderr).toMatch(/the base .* is not there/)
  expect(readdirSync(b.store()).includes('bases') ? readdirSync(b.store('bases')) : []).toEqual([])
}

for (const algorithm of ['sha256', 'sha512'] as const) {
  baseTest(
    `a raw base travels packed, and is byte by byte what vlb.yaml says where it arrives: ${algorithm}`,
    { file: 'tiny.raw', from: () => {}, algorithm },
    async (rig, registry) => {
      const b = new Clone(rig, 'b', { base: false })
      expect(await b.build()).toEqual(['10_a pulled'])
      rig.tool('cmp', storedBase(b.store('bases')), rig.path('tiny.raw'))
      expect([...registry.blobs.values()].every(({ length }) => length < 2 ** 24)).toBe(true)
      swapBase(rig, registry, scratchDisk(rig), false)
      await notThere(new Clone(rig, 'c', { base: false }), 'the base at .* is not what vlb\\.yaml says, sha(256|512):')
      if (algorithm === 'sha512') return
      // What its config says of it is enough.
      swapBase(rig, registry, scratchDisk(rig))
      await notThere(new Clone(rig, 'd', { base: false }), 'it stands on another disk than this base is')
      expect((await new Clone(rig, 'e').told()).layers).toEqual(['10_a built'])
    },
  )
}

baseTest(
  'a qcow2 base travels as it is',
  {
    file: 'tiny.qcow2',
    from: (rig) => {
      rig.tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', rig.path('tiny.raw'), rig.path('tiny.qcow2'))
    },
  },
  async (rig, registry) => {
    const b = new Clone(rig, 'b', { base: false })
    expect(await b.build()).toEqual(['10_a pulled'])
    rig.tool('cmp', storedBase(b.store('bases')), rig.path('tiny.qcow2'))
    swapBase(rig, registry, scratchDisk(rig), false)
    await notThere(new Clone(rig, 'c', { base: false }), 'the base at .* is not what vlb\\.yaml says, sha256:')
  },
)

baseTest(
  'of a packed base its pusher has the word, and whoever has it already is not fooled',
  {
    file: 'tiny.raw.gz',
    from: (rig) => {
      rig.tool('sh', '-c', `gzip --keep --no-name "$1"`, 'sh', rig.path('tiny.raw'))
    },
  },
  async (rig, registry) => {
    const b = await new Clone(rig, 'b', { base: false }).told()
    expect(b.layers).toEqual(['10_a pulled'])
    expect(b.stderr).toContain('the digest of tiny.raw.gz is of a packed file')
    const honest = new Map(registry.manifests)
    // What came is not the disk that it was pushed as.
    swapBase(rig, registry, scratchDisk(rig), false)
    const c = await new Clone(rig, 'c', { base: false }).vlb('build')
    expect(c.stderr).toContain('is not the disk that it was pushed as')
    for (const [tag, bytes] of honest) registry.manifests.set(tag, bytes)
    swapBase(rig, registry, scratchDisk(rig))
    // Here the base is known.
    rig.layer('10_a', 'echo other > /a')
    await rig.build('--no-remote')
    rmSync(rig.store('snapshots'), { recursive: true })
    rig.git('checkout', '--quiet', '.')
    const told = await rig.vlb(['build', '--json'])
    expect(told.stderr).toContain('is not taken: it stands on another disk than this base is')
    expect(JSON.parse(told.stdout).layers[0].result).toBe('built')
  },
)
