// Folders made by several at once, and where none can be made; files that may be something else.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeFolders, readPlain } from '../../../src/host/files.ts'

test('folders with those above them, by many at once', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-folders-'))
  try {
    for (let round = 0; round < 50; round++) {
      const paths = [...'abcdefgh'].map((name) => join(folder, String(round), 'one', name))
      await Promise.all(paths.map((path) => makeFolders(path)))
      expect(paths.every((path) => statSync(path).isDirectory())).toBe(true)
    }
    writeFileSync(join(folder, 'file'), '')
    await expect(makeFolders(join(folder, 'file'))).rejects.toThrow('EEXIST')
    await expect(makeFolders(join(folder, 'file', 'below'))).rejects.toThrow('cannot write to')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('where the kernel lets nobody make one, it is said and not tried for ever', async () => {
  await expect(makeFolders('/proc/vlb-test/below')).rejects.toThrow('cannot write to /proc/vlb-test')
})

test('a text that may be anything is only read if it is a plain file, and no further than told', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-plain-'))
  try {
    const at = (name: string) => join(folder, name)
    writeFileSync(at('file'), 'grün and more')
    symlinkSync('file', at('link'))
    execFileSync('mkfifo', [at('fifo')])
    mkdirSync(at('folder'))
    expect(await readPlain(at('file'), 100)).toBe('grün and more')
    expect(await readPlain(at('file'), 5)).toBe('grün')
    for (const name of ['link', 'fifo', 'folder', 'none']) expect(await readPlain(at(name), 100), name).toBe('')
  } finally {
    rmSync(folder, { recursive: true })
  }
})
