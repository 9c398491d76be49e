// Databases of package managers, out of an image: their lists, and the versions in them.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { comparePackages } from '../../src/core/package-changes.ts'
import {
  type PackageManager,
  packageList,
  packageListText,
  parseOsRelease,
  readPackageList,
} from '../../src/core/packages.ts'
import { packageUrl, spdxDocument } from '../../src/core/spdx.ts'
import { compareVersions } from '../../src/core/versions.ts'
import { jsonOf, linesOf, madeOf, unshowable } from './outside.ts'

const pieces = [
  ...[
    'Package: a',
    'Version: 1.0-1',
    'Architecture: amd64',
    'Status: install ok installed',
    'Status: deinstall ok config-files',
    'Source: b (2)',
  ],
  ...[
    'P:musl',
    'V:1.2-r0',
    'A:x86_64',
    'o:musl',
    '%NAME%',
    '%VERSION%',
    '%BASE%',
    'pkg',
    '1:2-3',
    'bash\t5.1\tx86_64\tbash-5.1-6.src.rpm',
    'gpg-pubkey\t1\t\t',
  ],
  ...['', ' ', ':', '\t', '\n\n', '__proto__: x', 'ID=debian', 'VERSION_ID="12"', "PRETTY_NAME='x", 'ID="a\\"b"', '='],
]

const database = fc.option(linesOf(pieces), { nil: undefined })
const databases = fc
  .record({ dpkg: database, apk: database, pacman: database, rpm: database, os: database, problem: database })
  .map((all) => Object.fromEntries(Object.entries(all).filter(([, text]) => text !== undefined)))

describe('package lists', () => {
  test('of any text: what they hold can be shown, is in order, and is read again as it was written', () => {
    fc.assert(
      fc.property(databases, (texts) => {
        const list = packageList(texts)
        for (const one of list.packages) {
          expect(`${one.name} ${one.version} ${one.arch} ${one.source ?? ''}`).not.toMatch(
            /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u,
          )
          expect(one.name !== '' && one.version !== '').toBe(true)
        }
        const keys = list.packages.map((one) => Buffer.from(`${one.name}\0${one.arch}\0${one.version}`).toString('hex'))
        expect(keys).toEqual([...new Set(keys)].sort())
        expect(readPackageList(packageListText(list))).toEqual(JSON.parse(JSON.stringify(list)))
        expect(comparePackages(list, list)).toMatchObject({ added: [], removed: [], upgraded: [] })
      }),
    )
  })

  test('os-release of any text', () => {
    fc.assert(
      fc.property(linesOf(pieces), (text) => {
        for (const value of Object.values(parseOsRelease(text) ?? {})) expect(value).not.toMatch(unshowable)
      }),
    )
  })

  test('a list that somebody else wrote is none, or one that all can be done with', () => {
    const names = ['format', 'manager', 'os', 'id', 'version', 'name', 'problem', 'packages', 'arch', 'source']
    const one = { name: 'a', version: '1', arch: '' }
    const values = [
      'dpkg',
      'rpm',
      [one],
      [{ ...one, source: 1 }],
      { id: 'debian' },
      { id: 1 },
      { id: 'x', version: [] },
    ]
    const whole = fc
      .tuple(jsonOf(names, values), jsonOf(names, values), jsonOf(names, values))
      .map(
        ([os, manager, more]) =>
          `{"format":1,"packages":[${JSON.stringify(one)}],"os":${os},"manager":${manager},"problem":${more}}`,
      )
    fc.assert(
      fc.property(fc.oneof(whole, jsonOf(names, values)), (text) => {
        const list = readPackageList(text)
        if (!list) return
        comparePackages(list, packageList({}))
        packageListText(list)
        for (const each of list.packages) packageUrl(each, list)
        spdxDocument({ name: 'web', contentId: 'ab', builtAt: '2024-01-01T00:00:00Z', version: '1' }, list)
      }),
    )
  })

  test('the changes between two lists lead from one to the other', () => {
    const list = fc
      .array(
        fc.record({
          name: fc.constantFrom('a', 'b', 'c'),
          version: fc.constantFrom('1', '2', '3'),
          arch: fc.constantFrom('x', 'y'),
        }),
        { maxLength: 6 },
      )
      .map((packages) =>
        packageList({ rpm: packages.map(({ name, version, arch }) => `${name}\t${version}\t${arch}\t`).join('\n') }),
      )
    const key = (one: { name: string; arch: string; version: string }) => `${one.name} ${one.arch} ${one.version}`
    fc.assert(
      fc.property(list, list, (from, to) => {
        const { added, removed, upgraded } = comparePackages(from, to)
        const left = new Set(from.packages.map(key))
        for (const one of removed) expect(left.delete(key(one))).toBe(true)
        for (const one of upgraded) expect(left.delete(key({ ...one, version: one.from }))).toBe(true)
        for (const one of [...added, ...upgraded.map((u) => ({ ...u, version: u.to }))]) left.add(key(one))
        expect([...left].sort()).toEqual(to.packages.map(key).sort())
      }),
    )
  })
})

describe('versions', () => {
  const version = madeOf(
    ['1', '0', '00', '10', '2', '.', '-', '~', '^', '+', ':', '1:', 'a', 'rc', 'Z', '-r1', '9'.repeat(30), '_', 'é'],
    6,
  )

  test.each<PackageManager>(['dpkg', 'rpm', 'pacman', 'apk'])('%s: their order is one', (manager) => {
    const sign = (a: string, b: string) => {
      const order = compareVersions(manager, a, b)
      return order === undefined ? undefined : Math.sign(order)
    }
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        const [ab, ba, bc, ac] = [sign(a, b), sign(b, a), sign(b, c), sign(a, c)]
        if (ab === undefined) {
          expect(ba).toBeUndefined()
          return
        }
        expect(ab + (ba ?? 0)).toBe(0)
        expect(sign(a, a) ?? 0).toBe(0)
        if (bc === undefined || ac === undefined) return
        // Transitive, and what counts as the same is the same to all others.
        if (ab <= 0 && bc <= 0) expect(ac).toBe(Math.min(ab, bc) < 0 ? -1 : 0)
      }),
    )
  })
})
