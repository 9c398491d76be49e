// Manifests: read as they were written; anything else is none.
import { expect, test } from 'vitest'
import { contentId, layerKey, snapshotId } from '../../../src/core/ids.ts'
import { type Manifest, parseBaseRecord, parseManifest } from '../../../src/core/manifest.ts'

const key = 'ab'.repeat(32)
const manifest: Manifest = {
  format: 1,
  id: snapshotId(key),
  key: layerKey(key),
  contentId: contentId(key),
  nonce: 'n',
  inputs: { kind: 'build-layer', arch: 'x86_64', engine: 1 },
  layer: '10_a',
  project: '/x',
  disk: { table: 'dos', size: 1, partitions: [], root: 1 },
  fileBytes: 1,
  bytes: 1,
  seconds: 0.5,
  builtAt: '2024-01-01T00:00:00.000Z',
}
const broken = (change: object) => parseManifest(JSON.stringify({ ...manifest, ...change }))

test('what was written is read', () => {
  expect(parseManifest(JSON.stringify(manifest, null, 2))).toEqual(manifest)
  expect(broken({ later: 'fields' })).toMatchObject(manifest)
})

test.each<[string, string]>([
  ['nothing', ''],
  ['half a file', JSON.stringify(manifest).slice(0, 100)],
  ['zeros, as a power loss leaves them', '\0'.repeat(50)],
  ['null', 'null'],
  ['a number', '1'],
  ['a list', '[]'],
])('%s is none', (_name, text) => expect(parseManifest(text)).toBeUndefined())

test.each<[string, object]>([
  ['another format', { format: 2 }],
  ['no key', { key: undefined }],
  ['no id', { id: 5 }],
  ['no content id', { contentId: null }],
  ['no length', { fileBytes: '1' }],
  ['no inputs', { inputs: undefined }],
  ['inputs that are null', { inputs: null }],
  ['no disk', { disk: undefined }],
  ['a disk without partitions', { disk: { table: 'dos' } }],
])('%s is none', (_name, change) => expect(broken(change)).toBeUndefined())

test.each<[string, object]>([
  ['a layer that is no text', { layer: { a: 1 } }],
  ['inputs that are no texts', { inputs: { kind: 'build-layer', engine: 1, env: { A: 1 } } }],
  ['a partition that is none', { disk: { table: 'dos', size: 1, root: 1, partitions: [null] } }],
  ['steps that are none', { steps: [{ layer: '10_a' }] }],
])('%s: none', (_name, change) => expect(broken(change)).toBeUndefined())

test('what lies beside a base: whole, or none; and it names no file but its own', () => {
  const record = {
    ...{ format: 1, digest: 'sha256:ab', file: 'disk.raw', imageFormat: 'raw', fileBytes: 1, source: 'x', addedAt: '' },
    disk: { table: 'none', size: 1, partitions: [] },
  }
  expect(parseBaseRecord(JSON.stringify(record), record.digest)).toEqual(record)
  for (const change of [{ file: '../../x' }, { file: 'disk.qcow2' }, { disk: null }, { fileBytes: '1' }])
    expect(parseBaseRecord(JSON.stringify({ ...record, ...change }), record.digest)).toBeUndefined()
  expect(parseBaseRecord(JSON.stringify(record).slice(0, 50), record.digest)).toBeUndefined()
})
