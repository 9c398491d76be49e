// What git prints, what notes, hooks and commits of others hold, and what lies in the store, where anybody may have changed it.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  findBlock,
  hookBlock,
  kindOf,
  shellQuoted,
  unwrappedLine,
  withBlock,
  withoutBlock,
  wrappedLine,
} from '../../src/core/hooks.ts'
import { differingInputs, encodeKey, type KeyInputs } from '../../src/core/key.ts'
import { parseManifest } from '../../src/core/manifest.ts'
import { parsePrebuildState } from '../../src/core/prebuild.ts'
import { type BuildRecord, findRecord, parseRecords, recordText, withRecord, withTests } from '../../src/core/record.ts'
import { logHeading, splitLog } from '../../src/core/rolled-up.ts'
import { readRollupTrailers, rollupMessage } from '../../src/core/rollup.ts'
import { lastSnapshot } from '../../src/core/why.ts'
import { CatFile } from '../../src/git/cat-file.ts'
import { parseTouched } from '../../src/git/commits.ts'
import { parseTree } from '../../src/git/objects.ts'
import { parseStatusLine } from '../../src/git/status-lines.ts'
import { anyBytes, anyText, jsonOf, linesOf, madeOf, orRefusal } from './outside.ts'

const hex = (length: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`))
/** As git holds them: any bytes but these two. */
const fileName = fc
  .uint8Array({ minLength: 1, maxLength: 20 })
  .map((bytes) => Buffer.from(bytes).toString('latin1').replace(/[\0/]/g, 'x'))
const path = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).map((text) => text.replaceAll('\0', 'x'))

describe('what git prints', () => {
  test('a line of its status: a path of any characters', () => {
    fc.assert(
      fc.property(path, (name) => {
        expect(parseStatusLine(`1 .M N... 100644 100644 100644 ${'a'.repeat(40)} ${'b'.repeat(40)} ${name}`)).toEqual({
          kind: '1',
          path: name,
        })
        expect(parseStatusLine(`? ${name}`)).toEqual({ kind: '?', path: name })
      }),
    )
    fc.assert(fc.property(madeOf(['1', '2', 'u', '?', '#', ' ', '.M', 'x']), (line) => void parseStatusLine(line)))
  })

  test('the paths of commits', () => {
    const commit = fc.record({
      id: hex(40),
      paths: fc.array(path, { maxLength: 4 }),
      renames: fc.array(fc.tuple(path, path), { maxLength: 2 }),
    })
    fc.assert(
      fc.property(fc.uniqueArray(commit, { maxLength: 4, selector: ({ id }) => id }), (commits) => {
        const text = commits
          .map(
            ({ id, paths, renames }) =>
              `${id}\0${[...paths.map((one) => `M\0${one}\0`), ...renames.map(([a, b]) => `R100\0${a}\0${b}\0`)].map((word, i) => (i === 0 ? `\n${word}` : word)).join('')}`,
          )
          .join('')
        const found = parseTouched(text)
        for (const { id, paths, renames } of commits) {
          expect(found.get(id)?.paths).toEqual([...paths, ...renames.flat()])
          expect(found.get(id)?.renames).toEqual(renames.map(([from, to]) => ({ from, to })))
        }
      }),
    )
    fc.assert(fc.property(madeOf(['a'.repeat(40), '\0', '\n', 'M', 'R100', 'x']), (text) => void parseTouched(text)))
  })

  test('a tree is read as it was written; one that is damaged is refused', () => {
    const entry = fc.record({
      mode: fc.constantFrom('40000', '100644', '100755', '120000', '160000'),
      name: fileName,
      oid: hex(40),
    })
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 6 }), (entries) => {
        const raw = Buffer.concat(
          entries.map(({ mode, name, oid }) =>
            Buffer.concat([Buffer.from(`${mode} ${name}\0`, 'latin1'), Buffer.from(oid, 'hex')]),
          ),
        )
        const shown = entries.map((one) => ({ ...one, name: Buffer.from(one.name, 'latin1').toString('utf8') }))
        expect(parseTree(raw, 20)).toEqual(shown)
        if (raw.length > 0) orRefusal(() => parseTree(raw.subarray(1), 20))
      }),
    )
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.constantFrom(20, 32),
        (bytes, length) => void orRefusal(() => parseTree(Buffer.from(bytes), length)),
      ),
    )
  })

  test('objects of any content, read one by one and written many at a time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vlb-fuzz-'))
    try {
      execFileSync('git', ['init', '--quiet', '--bare', folder])
      const contents = fc.sample(
        fc.uint8Array({ maxLength: 300 }),
        Math.min(1000, fc.readConfigureGlobal().numRuns ?? 100),
      )
      const blobs = contents.map((bytes) => writeBlob(folder, Buffer.from(bytes)))
      const git = new CatFile(folder, {})
      try {
        for (const { oid, content } of blobs) {
          const pieces: Buffer[] = []
          expect(await git.read(oid, (piece) => pieces.push(Buffer.from(piece)))).toBe('blob')
          expect(Buffer.concat(pieces).equals(content)).toBe(true)
        }
        const file = join(folder, 'written')
        const writeAll = async (next: (file: number) => Promise<unknown>) => {
          for (const { content } of blobs) {
            const fd = openSync(file, 'w')
            await next(fd)
            closeSync(fd)
            expect(readFileSync(file).equals(content)).toBe(true)
          }
        }
        await git.batch(
          blobs.map(({ oid }) => oid),
          writeAll,
        )
        expect(await git.read('0'.repeat(40), () => {})).toBeUndefined()
      } finally {
        await git.close()
      }
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

/** A loose object (gitformat-pack(5) has the others). */
function writeBlob(folder: string, content: Buffer): { oid: string; content: Buffer } {
  const object = Buffer.concat([Buffer.from(`blob ${content.length}\0`), content])
  const oid = createHash('sha1').update(object).digest('hex')
  const file = join(folder, 'objects', oid.slice(0, 2), oid.slice(2))
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, deflateSync(object))
  return { oid, content }
}

describe('hooks', () => {
  const script = fc.oneof(
    linesOf(['#!/bin/sh', 'exit 0', '# >>> git vlb hook', ' 1 >>> x', '# <<< git vlb hook <<<', 'set -e', '\r']),
    anyBytes,
  )
  const parts = fc.record({
    script: fc.constant('# x\nexit 0\n'),
    node: path,
    main: path,
    projects: fc.array(
      path.map((one) => one.replaceAll('\n', ' ')),
      { minLength: 1, maxLength: 3 },
    ),
  })

  test('what is put into one is found, and taken out to the last byte', () => {
    fc.assert(
      fc.property(script, parts, (content, given) => {
        if (orRefusal(() => findBlock(content, 'hook')) !== undefined || content.includes('git vlb hook')) return
        const made = withBlock(content, (flags) => hookBlock('post-merge', given, flags))
        const found = findBlock(made, 'hook')
        expect(found?.projects).toEqual(given.projects)
        expect(found && withoutBlock(made, found)).toBe(content)
      }),
    )
  })

  test('a first line that is wrapped is the same when it is unwrapped', () => {
    fc.assert(
      fc.property(madeOf(['#!', '/usr/bin/', 'python3', ' -u', ' ', 'env', '"', "'", '/', '\t']), (line) => {
        const made = wrappedLine(line)
        if (made !== undefined) expect(unwrappedLine(made)).toBe(line)
        expect(['shell', 'script', 'other']).toContain(kindOf(line))
      }),
    )
  })

  test('a word for sh is one word, and the same', () => {
    const words = fc.sample(path, 200)
    const said = execFileSync('sh', ['-c', words.map((word) => `printf '%s\\0' ${shellQuoted(word)}`).join('\n')], {
      maxBuffer: 2 ** 24,
    })
    expect(said.toString().split('\0').slice(0, -1)).toEqual(words)
  })
})

describe('records of builds in notes', () => {
  const layer = fc.record({
    name: fc.constantFrom('10_a', '20_b', 'disk'),
    kind: fc.constant('build-layer'),
    key: hex(64),
    contentId: hex(64),
    bytes: fc.nat(),
  })
  const record = fc.record({
    vlb: fc.constant(1),
    path: fc.constantFrom('', 'sub'),
    project: anyText,
    builtAt: fc.constantFrom('2024-01-01', '2024-01-02'),
    version: fc.constant('1'),
    engine: fc.constant(1),
    arch: fc.constant('x86_64'),
    given: fc.option(fc.array(fc.constantFrom('A', 'B')), { nil: undefined }),
    layers: fc.array(layer, { maxLength: 3 }),
    lists: fc.constant({}),
  }) as fc.Arbitrary<unknown> as fc.Arbitrary<BuildRecord>
  const names = [
    'vlb',
    'path',
    'project',
    'builtAt',
    'version',
    'engine',
    'arch',
    'base',
    'given',
    'layers',
    'name',
    'kind',
    'key',
    'contentId',
    'bytes',
    'lists',
    'image',
    'tests',
  ]
  const note = fc
    .array(
      fc.oneof(
        record.map((one) => JSON.stringify(one)),
        jsonOf(names, [1]),
        anyText,
      ),
      { maxLength: 4 },
    )
    .map((lines) => lines.join('\n'))

  test('any note is read; what is no record is passed over', () => {
    fc.assert(
      fc.property(note, (text) => {
        for (const one of parseRecords(text))
          expect(one.layers.every(({ name, bytes }) => typeof name === 'string' && Number.isFinite(bytes))).toBe(true)
        withTests(text, '', 'x', { at: '', checks: 1, machines: [] })
      }),
    )
  })

  test('one that is written is found, once, and writing it again changes nothing', () => {
    fc.assert(
      fc.property(note, record, (text, one) => {
        const written = withRecord(text, one)
        const same = parseRecords(written).filter((other) => recordText(other) === recordText(one))
        expect(withRecord(written, one)).toBe(written)
        expect(findRecord(written, one.path)).toBeDefined()
        expect(same.length).toBeLessThanOrEqual(1)
        // What others wrote stays.
        for (const line of text.split('\n'))
          if (line.trim() !== '' && parseRecords(line).length === 0) expect(written.split('\n')).toContain(line)
      }),
    )
  })
})

describe('commits of rollups', () => {
  test('say what was rolled up, whatever people call their commits', () => {
    const name = fc.constantFrom('10_a', '20_b..c', '30_d-e')
    const commit = fc.record({ id: hex(7), author: anyText, date: fc.constant('2024-01-01'), subject: anyText })
    const layer = fc.record({ name, key: hex(64), commits: fc.array(commit, { maxLength: 3 }), more: fc.nat(2) })
    const into = fc.record({ name, key: hex(64), contentId: hex(64) })
    fc.assert(
      fc.property(
        fc.array(layer, { minLength: 2, maxLength: 3 }),
        into,
        fc.option(fc.constant('my words'), { nil: undefined }),
        (layers, target, given) => {
          expect(readRollupTrailers(rollupMessage(given, layers, target))).toEqual({
            layers: layers.map((one) => ({ name: one.name, key: one.key })),
            into: target,
          })
        },
      ),
    )
  })

  test('any message is read', () => {
    fc.assert(
      fc.property(
        linesOf(['Vlb-Rollup: ', '10_a ', 'ab'.repeat(32), ' -> ', '\r']),
        (text) => void readRollupTrailers(text),
      ),
    )
  })

  test('the log of a rolled-up layer falls into those of its steps', () => {
    const text = fc
      .array(anyText, { minLength: 1, maxLength: 4 })
      .map((logs) => logs.map((log) => log.replaceAll('===', '=')))
    fc.assert(
      fc.property(text, (logs) => {
        const steps = logs.map((_, i) => `10_a/layers/0${i}_x`)
        const ended = logs.map((log) => (log === '' || log.endsWith('\n') ? log : `${log}\n`))
        const whole = ended.map((log, i) => logHeading(steps[i] ?? '') + log).join('\n')
        expect([...splitLog(whole, steps).values()]).toEqual(ended)
      }),
    )
    fc.assert(
      fc.property(
        linesOf(['=== 10_a/layers/00_x', '=== 10_a/layers/01_x']),
        (log) => void splitLog(log, ['10_a/layers/00_x', '10_a/layers/01_x']),
      ),
    )
  })
})

describe('files of the store', () => {
  const names = [
    'format',
    'id',
    'key',
    'contentId',
    'nonce',
    'inputs',
    'kind',
    'engine',
    'includes',
    'env',
    'layer',
    'project',
    'disk',
    'partitions',
    'number',
    'start',
    'size',
    'root',
    'fileBytes',
    'bytes',
    'seconds',
    'builtAt',
    'parent',
    'steps',
    'packages',
  ]
  const id = 'ab'.repeat(32)
  const partition = { number: 1, start: 0, size: 1, looksLikeRoot: true }
  const sound = {
    ...{
      format: 1,
      id,
      key: id,
      contentId: id,
      nonce: 'x',
      layer: '10_a',
      project: '/p',
      builtAt: '2024-01-01T00:00:00Z',
    },
    ...{
      fileBytes: 1,
      bytes: 1,
      seconds: 1,
      inputs: { kind: 'build-layer', engine: 1 },
      disk: { table: 'none', size: 1, root: 1, partitions: [partition] },
    },
  }
  const step = { name: '10_a', key: id, inputs: { kind: 'build-layer', engine: 1, tree: 'x' }, content: id } as never

  test('a manifest is none, or one that all can be done with', () => {
    // One field of a sound one is anything else.
    const changed = fc
      .tuple(fc.constantFrom(...names), jsonOf(names, [1, id, [partition], { kind: 1 }]))
      .map(([name, value]) => `${JSON.stringify(sound).slice(0, -1)},"${name}":${value}}`)
    fc.assert(
      fc.property(fc.oneof(changed, jsonOf(names, [1, id])), (text) => {
        const manifest = parseManifest(text)
        if (!manifest) return
        for (const value of [manifest.id, manifest.key, manifest.layer, manifest.project, manifest.builtAt])
          expect(typeof value).toBe('string')
        for (const { number, start, size } of manifest.disk.partitions)
          expect([number, start, size].every(Number.isFinite)).toBe(true)
        differingInputs(manifest.inputs, { kind: 'disk', engine: 2 })
        lastSnapshot(step, [manifest], { folder: '/p', worktree: '/' })
        for (const { layer, builtAt } of manifest.steps ?? []) expect(`${layer.trim()}${builtAt.trim()}`).toBeDefined()
        expect(`${manifest.packages?.digest.trim()}${manifest.packages?.state.trim()}`).toBeDefined()
      }),
    )
    expect(parseManifest(JSON.stringify(sound))).toEqual(sound)
  })

  test('the state of a prebuild is one, or none', () => {
    const fields = ['pid', 'start', 'state', 'layer', 'key', 'keys', 'built', 'reason', 'startedAt', 'endedAt']
    fc.assert(
      fc.property(jsonOf(fields, ['running', ['a']]), (text) => {
        const state = parsePrebuildState(text)
        if (state) expect(state.keys.join() + state.built.join() + state.start.trim()).toBeDefined()
      }),
    )
  })

  test('the encoding of a key tells all inputs apart', () => {
    const texts = fc.dictionary(madeOf(['A', ':', ',', '1', '/'], 3), madeOf(['x', ':', ',', '2'], 3), {
      maxKeys: 3,
      noNullPrototype: true,
    })
    const inputs = fc.record({
      kind: fc.constantFrom('build-layer', 'disk'),
      engine: fc.nat(2),
      env: fc.option(texts, { nil: undefined }),
      includes: fc.option(texts, { nil: undefined }),
      root: fc.option(madeOf(['1', ':'], 2), { nil: undefined }),
    }) as unknown as fc.Arbitrary<KeyInputs>
    fc.assert(
      fc.property(inputs, inputs, (a, b) => {
        expect(encodeKey(a) === encodeKey(b)).toBe(differingInputs(a, b).length === 0)
      }),
    )
  })
})
