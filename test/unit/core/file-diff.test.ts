import { describe, expect, test } from 'vitest'
import { compareTrees, renameCandidates, sameSizePaths } from '../../../src/core/file-diff.ts'
import { decoded, quotedName } from '../../../src/core/file-names.ts'
import {
  addAttributes,
  deviceId,
  deviceNumbers,
  type Entry,
  parseEntry,
  type Tree,
} from '../../../src/core/file-tree.ts'

const file = (more: Partial<Entry> = {}): Entry => ({
  ...{ type: 'file', mode: '0644', uid: 0, gid: 0, size: 1, dev: 1, id: '1:1', links: 1, target: '', sha256: 'x' },
  ...more,
})
const tree = (entries: Record<string, Entry>): Tree => new Map(Object.entries(entries))
const compare = (a: Tree, b: Tree, same: string[] = []) =>
  compareTrees({ a, b, same: new Set(same), prefix: '' }).map(({ path, change, from, what }) =>
    [change, from?.slice(1), path.slice(1), ...what].filter(Boolean).join(' '),
  )

describe('what find and stat print', () => {
  test('an entry of each field', () => {
    expect(parseEntry('f 4755 1 2 345 1792 12 3', '')).toEqual(
      file({ mode: '4755', uid: 1, gid: 2, size: 345, dev: 1792, id: '1792:12', links: 3, sha256: undefined as never }),
    )
    expect(parseEntry('d 0 0 0 4096 1 2 17', '')).toMatchObject({ type: 'directory', mode: '0000', size: 0, links: 1 })
    expect(parseEntry('l 777 0 0 3 1 2 1', 'a\nb')).toMatchObject({ type: 'symlink', target: 'a\nb', size: 0 })
    expect(() => parseEntry('D 0 0 0 0 1 2 1', '')).toThrow()
  })

  test('numbers of devices', () => {
    expect(deviceNumbers('fd:1f')).toBe('253:31')
    expect(deviceId('7:3')).toBe(7 * 256 + 3)
    // makedev(7, 300), as the C library puts them together.
    expect(deviceId('7:12c')).toBe(0x10072c)
  })

  test('attributes go to the right files, whatever they are called', () => {
    const names = { '': file(), 'a\nb': file(), __proto__x: file() }
    const found = tree(names)
    addAttributes(
      found,
      '# file: .\nuser.top=0x31\n\n# file: a\\012b\nuser.b=0x\nuser.a\\075=0x32\n\n# file: gone\nuser.c=0x33\n',
      '.',
    )
    expect(found.get('')?.xattrs).toEqual({ 'user.top': '31' })
    expect(Object.entries(found.get('a\nb')?.xattrs ?? {})).toEqual([
      ['user.a=', '32'],
      ['user.b', ''],
    ])
    const below = tree({ '': file(), x: file() })
    addAttributes(below, '# file: etc/d\nuser.d=0x1\n\n# file: ./etc/d/x\nuser.__proto__=0x2\n', './etc/d')
    expect([below.get('')?.xattrs, below.get('x')?.xattrs]).toEqual([{ 'user.d': '1' }, { 'user.__proto__': '2' }])
  })
})

describe('two trees', () => {
  test('the same content by digest, by proof, or not at all', () => {
    const [a, b] = [tree({ f: file() }), tree({ f: file({ sha256: 'y' }) })]
    expect(sameSizePaths(a, b)).toEqual(['f'])
    expect(compare(a, a)).toEqual([])
    expect(compare(a, b)).toEqual(['changed f content'])
    expect(compare(a, b, ['f'])).toEqual([])
    // Without a digest nothing is taken for the same.
    const unknown = tree({ f: file({ sha256: undefined as never }) })
    expect(compare(unknown, unknown)).toEqual(['changed f content'])
  })

  test('renames are of equal content, one each, the same base name first', () => {
    const a = tree({ 'a/x': file({ id: '1' }), 'a/y': file({ id: '2' }), e: file({ size: 0, id: '3' }) })
    const b = tree({
      'b/y': file({ id: '1' }),
      'b/z': file({ id: '2' }),
      'b/q': file({ id: '4' }),
      n: file({ size: 0, id: '5' }),
    })
    expect(renameCandidates(a, b)).toEqual({ a: ['a/x', 'a/y'], b: ['b/y', 'b/z', 'b/q'] })
    expect(compare(a, b)).toEqual(['added b/q', 'renamed a/y b/y', 'renamed a/x b/z', 'removed e', 'added n'])
  })

  test('links: only names on both sides count', () => {
    const linked = (id: string) => file({ id, links: 2 })
    const a = tree({ a: linked('1'), b: linked('1'), c: file({ id: '2' }) })
    // One name more, and one less, are no change of the others.
    expect(compare(a, tree({ a: linked('8'), b: linked('8'), c: file({ id: '2' }), d: linked('8') }))).toEqual([
      'added d',
    ])
    expect(compare(a, tree({ b: file({ id: '7' }), c: file({ id: '2' }) }))).toEqual(['removed a'])
    expect(compare(a, tree({ a: file({ id: '7' }), b: linked('8'), c: linked('8') }))).toEqual(
      ['changed b link', 'changed c link'].slice(0, 2),
    )
  })

  test('type, mode, owner, target, device and attributes', () => {
    const a = tree({
      a: file(),
      b: file(),
      c: file({ type: 'symlink', target: 'x' }),
      d: file({ type: 'char', device: '1:3' }),
    })
    const b = tree({
      a: file({ type: 'directory', mode: '0755' }),
      b: file({ mode: '0600', uid: 1, xattrs: { 'user.a': '31' } }),
      c: file({ type: 'symlink', target: 'y' }),
      d: file({ type: 'char', device: '1:5' }),
    })
    expect(compare(a, b)).toEqual([
      'changed a type',
      'changed b mode owner xattr',
      'changed c target',
      'changed d device',
    ])
  })
})

test('names are quoted as git does, and left alone where they are plain', () => {
  const bytes = (text: string) => Buffer.from(text).toString('latin1')
  expect(quotedName(bytes('/etc/plain name'))).toBe('/etc/plain name')
  expect(quotedName(bytes('ünï'))).toBe('ünï')
  expect(quotedName(bytes('a\nb\t"\\'))).toBe('"a\\nb\\t\\"\\\\"')
  expect(quotedName(bytes('\u001b[0m\u202e'))).toBe('"\\033[0m\\342\\200\\256"')
  expect(quotedName('\xff\n')).toBe('"\\377\\n"')
  expect([decoded('\xff'), decoded(bytes('ü'))]).toEqual([undefined, 'ü'])
})
