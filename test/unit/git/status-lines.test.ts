import { expect, test } from 'vitest'
import { parseStatusLine } from '../../../src/git/status-lines.ts'

test.each([
  ['1 .M N... 100644 100644 100644 aaaa bbbb 10_a/a file', { kind: '1', path: '10_a/a file' }],
  ['u UU N... 100644 100644 100644 100644 a b c 10_a/x', { kind: 'u', path: '10_a/x' }],
  ['? 10_a/new\nline', { kind: '?', path: '10_a/new\nline' }],
  ['# branch.oid (initial)', undefined],
  ['! ignored', undefined],
  ['1 .M N... 100644', undefined],
  ['', undefined],
])('%j', (line, expected) => expect(parseStatusLine(line)).toEqual(expected))
