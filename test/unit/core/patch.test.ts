import { expect, test } from 'vitest'
import { unifiedDiff } from '../../../src/core/patch.ts'

const diff = (a: string | Buffer, b: string | Buffer) => unifiedDiff(Buffer.from(a), Buffer.from(b))

test('a unified diff with its counts', async () => {
  expect(await diff('a\nb\nc\n', 'a\nB\nc\nd\n')).toEqual({
    text: '@@ -1,3 +1,4 @@\n a\n-b\n+B\n c\n+d\n',
    added: 2,
    removed: 1,
  })
  expect((await diff('', 'x')).text).toContain('+x\n\\ No newline at end of file\n')
})

test('binary and large files are named so, and long differences are cut', async () => {
  expect(await diff('a', 'b\0')).toMatchObject({ text: '', cut: 'binary, 1 → 2 bytes' })
  expect((await diff('', 'x'.repeat(600_000))).cut).toMatch(/^too large to show/)
  const lines = (await diff('', 'x\n'.repeat(2000))).cut
  expect(lines).toBe('1501 more lines not shown')
  expect((await diff('', 'x'.repeat(5000))).text.length).toBeLessThan(2100)
})
