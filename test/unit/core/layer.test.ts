// Layer folders: their names and order, the script they hold, and whether it could run.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  compareLayerNames,
  findScript,
  isLayerName,
  isLfsPointer,
  readScript,
  type TreeEntry,
} from '../../../src/core/layer.ts'
import { complaint } from '../errors.ts'

describe('names', () => {
  test.each(['10_a', '00_base', '100_x', '0010_x', '10_nginx-1.2_x.y', '99999999999999999999_x'])(
    '%s is a layer',
    (name) => expect(isLayerName(name)).toBe(true),
  )

  test.each(['build', 'docs', '.git', '10', '_a', 'a10_b', '10-a', 'layers', 'node_modules', '10a_b'])(
    '%s is some folder',
    (name) => expect(isLayerName(name)).toBe(false),
  )

  test.each(['5_x', '10_', '10_foo bar', '10_ä', '10_a/b', '10_a\nb', '10_a+b'])('%j was meant as a layer', (name) => {
    const said = complaint('VLB_LAYER_NAME', () => isLayerName(name))
    expect(said).toContain(`folder "${name.replace('\n', '?')}" looks like a layer, but its name is not NN_name`)
    expect(said).toContain('at least two digits')
  })
})

describe('order', () => {
  const order = (...names: string[]) => names.sort(compareLayerNames)

  test('by number, not by text', () => {
    expect(order('100_a', '20_a', '9999999999999999999_a', '03_a', '10_a')).toEqual([
      '03_a',
      '10_a',
      '20_a',
      '100_a',
      '9999999999999999999_a',
    ])
  })

  test('numbers beyond what a double can tell apart', () => {
    expect(order('9007199254740993_a', '9007199254740992_b')).toEqual(['9007199254740992_b', '9007199254740993_a'])
  })

  test('then by name, in the order of bytes', () => {
    expect(order('10_b', '10_B', '10_a', '10_-', '010_z')).toEqual(['010_z', '10_-', '10_B', '10_a', '10_b'])
  })

  test('it is a total order', () => {
    const name = fc
      .tuple(fc.stringMatching(/^[0-9]{2,6}$/), fc.stringMatching(/^[A-Za-z0-9._-]{1,4}$/))
      .map(([n, t]) => `${n}_${t}`)
    fc.assert(
      fc.property(fc.uniqueArray(name, { minLength: 2 }), (names) => {
        const sorted = [...names].sort(compareLayerNames)
        expect([...names].reverse().sort(compareLayerNames)).toEqual(sorted)
        for (const [i, next] of sorted.slice(1).entries())
          expect(compareLayerNames(sorted[i] ?? '', next)).toBeLessThan(0)
      }),
    )
  })
})

describe('the script of a folder', () => {
  const file = (name: string, mode = '100755'): TreeEntry => ({ name, mode, oid: 'a'.repeat(40) })

  test('among other files', () => {
    expect(findScript('10_a', [file('README', '100644'), file('build-layer')]).name).toBe('build-layer')
    expect(findScript('00_b', [file('build-base')]).name).toBe('build-base')
    expect(findScript('20_c', [file('modify-disk')]).name).toBe('modify-disk')
  })

  test.each<[string, TreeEntry[], string, string, string]>([
    [
      'none',
      [file('build'), file('x')],
      'VLB_LAYER_KIND',
      '10_a holds no script',
      'add an executable 10_a/build-layer',
    ],
    ['an empty folder', [], 'VLB_LAYER_KIND', '10_a holds no script', 'add an executable 10_a/build-layer'],
    [
      'two',
      [file('build-base'), file('build-layer')],
      'VLB_LAYER_KIND',
      '10_a holds two scripts, build-base and build-layer',
      'split it into two layers',
    ],
    [
      'a script and layers',
      [file('build-layer'), file('layers', '40000')],
      'VLB_LAYER_KIND',
      '10_a holds both a script and layers/',
      'split it into two layers',
    ],
    [
      'not executable',
      [file('build-layer', '100644')],
      'VLB_SCRIPT_MODE',
      '10_a/build-layer is not executable',
      'git add --chmod=+x',
    ],
    [
      'a symlink',
      [file('build-layer', '120000')],
      'VLB_SCRIPT_MODE',
      '10_a/build-layer is not a regular file',
      'replace it',
    ],
    [
      'a folder',
      [file('build-layer', '40000')],
      'VLB_SCRIPT_MODE',
      '10_a/build-layer is not a regular file',
      'replace',
    ],
    [
      'a submodule',
      [file('build-layer', '160000')],
      'VLB_SCRIPT_MODE',
      '10_a/build-layer is not a regular file',
      'replace',
    ],
  ])('%s', (_name, entries, code, what, hint) => {
    const said = complaint(code as 'VLB_LAYER_KIND', () => findScript('10_a', entries))
    expect(said).toContain(what)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })
})

describe('what a script says', () => {
  const read = (text: string | Buffer) => readScript(Buffer.from(text as string), '10_a/build-layer')
  const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'

  test.each([
    ['#!/bin/sh\necho', '/bin/sh'],
    ['#! /bin/sh -eu\n', '/bin/sh'],
    ['#!/usr/bin/env python3\n', '/usr/bin/env'],
    ['#!\t/bin/bash', '/bin/bash'],
  ])('%j is run by its interpreter', (text, interpreter) => expect(read(text).interpreter).toBe(interpreter))

  test('directives are read', () => {
    expect(read('#!/bin/sh\n# vlb: nocache\n').directives.nocache).toBe(true)
  })

  test('a program has neither interpreter nor directives', () => {
    const program = Buffer.concat([Buffer.from('\x7fELF\x02\x01', 'latin1'), Buffer.from('\n# vlb: nocache\n')])
    expect(read(program)).toMatchObject({ interpreter: undefined, directives: { nocache: false } })
  })

  test.each<[string, string, string, string, string]>([
    ['no #!', 'echo hello\n', 'VLB_SCRIPT_SHEBANG', 'does not start with #! and is no program', '#!/bin/sh'],
    ['empty', '', 'VLB_SCRIPT_SHEBANG', 'does not start with #! and is no program', '#!/bin/sh'],
    ['a space first', ' #!/bin/sh\n', 'VLB_SCRIPT_SHEBANG', 'does not start with #! and is no program', '#!/bin/sh'],
    ['a byte order mark', '\ufeff#!/bin/sh\n', 'VLB_SCRIPT_SHEBANG', 'does not start with #!', '#!/bin/sh'],
    ['no path', '#!\n', 'VLB_SCRIPT_SHEBANG', 'its #! line names no absolute path: "#!"', '/usr/bin/env'],
    ['no absolute path', '#!python3\n', 'VLB_SCRIPT_SHEBANG', 'no absolute path: "#!python3"', '/usr/bin/env'],
    ['CRLF', '#!/bin/sh\r\necho\r\n', 'VLB_SCRIPT_CRLF', 'would look for "/bin/sh\\r"', 'text eol=lf'],
    ['CRLF in a single line', '#!/bin/sh\r', 'VLB_SCRIPT_CRLF', 'would look for "/bin/sh\\r"', "sed -i 's/\\r$//'"],
    ['an LFS pointer', pointer, 'VLB_LAYER_LFS', '10_a/build-layer is a Git LFS pointer', 'git lfs migrate export'],
    [
      'an unknown directive',
      '#!/bin/sh\n# vlb: nocahe\n',
      'VLB_DIRECTIVE',
      '10_a/build-layer:2: unknown directive "nocahe"',
      'did you mean "# vlb: nocache"?',
    ],
  ])('%s is refused', (_name, text, code, what, hint) => {
    const said = complaint(code as 'VLB_SCRIPT_CRLF', () => read(text))
    expect(said).toContain('10_a/build-layer')
    expect(said).toContain(what)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })

  test('what is an LFS pointer, and what only speaks of one', () => {
    expect(isLfsPointer(Buffer.from(pointer))).toBe(true)
    expect(isLfsPointer(Buffer.from(`# see\n${pointer}`))).toBe(false)
    expect(isLfsPointer(Buffer.from(pointer.padEnd(1025)))).toBe(false)
  })
})
