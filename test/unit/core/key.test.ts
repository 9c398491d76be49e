// Keys: pinned for ever by golden vectors, made from every input, and from nothing else.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { contentId, digest, treeId } from '../../../src/core/ids.ts'
import { differingInputs, encodeKey, type KeyInputs, keyOf } from '../../../src/core/key.ts'

const tree = treeId('4b825dc642cb6eb9a060e54bf8d69288fbee4904')
const parent = contentId('11'.repeat(32))
const layer: KeyInputs = { kind: 'build-layer', arch: 'x86_64', engine: 1, parent, tree }
const full: KeyInputs = {
  ...layer,
  includes: { 'common/lib.sh': 'aa'.repeat(20), 'common/b': 'bb'.repeat(20) },
  env: { RELEASE: 'stable', A: '' },
  root: 'LABEL=root',
  size: 10 * 2 ** 30,
  base: digest(`sha256:${'22'.repeat(32)}`),
}

describe('golden vectors: a change here makes every snapshot of every user worthless', () => {
  test('the encoding, to the byte', () => {
    expect(encodeKey(layer)).toBe(
      'git-vlb key 1\n' +
        '4:arch,6:x86_64,' +
        '6:engine,1:1,' +
        '4:kind,11:build-layer,' +
        '6:parent,64:1111111111111111111111111111111111111111111111111111111111111111,' +
        '4:tree,40:4b825dc642cb6eb9a060e54bf8d69288fbee4904,',
    )
  })

  test.each<[string, KeyInputs, string]>([
    ['a layer', layer, 'bbdc1d1860ec3b9c3fa745c7100fabcc73371043911eee7cf99cec197ce852a5'],
    [
      'the first layer on a base',
      { kind: 'build-layer', arch: 'x86_64', engine: 1, base: digest(`sha256:${'22'.repeat(32)}`), tree },
      'aa23e3753d169b2d2e49ae97819651eb7cb906f773fb49a7a55df3b9502be747',
    ],
    [
      'a build-base layer',
      { kind: 'build-base', arch: 'aarch64', engine: 1, tree },
      '225f88a7170783ba9be9aea1d1a42a8d49be0072dd71b1e5cafcf27c24a95830',
    ],
    [
      'a grown disk',
      { kind: 'disk', arch: 'x86_64', engine: 1, parent, size: 10 * 2 ** 30 },
      'eda47562d7f1a9e245746bd6d548c0dff327837c0b288ecc8e7934971f0e5a1d',
    ],
    [
      'values and a chosen root',
      { ...layer, env: { RELEASE: 'stable', Ä: 'ö\n' }, root: '2' },
      '945cc91f0c59209d23e0ce9c953f222c2eb23cdc84d62488c4e2ca86056270e4',
    ],
    [
      'a rolled-up layer',
      { kind: 'layers', engine: 1, parent, tree, env: { '10_a/X': '1', '20_b/X': '2' }, includes: { lib: 'aa' } },
      'b557e263f1a4a69c5f0c71b56eeaa18ca860a6b56fe25d6abbe28e7b7d6618b3',
    ],
    ['every field', full, 'bd46de7af8e12a01eba5ce4f8b29c43eef69e21fa32e67d2c5f9816306e3213e'],
  ])('%s', (_name, inputs, hex) => {
    expect(keyOf(inputs)).toBe(hex)
  })
})

test('the order in which values and includes are given means nothing', () => {
  const turned: KeyInputs = {
    env: { A: '', RELEASE: 'stable' },
    includes: { 'common/b': 'bb'.repeat(20), 'common/lib.sh': 'aa'.repeat(20) },
    ...Object.fromEntries(
      Object.entries(full)
        .filter(([name]) => name !== 'env' && name !== 'includes')
        .reverse(),
    ),
  } as unknown as KeyInputs
  expect(keyOf(turned)).toBe(keyOf(full))
})

test('fields are ordered by bytes, not by the rules of some language', () => {
  const names = [...encodeKey({ ...layer, env: { b: '', B: '', ä: '', a: '', _: '' } }).matchAll(/\d+:(env:[^,]+),/g)]
  expect(names.map((m) => m[1])).toEqual(['env:B', 'env:_', 'env:a', 'env:b', 'env:ä'])
})

describe('every input changes the key', () => {
  test.each<[string, Partial<KeyInputs>, string[]]>([
    ['kind', { kind: 'build-base' }, ['kind']],
    ['architecture', { arch: 'aarch64' }, ['arch']],
    ['engine', { engine: 2 }, ['engine']],
    ['parent', { parent: contentId('12'.repeat(32)) }, ['parent']],
    ['base', { base: digest(`sha256:${'23'.repeat(32)}`) }, ['base']],
    ['algorithm of the digest', { base: digest(`sha512:${'22'.repeat(32)}`) }, ['base']],
    ['tree', { tree: treeId('4b825dc642cb6eb9a060e54bf8d69288fbee4905') }, ['tree']],
    ['disk size', { size: 2 ** 30 }, ['size']],
    ['root', { root: '1' }, ['root']],
    ['a value', { env: { RELEASE: 'testing', A: '' } }, ['env:RELEASE']],
    ['a name', { env: { RELEASES: 'stable', A: '' } }, ['env:RELEASE', 'env:RELEASES']],
    ['one value less', { env: { RELEASE: 'stable' } }, ['env:A']],
    ['an include', { includes: { ...full.includes, 'common/b': 'cc'.repeat(20) } }, ['include:common/b']],
  ])('%s', (_name, change, differing) => {
    expect(keyOf({ ...full, ...change })).not.toBe(keyOf(full))
    expect(differingInputs(full, { ...full, ...change }).sort()).toEqual(differing)
  })

  test('a field that is not there is another thing than an empty one', () => {
    expect(keyOf({ ...layer, env: { A: '' } })).not.toBe(keyOf(layer))
    expect(keyOf({ ...layer, root: '' })).not.toBe(keyOf(layer))
  })

  test('an empty set of values is no values', () => {
    expect(keyOf({ ...layer, env: {}, includes: {} })).toBe(keyOf(layer))
    expect(differingInputs(layer, layer)).toEqual([])
  })
})

describe('no two sets of fields have one encoding', () => {
  // Text that looks like the encoding itself, to provoke confusion.
  const text = fc.oneof(fc.string(), fc.constantFrom('1:a,', ',', '0:,', 'a,3:env', '4:tree,', 'é', '1:1,6:parent,0:'))
  const inputs: fc.Arbitrary<KeyInputs> = fc.record(
    {
      kind: fc.constantFrom<KeyInputs['kind'][]>('build-base', 'disk', 'build-layer'),
      arch: text,
      engine: fc.nat(20),
      parent: text.map(contentId),
      base: text.map(digest),
      tree: text.map(treeId),
      includes: fc.dictionary(text, text, { maxKeys: 3, noNullPrototype: true }),
      env: fc.dictionary(text, text, { maxKeys: 3, noNullPrototype: true }),
      size: fc.nat(),
      root: text,
    },
    { requiredKeys: ['kind', 'arch', 'engine'] },
  )
  const fields = (value: KeyInputs): string => {
    const { env = {}, includes = {}, ...rest } = value
    return JSON.stringify([Object.entries(rest).sort(), Object.entries(env).sort(), Object.entries(includes).sort()])
  }

  test('two that are not the same', () => {
    fc.assert(
      fc.property(inputs, inputs, (a, b) => {
        expect(encodeKey(a) === encodeKey(b)).toBe(fields(a) === fields(b))
      }),
      { numRuns: 300 },
    )
  })

  test('the encoding can be read back, so nothing in it is lost or merged', () => {
    fc.assert(
      fc.property(inputs, (value) => {
        const expected = Object.entries(value).flatMap(([name, part]): [string, string][] => {
          if (name === 'env' || name === 'includes')
            return Object.entries(part as Record<string, string>).map(([key, text]) => [
              `${name === 'env' ? 'env' : 'include'}:${key}`,
              text,
            ])
          return [[name, String(part)]]
        })
        expect(Object.fromEntries(decode(encodeKey(value)))).toEqual(Object.fromEntries(expected))
      }),
      { numRuns: 300 },
    )
  })
})

/** Reads netstrings (https://cr.yp.to/proto/netstrings.txt), two for each field. */
function decode(encoded: string): [string, string][] {
  const head = 'git-vlb key 1\n'
  expect(encoded.startsWith(head)).toBe(true)
  const bytes = Buffer.from(encoded.slice(head.length))
  const texts: string[] = []
  for (let at = 0; at < bytes.length; ) {
    const colon = bytes.indexOf(':', at)
    const length = Number(bytes.toString('latin1', at, colon))
    expect(bytes[colon + 1 + length]).toBe(0x2c)
    texts.push(bytes.toString('utf8', colon + 1, colon + 1 + length))
    at = colon + length + 2
  }
  return Array.from({ length: texts.length / 2 }, (_, i) => [texts[2 * i] ?? '', texts[2 * i + 1] ?? ''])
}
