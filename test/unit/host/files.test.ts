// Folders made by several at once, and where none can be made; files that may be something else.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { hashFile, hashSums, makeFolders, readPlain } from '../../../src/host/files.ts'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

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

test('digests of a file, and of the checksums of its pieces', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-hash-'))
  try {
    const file = join(folder, 'file')
    for (const length of [0, 1, 65_536, 65_537, 1_048_576, 2_500_000]) {
      const bytes = Buffer.from(Array.from({ length }, (_, i) => (i * 7) % 251))
      writeFileSync(file, bytes)
      const part = { from: 100, to: 2_000_000 }
      expect(await hashFile(file, 'sha256', part)).toBe(sha256(bytes.subarray(100, 2_000_000)))
      const sums = []
      for (let at = 100; at < length; at += 65_536) {
        const sum = Buffer.alloc(4)
        sum.writeUInt32BE(crc32(bytes.subarray(at, at + 65_536)))
        sums.push(sum)
      }
      expect(await hashSums(file, { from: 100 })).toBe(sha256(Buffer.concat(sums)))
    }
    await expect(hashSums(folder)).rejects.toThrow('EISDIR')
    const reason = new Error('enough')
    await expect(hashSums(file, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  } finally {
    rmSync(folder, { recursive: true })
  }
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
