import { expect, test } from 'vitest'
import { hopeless } from '../../../src/vm/watch.ts'

test('the words of a panic are told without what a terminal obeys', () => {
  const said = 'Kernel panic - not syncing: VFS\x1b[\n---[ end Kernel panic - not syncing ]---\n'
  expect(hopeless(said)).toEqual({ verdict: 'panicked', what: "the guest's kernel panicked (VFS?[)" })
})
