import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { contentId, digest, type LayerKey, layerKey, snapshotId, treeId } from '../../../src/core/ids.ts'
import { type KeyInputs, keyOf } from '../../../src/core/key.ts'
import type { Manifest } from '../../../src/core/manifest.ts'
import {
  blobOf,
  blobsOf,
  composeManifest,
  mediaTypes,
  parseOciManifest,
  parseSnapshot,
  type SharedFile,
  type SharedSnapshot,
  shareManifest,
} from '../../../src/core/oci.ts'

const base = digest(`sha256:${'a'.repeat(64)}`)
const disk = {
  table: 'dos' as const,
  size: 2 ** 26,
  partitions: [{ number: 1, start: 2 ** 20, size: 2 ** 25, looksLikeRoot: true, fs: 'ext4' }],
}

function file(name: string, parts = 1): SharedFile {
  const blobs = Array.from({ length: parts }, (_, i) => blobOf(`${name} ${i}`))
  return { size: blobs.reduce((sum, { size }) => sum + size, 0), parts: blobs }
}

function manifest(layer: string, inputs: KeyInputs): Manifest {
  const key = keyOf(inputs)
  return {
    format: 1,
    id: snapshotId(key),
    key,
    contentId: contentId(key),
    nonce: 'b'.repeat(32),
    inputs,
    layer,
    project: '/home/somebody/secret-project',
    disk: { ...disk, root: 1 },
    fileBytes: 1,
    bytes: 1,
    seconds: 1.5,
    builtAt: '2024-01-01T00:00:00.000Z',
  }
}

const lower: Manifest = {
  ...manifest('10_a', { kind: 'build-layer', engine: 1, base, tree: treeId('c'.repeat(40)) }),
  base,
}
const upper = manifest('20_b', {
  kind: 'build-layer',
  engine: 1,
  parent: lower.contentId,
  tree: treeId('d'.repeat(40)),
  env: { PASSWORD: 'swordfish' },
})

function sample(): SharedSnapshot {
  return structuredClone({
    format: 1,
    key: upper.key,
    contentId: upper.contentId,
    arch: 'x86_64',
    base: { digest: base, sha256: '9'.repeat(64), disk, source: 'debian.qcow2', file: file('base', 3) },
    layers: [lower, upper].map((one) => ({
      manifest: shareManifest(one),
      file: file(one.layer),
      details: blobOf(`${one.layer} details`),
    })),
  })
}

const read = (snapshot: SharedSnapshot, key: LayerKey = upper.key) =>
  parseSnapshot(composeManifest(snapshot).config, key, blobsOf(snapshot))

describe('a snapshot for a registry', () => {
  test('comes back as it was', () => {
    const { config, manifest: text } = composeManifest(sample())
    const found = parseOciManifest(text)
    if (typeof found === 'string') throw new Error(found)
    expect(found.config).toEqual(blobOf(config))
    expect(found.blobs).toEqual(blobsOf(sample()))
    expect(parseSnapshot(config, upper.key, found.blobs)).toEqual(sample())
  })

  test('is an image manifest of our kind, with names that tools can use', () => {
    const data = JSON.parse(composeManifest(sample()).manifest)
    expect(data).toMatchObject({ schemaVersion: 2, mediaType: mediaTypes.manifest, artifactType: mediaTypes.artifact })
    const titles = data.layers.map(
      (one: { annotations: Record<string, string> }) => one.annotations['org.opencontainers.image.title'],
    )
    expect(titles).toEqual([
      'base.001',
      'base.002',
      'base.003',
      '01-10_a.qcow2',
      '01-10_a.json.gz',
      '02-20_b.qcow2',
      '02-20_b.json.gz',
    ])
    expect(data.layers[1].annotations['vnd.git-vlb.offset']).toBe(String(data.layers[0].size))
  })

  test('tells nothing of this machine, and no values', () => {
    const { config, manifest: text } = composeManifest(sample())
    for (const secret of ['swordfish', 'secret-project']) expect(config + text).not.toContain(secret)
    expect(config).toContain('"values":["PASSWORD"]')
  })

  const spoilt: [string, (snapshot: SharedSnapshot) => void, RegExp][] = [
    ['another key', (s) => (s.key = layerKey('0'.repeat(64))), /another key/],
    ['another content id', (s) => (s.contentId = contentId('0'.repeat(64))), /another key/],
    [
      'inputs that give another key',
      (s) => Object.assign(lowest(s).inputs, { tree: 'e'.repeat(40) }),
      /give another key/,
    ],
    ['another parent', (s) => (lowest(s).contentId = contentId('1'.repeat(64))), /does not stand on what is below/],
    ['another base', (s) => (lowest(s).base = digest(`sha256:${'f'.repeat(64)}`)), /another base/],
    [
      'a base of another digest',
      (s) => Object.assign(s.base ?? {}, { digest: `sha256:${'f'.repeat(64)}` }),
      /base is another one/,
    ],
    ['a digest of the disk that is none', (s) => Object.assign(s.base ?? {}, { sha256: 'x' }), /not valid/],
    ['a path for a digest', (s) => (lowest(s).base = digest('sha256:../../x')), /not valid/],
    ['a path for a name', (s) => (lowest(s).layer = '../../etc'), /not valid/],
    ['a nonce that is none', (s) => (lowest(s).nonce = 'x'), /not valid/],
    [
      'a partition beyond the disk',
      (s) => ((lowest(s).disk.partitions[0] as { size: number }).size = 2 ** 40),
      /beyond its disk/,
    ],
    ['no root', (s) => (lowest(s).disk.root = 2), /no root/],
    [
      'a disk that shrinks',
      (s) => Object.assign(s.layers[1]?.manifest.disk ?? {}, { size: 2 ** 25 + 2 ** 20 }),
      /smaller/,
    ],
    ['pieces that are not the file', (s) => Object.assign(s.layers[0]?.file ?? {}, { size: 5 }), /pieces/],
    ['nothing below', (s) => s.layers.shift(), /stand on what is below/],
  ]
  test.each(spoilt)('is refused with %s', (_, spoil, reason) => {
    const snapshot = sample()
    spoil(snapshot)
    expect(read(snapshot)).toMatch(reason)
  })

  test('is refused under another key, and with blobs that its manifest does not list', () => {
    expect(read(sample(), lower.key)).toMatch(/another key/)
    const { config } = composeManifest(sample())
    expect(parseSnapshot(config, upper.key, blobsOf(sample()).slice(1))).toMatch(/does not list/)
    const short = blobsOf(sample()).map(({ digest: id, size }) => ({ digest: id, size: size - 1 }))
    expect(parseSnapshot(config, upper.key, short)).toMatch(/does not list/)
  })

  test('half a character as a name is refused', () => {
    const crafted = sample()
    Object.assign(lowest(crafted).inputs, { includes: { '\ud800': `100644 ${'a'.repeat(40)}` } })
    expect(parseSnapshot(JSON.stringify(crafted), upper.key, [])).toMatch(/is not valid/)
  })

  test('any bytes are an answer, never an exception', () => {
    const { config, manifest: text } = composeManifest(sample())
    const damaged = (whole: string) =>
      fc
        .tuple(fc.nat(whole.length), fc.string())
        .map(([at, more]) => whole.slice(0, at) + more + whole.slice(at + more.length))
    fc.assert(
      fc.property(damaged(config), (given) => void parseSnapshot(given, upper.key, blobsOf(sample()))),
      { numRuns: 300 },
    )
    fc.assert(fc.property(fc.oneof(damaged(text), fc.json()), (given) => void parseOciManifest(given)))
    fc.assert(fc.property(fc.json(), (given) => typeof parseSnapshot(given, upper.key, []) === 'string'))
  })
})

function lowest(snapshot: SharedSnapshot) {
  return (snapshot.layers[0] as SharedSnapshot['layers'][number]).manifest
}
