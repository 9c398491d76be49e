// What is written of texts from outside: for terminals, in Markdown, HTML, XML and for other programs.

import fc from 'fast-check'
import { XMLParser } from 'fast-xml-parser'
import remarkParse from 'remark-parse'
import { unified } from 'unified'
import { describe, expect, test } from 'vitest'
import { recordedScript } from '../../src/build/shell.ts'
import type { Changelog } from '../../src/core/changelog.ts'
import { changelogHtml } from '../../src/core/changelog-html.ts'
import { changelogMarkdown } from '../../src/core/changelog-markdown.ts'
import { visible } from '../../src/core/changelog-words.ts'
import { printable } from '../../src/core/errors.ts'
import { sumsText } from '../../src/core/output.ts'
import { ovfDescriptor, plainName } from '../../src/core/ovf.ts'
import { hunkLines, isBinary } from '../../src/core/patch.ts'
import { diffText } from '../../src/report/diff.ts'
import { safe } from '../../src/report/lines.ts'
import { makeStyle } from '../../src/report/style.ts'
import { sample } from '../unit/core/changelog-sample.ts'
import { anyBytes, anyText, linesOf, madeOf } from './outside.ts'

const markup = [
  '<script>',
  '</pre>',
  '&lt;',
  '&',
  '"',
  "'",
  '`',
  '```',
  '|',
  '*',
  '_',
  '@all',
  '[x](javascript:x)',
  '<!--',
  ']]>',
  '\\',
  '~~',
  '#1',
]
const text = fc.oneof(anyText, madeOf(markup)).filter((any) => any.trim() !== '')

describe('for a terminal', () => {
  test('messages are one line, without anything it obeys', () => {
    fc.assert(
      fc.property(text, fc.nat(100), (any, limit) => {
        expect(printable(any)).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        expect(printable(any, limit).length).toBeLessThanOrEqual(limit + 1)
        expect(printable(printable(any))).toBe(printable(any))
      }),
    )
  })

  test('the output of scripts and the text of files', () => {
    fc.assert(
      fc.property(madeOf(['\x1b', '[', '31m', ']0;', '\x07', '\x9b', '2J', 'P', '\\', '\x1b(B'], 12), (any) => {
        expect(safe(any)).not.toMatch(/[\p{Cc}\p{Cf}]/u)
        expect(visible(any)).not.toMatch(/(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
      }),
    )
  })

  test('what differs between two disks', () => {
    const state = { type: 'file', mode: '0644', uid: 0, gid: 0, size: 5 }
    const patch = fc.record({
      lines: fc.array(
        anyBytes.map((line) => `+${line.replaceAll('\n', '')}`),
        { maxLength: 3 },
      ),
    })
    fc.assert(
      fc.property(
        anyBytes,
        anyBytes,
        patch,
        fc.constantFrom('list', 'stat', 'name-status', 'patch'),
        (path, target, hunks, form) => {
          const change = { path, change: 'changed', what: ['content'], before: state, after: { ...state, target } }
          const patches = new Map([[path, { ...hunks, before: '', after: '' }]])
          const said = [
            ...diffText({ changes: [change], form, patches } as never, {
              style: makeStyle({}, { NO_COLOR: '1' }),
              terminal: true,
            }),
          ].join('')
          expect(said).not.toMatch(/(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        },
      ),
    )
  })
})

describe('changelogs', () => {
  /** The sample with these texts wherever people, packages and images give some. */
  const filled = fc.array(text, { minLength: 8, maxLength: 8 }).map((texts): Changelog => {
    const [project = '', rev = '', subject = '', author = '', name = '', version = '', path = '', words = ''] = texts
    const { from, to, layers, commits, packages, files = [] } = sample
    return {
      ...sample,
      project,
      from: { ...from, rev, base: words },
      to: { ...to, base: path },
      layers: layers.map((layer) => ({
        ...layer,
        was: layer.was.map(() => words),
        files: layer.files.map((file) => ({
          ...file,
          path,
          cut: words,
          ...(file.patch === undefined ? {} : { patch: `+${subject}\n` }),
        })),
      })),
      commits: commits.map((commit) => ({ ...commit, subject, author, email: words, touched: [path] })),
      packages: {
        ...packages,
        added: [{ name, version, arch: words }],
        removed: [{ name: words, version: name, arch: '' }],
      },
      files: files.map((file) => ({ ...file, path, from: words })),
      notes: [subject],
    } as Changelog
  })

  const skeleton = (html: string) => html.replace(/>[^<]*</g, '><').replace(/="[^"]*"/g, '=""')

  test('as one page: no text makes an element or an attribute', () => {
    const plain = skeleton(changelogHtml(fill('x')))
    fc.assert(
      fc.property(filled, (data) => {
        const html = changelogHtml(data)
        expect(html).not.toMatch(/(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        expect(new Set(skeleton(html).match(/<[a-z!/]+/g))).toEqual(
          new Set([...(plain.match(/<[a-z!/]+/g) ?? []), ...(html.includes('<code>') ? ['<code', '</code'] : [])]),
        )
        expect(
          html
            .match(/<script|javascript:|on\w+=/gi)
            ?.filter((found) => !changelogHtml(fill('x')).includes(found) && html.includes(`<${found}`)) ?? [],
        ).toEqual([])
      }),
    )
  })

  test('as Markdown: no text ends its line, its cell or its code', () => {
    fc.assert(
      fc.property(filled, (data) => {
        const said = changelogMarkdown(data)
        expect(said).not.toMatch(/(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
        const found = nodesOf(unified().use(remarkParse).parse(said) as MarkdownNode)
        const html = found.filter(({ type }) => type === 'html').map(({ value = '' }) => value)
        for (const one of html)
          expect(one.replace(/<\/?code>/g, '')).toMatch(
            /^(<\/?(details|summary)>|<details><summary>[^<>]*<\/summary>|<!-- -->)$/,
          )
        expect(found.filter(({ type }) => ['link', 'image', 'emphasis', 'thematicBreak'].includes(type))).toEqual([])
        const words = found.filter(({ type }) => type === 'text').map(({ value = '' }) => value)
        for (const one of words) expect(one).not.toMatch(/(^|[^\w`])@\w/)
        const rows = said.split('\n').filter((line) => line.startsWith('| '))
        for (const row of rows) expect([4, 5]).toContain(row.match(/(?<!\\)\|/g)?.length)
      }),
    )
  })
})

interface MarkdownNode {
  type: string
  value?: string
  children?: MarkdownNode[]
}

function nodesOf(node: MarkdownNode): MarkdownNode[] {
  return [node, ...(node.children ?? []).flatMap(nodesOf)]
}

/** The same words everywhere. */
function fill(word: string): Changelog {
  return { ...sample, project: word, notes: [word] }
}

describe('for other programs', () => {
  test('the description in an ova is XML with that name in it', () => {
    const parser = new XMLParser({
      ignoreAttributes: false,
      parseTagValue: false,
      trimValues: false,
      processEntities: true,
    })
    fc.assert(
      fc.property(text, (name) => {
        expect(plainName(name)).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,59}$/)
        const machine = { name, cpus: 1, memory: 2 ** 30, firmware: 'bios' as const, arch: 'x86_64' }
        const said = ovfDescriptor(machine, { file: 'a.vmdk', fileBytes: 1, capacity: 1 })
        expect(said).not.toMatch(/(?!\n)[\p{Cc}\p{Cs}\ufffe\uffff]/u)
        const shown = name.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\ufffe\uffff]/gu, ' ')
        const read = parser.parse(said).Envelope.VirtualSystem.Name
        expect(String(read ?? '').trim()).toBe(shown.trim())
      }),
    )
  })

  test('checksums are read by sha256sum(1) as the files they are of', () => {
    const name = anyText.map((one) => one.replace(/[\0/]/g, 'x')).filter((one) => one !== '')
    fc.assert(
      fc.property(name, (file) => {
        const [line = '', rest] = sumsText(new Map([[file, 'ab'.repeat(32)]])).split('\n')
        const [, escaped, read = ''] = /^(\\?)[0-9a-f]{64} [ *]([\s\S]*)$/.exec(line) ?? []
        expect(rest).toBe('')
        const back = escaped ? read.replace(/\\([\\nr])/g, (_, c: string) => ({ n: '\n', r: '\r' })[c] ?? '\\') : read
        expect(back).toBe(file)
      }),
    )
  })

  test('a patch leads from one text to the other', async () => {
    const lines = linesOf(['a', 'b', 'c', '', '\r', '\\ No newline'], 8)
    await fc.assert(
      fc.asyncProperty(lines, lines, async (before, after) => {
        const hunks = await hunkLines(before, after, 1000)
        const bare = (sign: string) =>
          hunks?.filter((line) => line.startsWith(sign) || line.startsWith(' ')).map((line) => line.slice(1)) ?? []
        const all = (one: string) => one.split('\n')
        for (const line of bare('-')) expect(all(before)).toContain(line)
        for (const line of bare('+')) expect(all(after)).toContain(line)
        if (before === after) expect(hunks).toEqual([])
      }),
    )
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => void expect(isBinary(Buffer.from(bytes))).toBe(bytes.includes(0))),
    )
  })

  test('a script of what was typed has every command in it, and fails where one failed', () => {
    const typed = fc.record({
      command: linesOf(['ls', ' -l', '\\', '"', 'exit 1']),
      status: fc.constantFrom(0, 1, 130),
    })
    fc.assert(
      fc.property(fc.array(typed, { maxLength: 4 }), (commands) => {
        const script = recordedScript(commands)
        for (const { command, status } of commands)
          for (const line of command.split('\n'))
            expect(script.split('\n')).toContain(status === 0 ? line : `# ${line}`)
      }),
    )
  })
})
