// What image files are called, and the lines of SHA256SUMS.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { endingOf, formatOf, imageFormats, sumsText, withFormat, withLabel } from '../../../src/core/output.ts'

test('an ending says the format, where it is one of ours', () => {
  const paths = ['a.b/c', 'x.raw', 'x.img', 'x.VMDK', 'x.vhd', 'x.ova', 'web-1.2', '.raw', 'a/.qcow2']
  expect(paths.map(formatOf)).toEqual(['qcow2', 'raw', 'raw', 'vmdk', 'vpc', 'ova', 'qcow2', 'qcow2', 'qcow2'])
  expect(formatOf(undefined)).toBe('qcow2')
  for (const format of imageFormats) expect(formatOf(`x.${endingOf(format)}`)).toBe(format)
})

test.each([
  ['build/image.qcow2', 'vpc', 'build/image.vhd'],
  ['build/image.qcow2', 'qcow2', 'build/image.qcow2'],
  ['build/disk.img', 'raw', 'build/disk.img'],
  ['build/disk.img', 'ova', 'build/disk.ova'],
  ['build/web-1.2', 'vdi', 'build/web-1.2.vdi'],
  ['a.vmdk/b', 'vmdk', 'a.vmdk/b.vmdk'],
] as const)('%s as %s is %s', (path, format, wanted) => expect(withFormat(path, format)).toBe(wanted))

test('a revision goes before the ending', () => {
  expect(withLabel('build/image.qcow2', '')).toBe('build/image.qcow2')
  expect(withLabel('build/image.qcow2', 'origin/a b')).toBe('build/image-origin-a-b.qcow2')
  expect(withLabel('build/web-1.2', 'v1.0')).toBe('build/web-1.2-v1.0')
})

test('sha256sum accepts the sums of files with any names', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-sums-'))
  try {
    const names = ['b.raw', 'a.qcow2', 'with space', 'back\\slash', 'new\nline', 'é.ova', '*star']
    for (const name of names) writeFileSync(join(folder, name), 'x')
    const digest = '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881'
    const text = sumsText(new Map(names.map((name) => [name, digest])))
    writeFileSync(join(folder, 'SHA256SUMS'), text)
    const said = execFileSync('sha256sum', ['--check', '--strict', 'SHA256SUMS'], { cwd: folder, encoding: 'utf8' })
    expect(said.match(/: OK$/gm)).toHaveLength(names.length)
    expect(sumsText(new Map([...names].reverse().map((name) => [name, digest])))).toBe(text)
  } finally {
    rmSync(folder, { recursive: true })
  }
})
