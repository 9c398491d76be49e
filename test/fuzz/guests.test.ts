// What guests, scripts and qemu say, and the files for cloud-init.
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CheckReader } from '../../src/core/check-lines.ts'
import { junitText, tapText, xml } from '../../src/core/check-reports.ts'
import { builtin, builtinChecks } from '../../src/core/checks.ts'
import { composeSeed, pickSeedFiles, seedNames } from '../../src/core/cloud-init.ts'
import { Mask, maskedForms } from '../../src/core/mask.ts'
import { Qmp } from '../../src/vm/qmp.ts'
import { Transcript } from '../../src/vm/transcript.ts'
import { hopeless } from '../../src/vm/watch.ts'
import { anyText, jsonOf, linesOf, madeOf, orRefusal, unshowable } from './outside.ts'

/** A text in pieces as a pipe might hand them over. */
function inPieces(text: string, sizes: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text)
  const pieces: Buffer[] = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}

const sizes = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 })

describe('the agent’s lines', () => {
  const checks = builtinChecks.slice(0, 2).map(builtin)
  const lines = [
    '@vlb n ready running',
    '@vlb n start 0',
    '@vlb n out 0 text',
    '@vlb n cut 0',
    '@vlb n end 0 0',
    '@vlb n end 0 timeout',
    '@vlb n start 1',
    '@vlb n end 1 3',
    '@vlb n done',
    '@vlb x done',
    '@vlb n ',
    '\r',
    '\x1b[2J',
  ]

  test('of any form and in any pieces: each check begins and ends once, in its turn', () => {
    fc.assert(
      fc.property(linesOf(lines, 20), sizes, (text, cut) => {
        const reader = new CheckReader(checks, 'n')
        const news = inPieces(`${text}\n`, cut).flatMap((piece) => reader.push(piece, 1))
        const told = news
          .filter(({ type }) => type !== 'ready')
          .map((one) => `${one.type}${'index' in one ? one.index : ''}`)
        const whole = ['started0', 'ended0', 'started1', 'ended1', 'done']
        expect(told).toEqual(whole.slice(0, told.length))
        expect(news.filter(({ type }) => type === 'ready').length).toBeLessThanOrEqual(1)
        // The same bytes in one piece are the same news.
        const again = new CheckReader(checks, 'n')
        expect(again.push(Buffer.from(`${text}\n`), 1)).toEqual(news)
      }),
    )
  })

  test('reports of them hold nothing that their readers would take for something else', () => {
    const result = fc.record({
      name: anyText,
      builtin: fc.boolean(),
      state: fc.constantFrom('passed', 'failed', 'skipped', 'timeout', 'not-run'),
      exitStatus: fc.constantFrom(0, 1, 130, null),
      seconds: fc.double({ min: 0, max: 1e6, noNaN: true }),
      output: anyText,
      cut: fc.boolean(),
    })
    const machine = fc.record({
      name: anyText,
      ok: fc.boolean(),
      reason: anyText,
      seconds: fc.constant(1),
      checks: fc.array(result, { maxLength: 3 }),
    })
    fc.assert(
      fc.property(fc.array(machine, { maxLength: 2 }), anyText, (machines, project) => {
        const tested = { machines, reason: '' } as never
        const all = machines.flatMap((one) => one.checks)
        const tap = tapText(tested)
        expect(tap.split('\n').filter((line) => /^(not )?ok /.test(line)).length).toBe(all.length)
        expect(tap).not.toMatch(unshowable)
        const junit = junitText(tested, project)
        expect(junit.match(/<testcase /g)?.length ?? 0).toBe(all.length)
        expect(junit).not.toMatch(/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]/u)
        expect(xml(project)).not.toMatch(/[<>"']|&(?!#\d+;)/)
      }),
    )
  })
})

describe('consoles', () => {
  const words = [
    'login: ',
    '\x1b[',
    '2J',
    'm',
    '\x1b]',
    '0;title',
    '\x07',
    '\x1b\\',
    '\x1bP',
    '\x1b',
    '\r\n',
    '\n',
    'é',
    '\x9b',
    '---[ end Kernel panic - not syncing',
    'Kernel panic - not syncing: x',
  ]

  test('what is found and shown holds nothing that a terminal obeys; pieces make no difference', () => {
    fc.assert(
      fc.property(madeOf(words, 20), sizes, (text, cut) => {
        const [whole, parts] = [new Transcript(), new Transcript()]
        whole.push(Buffer.from(text))
        for (const piece of inPieces(text, cut)) parts.push(piece)
        expect(parts.text).toBe(whole.text)
        expect(parts.text).not.toMatch(/[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/)
        for (const line of parts.lastLines(5)) expect(line).not.toMatch(unshowable)
        expect(parts.find(/login|title|panic/) ?? '').not.toMatch(unshowable)
        expect(whole.find(/no such word as this/)).toBeUndefined()
        expect(hopeless(text)?.what ?? '').not.toMatch(unshowable)
      }),
    )
  })

  test('qemu’s answers: each question has one, whatever else is said', async () => {
    const lines = fc.array(jsonOf(['id', 'return', 'error', 'desc', 'event', 'data', 'QMP'], [1, 2]), { maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(lines, sizes, async (said, cut) => {
        const [ours, theirs] = [new PassThrough(), new PassThrough()]
        const stream = Object.assign(ours, { write: (text: string) => theirs.write(text) }) as never as PassThrough
        const qmp = new Qmp(stream, () => {})
        const answer = qmp.ask('query-status')
        for (const piece of inPieces(`${said.join('\n')}\n`, cut)) stream.emit('data', piece)
        stream.emit('close')
        expect(['string', 'object', 'undefined']).toContain(typeof (await answer))
        expect(await qmp.ask('query-status')).toBeUndefined()
      }),
    )
  })
})

describe('logs', () => {
  test('no form of a secret comes through, in whatever pieces it comes', () => {
    const secret = fc
      .string({ minLength: 5, maxLength: 20 })
      .filter((text) => text.trim().length > 4 && !text.includes('*'))
    fc.assert(
      fc.property(
        secret,
        fc.array(fc.oneof(fc.nat(20), fc.string({ maxLength: 5 })), { maxLength: 6 }),
        sizes,
        (text, parts, cut) => {
          const forms = maskedForms(Buffer.from(text))
          const said = parts
            .map((part) => (typeof part === 'number' ? (forms[part % forms.length] ?? '') : part))
            .join('|')
          const mask = new Mask([Buffer.from(text)])
          const shown = Buffer.concat([
            ...inPieces(Buffer.from(said, 'latin1').toString('latin1'), cut).map((piece) => mask.push(piece)),
            mask.end(),
          ]).toString('latin1')
          for (const form of forms) expect(shown).not.toContain(form)
        },
      ),
    )
  })
})

describe('cloud-init', () => {
  const pieces = [
    '#cloud-config',
    '#!/bin/sh',
    '## template: jinja',
    '#include',
    '\n',
    '\r\n',
    'a: b',
    '- x',
    '[',
    '{',
    '&a',
    '*a',
    'version: 2',
    'network:',
    '  config: disabled',
    'instance-id: x',
    'instance-id: [1]',
    '\ufeff',
    '\x1f\x8b',
    'Content-Type: text/plain',
    '"',
    '!!binary x',
    '? ',
    '<<: *a',
  ]
  const content = fc.oneof(
    linesOf(pieces).map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  )

  test('its files are taken as they are, or refused', () => {
    fc.assert(
      fc.property(fc.constantFrom(...seedNames), content, fc.option(content), (name, bytes, meta) => {
        const files = [
          { name, path: `cloud-init/${name}`, content: bytes },
          ...(meta && name !== 'meta-data'
            ? [{ name: 'meta-data' as const, path: 'cloud-init/meta-data', content: meta }]
            : []),
        ]
        const seed = orRefusal(() => composeSeed(files))
        if (!seed) return
        expect(seed.files.has('user-data') && seed.files.has('meta-data')).toBe(true)
        if (name !== 'meta-data') expect(seed.files.get(name)?.equals(bytes)).toBe(true)
        expect(composeSeed(files).instanceId).toBe(seed.instanceId)
        // What was completed needs nothing more.
        const again = composeSeed([...seed.files].map(([one, text]) => ({ name: one, path: one, content: text })))
        expect(again.files.get('meta-data')?.toString()).toBe(seed.files.get('meta-data')?.toString())
      }),
    )
  })

  test('the files of a folder are picked, or it is refused', () => {
    fc.assert(
      fc.property(
        fc.array(madeOf(['user-data', 'meta-data', 'user-dta', '.yaml', '.yml', '.txt', '/'], 2), { maxLength: 4 }),
        (names) => {
          for (const text of orRefusal(() => pickSeedFiles(names))?.misspelled ?? [])
            expect(text).not.toMatch(unshowable)
        },
      ),
    )
  })
})
