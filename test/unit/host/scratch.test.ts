// Scratch files that cannot be removed.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Scratch } from '../../../src/host/scratch.ts'

test('what cannot be removed keeps neither the rest nor the program from its end', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-scratch-'))
  try {
    const scratch = new Scratch(folder)
    await scratch.folder()
    scratch.watch('/proc/version')
    await scratch.folder()
    await scratch.close()
    expect(readdirSync(folder)).toEqual([])
    expect(() => scratch.watch(join(folder, 'late'))).toThrow('after they were removed')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
