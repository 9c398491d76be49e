import { expect, test } from 'vitest'
import type { FileChange, FilePatch, FileState } from '../../../src/core/file-diff.ts'
import type { DiffResult } from '../../../src/core/results.ts'
import { diffJson, diffText } from '../../../src/report/diff.ts'

const file = (more: Partial<FileState> = {}): FileState => ({
  ...{ type: 'file', mode: '0644', uid: 0, gid: 0, size: 10 },
  ...more,
})
const changes: FileChange[] = [
  { path: '/new', change: 'added', what: [], before: null, after: file({ uid: 7, xattrs: { 'user.a': '31' } }) },
  { path: '/gone', change: 'removed', what: [], before: file({ size: 2048 }), after: null },
  { path: '/d/b', change: 'renamed', from: '/a', what: ['mode'], before: file(), after: file({ mode: '0755' }) },
  { path: '/e\n', change: 'changed', what: ['size', 'content'], before: file(), after: file({ size: 12 }) },
  {
    path: '/link',
    change: 'changed',
    what: ['target'],
    before: { type: 'symlink', mode: '0777', uid: 0, gid: 0, target: 'x' },
    after: { type: 'symlink', mode: '0777', uid: 0, gid: 0, target: 'y\xff' },
  },
  {
    path: '/t',
    change: 'changed',
    what: ['type'],
    before: file(),
    after: { type: 'directory', mode: '0755', uid: 0, gid: 0 },
  },
]
const result = (form: DiffResult['form'], patches: Record<string, FilePatch> = {}): DiffResult => ({
  ...{ from: 'a', to: 'b', changes, form, exitStatus: 0, patches: new Map(Object.entries(patches)) },
})
const text = (data: DiffResult, terminal = false) =>
  [...diffText(data, { style: (_look, plain) => plain, terminal })].join('')

test('a line for each change, with what differs', () => {
  expect(text(result('list'))).toBe(`A  /new  0644, 10 B, owner 7:0, user.a
D  /gone  0644, 2.0 KiB
R  /a → /d/b  mode 0644 → 0755
M  "/e\\n"  10 B → 12 B
M  /link  x → "y\\377"
T  /t  file → directory
`)
})

test('letters and names for programs', () => {
  expect(text(result('name-status'))).toBe('A\t/new\nD\t/gone\nR100\t/a\t/d/b\nM\t"/e\\n"\nM\t/link\nT\t/t\n')
})

test('sizes, and a sum', () => {
  expect(text(result('stat'))).toBe(` /new       | 0 -> 10 bytes
 /gone      | 2048 -> 0 bytes
 /a => /d/b | mode
 "/e\\n"     | 10 -> 12 bytes
 /link      | target
 /t         | 10 -> 0 bytes
 6 files: 1 added, 1 removed, 3 changed, 1 renamed; -2.0 KiB
`)
  expect(text({ ...result('stat'), changes: [] })).toBe('')
})

test('line by line, in the form of git; a terminal gets no escapes of files', () => {
  const lines = ['@@ -1 +1 @@', '-\u001b[2J', '+x\ty']
  const patches: Record<string, FilePatch> = { '/e\n': { kind: 'text', lines }, '/gone': { kind: 'binary' } }
  const shown = text(result('patch', patches))
  expect(shown).toContain('new file mode 100644\n')
  expect(shown).toContain('deleted file mode 100644\nBinary files a/gone and /dev/null differ\n')
  expect(shown).toContain('old mode 100644\nnew mode 100755\nsimilarity index 100%\nrename from /a\nrename to /d/b\n')
  expect(shown).toContain('--- "a/e\\n"\n+++ "b/e\\n"\n@@ -1 +1 @@\n-\u001b[2J\n+x\ty\n')
  expect(shown).toContain('--- a/link\n+++ b/link\n@@ -1 +1 @@\n-x\n+y')
  expect(text(result('patch', patches), true)).toContain('-^[[2J\n+x\ty\n')
})

test('JSON has names as text, and bytes that are none', () => {
  const json = diffJson(result('list')) as unknown as Record<string, unknown>[]
  expect(json[2]).toMatchObject({ path: '/d/b', from: '/a', change: 'renamed', what: ['mode'] })
  expect(json[4]).toMatchObject({
    after: { target: 'y\ufffd', targetBytes: Buffer.from([0x79, 0xff]).toString('base64') },
  })
})
