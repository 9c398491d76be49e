import { describe, expect, test } from 'vitest'
import { type BuildRecord, findRecord, parseRecords, withRecord, withTests } from '../../../src/core/record.ts'

const record = (more: Partial<BuildRecord> = {}): BuildRecord => ({
  vlb: 1,
  path: '',
  project: 'web',
  builtAt: '2024-01-01T00:00:00Z',
  version: '1.0.0',
  engine: 1,
  arch: 'x86_64',
  layers: [{ name: '10_a', kind: 'build-layer', tree: 'aa', key: 'k', contentId: 'c', bytes: 1, packages: 'p' }],
  lists: { p: 'ab'.repeat(20) },
  ...more,
})

describe('a record in a note', () => {
  test('has a line of its own for each project, in order', () => {
    const note = withRecord(withRecord('', record({ path: 'b' })), record({ path: 'a' }))
    expect(note.trim().split('\n')).toHaveLength(2)
    expect(parseRecords(note).map(({ path }) => path)).toEqual(['a', 'b'])
    expect(findRecord(note, 'b')?.path).toBe('b')
    expect(findRecord(note, 'c')).toBeUndefined()
  })

  test('replaces the one that was there, and leaves what others wrote', () => {
    const note = withRecord(`b word\n\na word\n${withRecord('', record())}{"vlb":2}\n`, record({ project: 'other' }))
    expect(parseRecords(note).map(({ project }) => project)).toEqual(['other'])
    expect(note).toMatch(/^b word\n\na word\n{"vlb":2}\n{/)
  })

  test('is not written again by another version that found the same', () => {
    const note = withRecord('', record())
    expect(withRecord(note, record({ version: '2.0.0' }))).toBe(note)
    expect(withRecord(note, record({ engine: 2 }))).not.toBe(note)
  })

  test('keeps what others added, as long as the image is the same', () => {
    const image = { format: 'qcow2', bytes: 5, sha256: 'ff' }
    const note = withRecord('', record({ image, boot: [{ ok: true }] }))
    const again = withRecord(note, record({ builtAt: '2025-01-01T00:00:00Z' }))
    expect(findRecord(again, '')).toMatchObject({ builtAt: '2025-01-01T00:00:00Z', image, boot: [{ ok: true }] })
    const layers = record().layers.map((layer) => ({ ...layer, contentId: 'd' }))
    expect(findRecord(withRecord(note, record({ layers })), '')).toEqual(record({ layers }))
  })

  test('tells of the tests that its image passed, and no other image', () => {
    const tests = { at: '2025-01-01T00:00:00Z', checks: 6, machines: ['1 cpu, 1.0 GiB'] }
    const note = withRecord(withRecord('a word\n', record()), record({ path: 'b' }))
    const tested = withTests(note, '', 'c', tests)
    expect(findRecord(tested, '')).toMatchObject({ tests })
    expect(findRecord(tested, 'b')).not.toHaveProperty('tests')
    expect(tested).toMatch(/^a word\n/)
    expect(withTests(note, '', 'another', tests)).toBe(note)
    expect(withTests('', '', 'c', tests)).toBe('')
    expect(findRecord(withRecord(tested, record()), '')).toMatchObject({ tests })
  })

  test('of other values given lies beside it, and counts after it', () => {
    const given = record({ given: ['RELEASE'], builtAt: '2030-01-01T00:00:00Z' })
    const note = withRecord(withRecord('', given), record())
    expect(parseRecords(note)).toHaveLength(2)
    expect(findRecord(note, '')?.given).toBeUndefined()
    expect(findRecord(withRecord('', given), '')?.given).toEqual(['RELEASE'])
  })

  test('of several clones: the newest counts', () => {
    const line = (one: BuildRecord) => withRecord('', one)
    const merged = [line(record({ builtAt: '2024-02-02T00:00:00Z', arch: 'new' })), line(record())].join('')
    expect(findRecord(merged, '')?.arch).toBe('new')
    expect(withRecord(merged, record()), 'one of the lines says so already').toBe(merged)
  })

  test('that is none is passed over', () => {
    const lines = [
      '{',
      'null',
      '[]',
      '{"vlb":1}',
      JSON.stringify(record({ layers: [{ name: '../../x' }] as never })),
      JSON.stringify(record({ lists: { p: '--upload-pack=x' } })),
      JSON.stringify({ ...record(), lists: null }),
      JSON.stringify({ ...record(), builtAt: 5 }),
    ]
    expect(parseRecords(lines.join('\n'))).toEqual([])
  })
})
