// What an image is at a registry, and what may be its tag.
import { describe, expect, test } from 'vitest'
import { blobOf, mediaTypes, partLimit } from '../../../src/core/oci.ts'
import {
  checkTag,
  composeImage,
  fileName,
  fileStem,
  imageBlobs,
  imageStatement,
  imageSummary,
  imageTypes,
  mayBeImage,
  parseImage,
  parseImageManifest,
  type SharedImage,
} from '../../../src/core/oci-image.ts'
import { complaint } from '../errors.ts'

const hex = (digit: string) => digit.repeat(64)

function sample(pieces = 3): SharedImage {
  const parts = Array.from({ length: pieces }, (_, i) => blobOf(`piece ${i}`))
  const size = parts.reduce((sum, part) => sum + part.size, 0)
  const [only] = parts
  const sha256 = pieces === 1 ? (only?.digest ?? '').slice('sha256:'.length) : hex('c')
  return {
    ...{ format: 1, project: 'web', tag: 'v1.0', revision: 'd'.repeat(40), contentId: hex('a'), arch: 'x86_64' },
    builtAt: '2024-01-01T00:00:00.000Z',
    disk: { name: 'web-v1.0.qcow2', format: 'qcow2', capacity: 2 ** 30, sha256, file: { size, parts } },
    files: [{ name: 'SHA256SUMS', mediaType: 'text/plain', blob: blobOf('sums') }],
  }
}

const read = (image: SharedImage, tag = 'v1.0') => parseImage(composeImage(image).config, tag, imageBlobs(image))

describe('an image for a registry', () => {
  test.each([1, 3])('comes back as it was, of %s pieces', (pieces) => {
    const { config, manifest } = composeImage(sample(pieces), '', 'signed')
    const found = parseImageManifest(manifest)
    if (typeof found === 'string') throw new Error(found)
    expect(found).toEqual({ config: blobOf(config), blobs: imageBlobs(sample(pieces)), signature: 'signed' })
    expect(parseImage(config, 'v1.0', found.blobs)).toEqual(sample(pieces))
  })

  test('is an image manifest with the names and annotations that tools know', () => {
    const data = JSON.parse(composeImage(sample()).manifest)
    expect(data).toMatchObject({
      ...{ schemaVersion: 2, mediaType: mediaTypes.manifest, artifactType: imageTypes.artifact },
      config: { mediaType: 'application/vnd.git-vlb.image.config.v1+json' },
      annotations: {
        'org.opencontainers.image.title': 'web',
        'org.opencontainers.image.version': 'v1.0',
        'org.opencontainers.image.created': '2024-01-01T00:00:00.000Z',
        'org.opencontainers.image.revision': 'd'.repeat(40),
      },
    })
    const layers = data.layers as { mediaType: string; annotations: Record<string, string> }[]
    expect(layers.map((one) => `${one.mediaType} ${one.annotations['org.opencontainers.image.title']}`)).toEqual([
      'application/vnd.git-vlb.disk.v1.qcow2 web-v1.0.qcow2.001',
      'application/vnd.git-vlb.disk.v1.qcow2 web-v1.0.qcow2.002',
      'application/vnd.git-vlb.disk.v1.qcow2 web-v1.0.qcow2.003',
      'text/plain SHA256SUMS',
    ])
    const [one] = JSON.parse(composeImage(sample(1)).manifest).layers
    expect(one.annotations['org.opencontainers.image.title']).toBe('web-v1.0.qcow2')
  })

  test('a blank more is another config of the same image', () => {
    const [plain, padded] = [composeImage(sample()), composeImage(sample(), ' ')]
    expect(blobOf(padded.config)).not.toEqual(blobOf(plain.config))
    expect(parseImage(padded.config, 'v1.0', imageBlobs(sample()))).toEqual(sample())
  })

  const spoilt: [string, (image: SharedImage) => void, RegExp][] = [
    ['another tag', (i) => (i.tag = 'v2.0'), /it was pushed as v2\.0/],
    ['a path for a name', (i) => (i.disk.name = '../x'), /not valid at #\/disk\/name/],
    ['a path for a name beside it', (i) => Object.assign(i.files[0] ?? {}, { name: 'a/b' }), /not valid/],
    ['a format that is none', (i) => Object.assign(i.disk, { format: 'iso' }), /not valid at #\/disk\/format/],
    ['no size', (i) => (i.disk.capacity = 0), /not valid/],
    ['a revision that is none', (i) => (i.revision = 'main'), /not valid at #\/revision/],
    ['pieces that are not the file', (i) => (i.disk.file.size += 1), /its pieces do not make up its file/],
    ['no pieces', (i) => (i.disk.file = { size: 0, parts: [] }), /not valid/],
  ]
  test.each(spoilt)('is refused with %s', (_, spoil, reason) => {
    const image = sample()
    spoil(image)
    expect(read(image)).toMatch(reason)
  })

  test('is refused where the one piece is not the file, or a blob is not listed', () => {
    const image = sample(1)
    image.disk.sha256 = hex('e')
    expect(read(image)).toMatch(/another digest/)
    expect(parseImage(composeImage(sample()).config, 'v1.0', imageBlobs(sample()).slice(1))).toMatch(/does not list/)
    expect(parseImage('nonsense', 'v1.0', [])).toMatch(/not valid/)
    expect(parseImageManifest(JSON.stringify({ schemaVersion: 2, layers: [], config: {} }))).toMatch(
      /no image of git vlb/,
    )
  })

  test('a list has its tag, size, date and commit; nothing of what is no image', () => {
    const { config, manifest } = composeImage(sample(), '', 'signed')
    expect(imageSummary(manifest)).toEqual({
      ...{ config: blobOf(config).digest, signature: 'signed', builtAt: '2024-01-01T00:00:00.000Z' },
      ...{ revision: 'd'.repeat(40), bytes: sample().disk.file.size },
    })
    const { revision: _, ...uncommitted } = sample()
    expect(imageSummary(composeImage(uncommitted).manifest)?.revision).toBe('')
    expect(imageSummary(manifest.replaceAll('git-vlb.image', 'git-vlb.snapshot'))).toBeUndefined()
    expect(imageSummary(manifest.replace('2024-01-01', '\\u001b[31m'))?.builtAt).toBe('')
  })

  test('is signed with its tag', () => {
    expect(imageStatement('v1.0', 'sha256:x')).toBe('git-vlb image 1\ntag v1.0\nconfig sha256:x\n')
    expect(partLimit).toBe(2 ** 29)
  })
})

describe('tags', () => {
  test.each(['v1.0', 'latest', '_x', '2024-01-01', 'A.b_c-d', 'x'.repeat(128), hex('a').slice(1), 'lease-1'])(
    '%s is one',
    (tag) => {
      checkTag(tag)
      expect(mayBeImage(tag)).toBe(true)
    },
  )

  test.each(['', '.x', '-x', 'a/b', 'a b', 'ä', 'x'.repeat(129), 'a\n', '../x'])('%j is none', (tag) =>
    expect(complaint('VLB_USAGE', () => checkTag(tag))).toMatch(/is no tag that a registry takes\n?.*hint: letters/s),
  )

  test.each([hex('a'), `lease-${hex('a')}`, `sha256-${hex('a')}`, `sha256-${hex('a')}.sig`])(
    '%s has a meaning of its own',
    (tag) => {
      expect(complaint('VLB_USAGE', () => checkTag(tag))).toContain('have a meaning of their own')
      expect(mayBeImage(tag)).toBe(false)
    },
  )
})

test('files are called by project and tag, whatever the folder is called', () => {
  expect(fileName('web', 'v1.0', 'qcow2')).toBe('web-v1.0.qcow2')
  expect(fileName('web', 'v1.0', 'vpc')).toBe('web-v1.0.vhd')
  expect(fileStem('../Mein Büro', 'x')).toBe('Mein-B-ro-x')
  expect(fileStem('…', 'x')).toBe('image-x')
})
