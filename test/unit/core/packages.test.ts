// Package lists from databases as their managers write them, and from anything else.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Databases,
  packageList,
  packageListText,
  parseOsRelease,
  readPackageList,
} from '../../../src/core/packages.ts'

const dpkg = `Package: libc6
Status: install ok installed
Priority: optional
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u10
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab
Description: GNU C Library: Shared libraries
 Package: not-one
 Version: 0

Package: removed
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: held
Status: hold ok installed
Architecture: all
Source: other (1.0-2)
Version: 1:1.0-1

Package: half
Status: install ok half-configured
Architecture: all
Version: 1
`
const apk = `C:Q1abc=
P:busybox-binsh
V:1.36.1-r29
A:x86_64
o:busybox
F:bin
R:sh
Z:Q1=

P:musl
V:1.2.5-r0
A:x86_64
o:musl
`
const pacman = `%NAME%
zlib

%VERSION%
1:1.3.1-2

%BASE%
zlib

%ARCH%
x86_64

%DEPENDS%
glibc


%NAME%
gcc-libs

%VERSION%
14.2.1-1

%BASE%
gcc

%ARCH%
x86_64
`
const rpm = `bash\t5.1.8-6.el9\tx86_64\tbash-5.1.8-6.el9.src.rpm
glibc-common\t2.34-100.el9\tx86_64\tglibc-2.34-100.el9.src.rpm
dbus\t1:1.12.20-8.el9\tx86_64\tdbus-1.12.20-8.el9.src.rpm
gpg-pubkey\tfd431d51-4ae0493b\t(none)\t(none)
kernel\t5.14.0-1\tx86_64\tkernel-5.14.0-1.src.rpm
kernel\t5.14.0-2\tx86_64\tkernel-5.14.0-2.src.rpm
`

describe('each manager', () => {
  test.each<[keyof Databases, string, object[]]>([
    [
      'dpkg',
      dpkg,
      [
        { name: 'held', version: '1:1.0-1', arch: 'all', source: 'other' },
        { name: 'libc6', version: '2.36-9+deb12u10', arch: 'amd64', source: 'glibc' },
      ],
    ],
    [
      'dpkg',
      'Package: base-files\nVersion: 12\nArchitecture: amd64\n',
      [{ name: 'base-files', version: '12', arch: 'amd64' }],
    ],
    [
      'apk',
      apk,
      [
        { name: 'busybox-binsh', version: '1.36.1-r29', arch: 'x86_64', source: 'busybox' },
        { name: 'musl', version: '1.2.5-r0', arch: 'x86_64' },
      ],
    ],
    [
      'pacman',
      pacman,
      [
        { name: 'gcc-libs', version: '14.2.1-1', arch: 'x86_64', source: 'gcc' },
        { name: 'zlib', version: '1:1.3.1-2', arch: 'x86_64' },
      ],
    ],
    [
      'rpm',
      rpm,
      [
        { name: 'bash', version: '5.1.8-6.el9', arch: 'x86_64' },
        { name: 'dbus', version: '1:1.12.20-8.el9', arch: 'x86_64' },
        { name: 'glibc-common', version: '2.34-100.el9', arch: 'x86_64', source: 'glibc' },
        { name: 'kernel', version: '5.14.0-1', arch: 'x86_64' },
        { name: 'kernel', version: '5.14.0-2', arch: 'x86_64' },
      ],
    ],
  ])('%s', (manager, text, packages) => {
    expect(packageList({ [manager]: text })).toEqual({ format: 1, manager, os: null, packages })
  })
})

test('an image without packages has an empty list, and no manager if it has none', () => {
  expect(packageList({})).toEqual({ format: 1, manager: null, os: null, packages: [] })
  expect(packageList({ rpm: '', problem: 'no rpm' })).toMatchObject({ manager: 'rpm', problem: 'no rpm', packages: [] })
  expect(packageList({ dpkg: '', rpm })).toMatchObject({ manager: 'rpm' })
})

test('the order is that of bytes, whatever the order in the database', () => {
  const names = ['b', 'B', 'a-b', 'a', 'é', 'z', 'a.b', 'aa']
  const record = (name: string) => `Package: ${name}\nVersion: 1\nArchitecture: all\n`
  const list = (order: string[]) => packageList({ dpkg: order.map(record).join('\n') }).packages.map((p) => p.name)
  expect(list(names)).toEqual(['B', 'a', 'a-b', 'a.b', 'aa', 'b', 'z', 'é'])
  expect(list([...names].reverse())).toEqual(list(names))
  expect(list([...names, ...names])).toEqual(list(names))
})

test('os-release is read with and without quotes', () => {
  const text = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
  expect(parseOsRelease(text)).toEqual({ id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' })
  expect(parseOsRelease('ID=\'arch\'\nPRETTY_NAME="a \\$b"')).toEqual({ id: 'arch', name: 'a $b' })
  expect([parseOsRelease(''), parseOsRelease('NAME=x'), parseOsRelease('ID=')]).toEqual([null, null, null])
})

test('a list is read as it was written, one package to a line', () => {
  const list = packageList({ dpkg, os: 'ID=debian\n' })
  const text = packageListText(list)
  expect(readPackageList(text)).toEqual(list)
  expect(text.split('\n').filter((line) => line.includes('"name"'))).toHaveLength(2)
  expect(JSON.parse(packageListText(packageList({}))).packages).toEqual([])
  for (const broken of [
    '',
    'null',
    '{}',
    text.slice(0, 90),
    text.replace('"format": 1', '"format": 2'),
    '{"format":1,"packages":[null]}',
    '{"format":1,"manager":"dpkg","os":{"id":1},"packages":[]}',
    '{"format":1,"manager":[],"os":null,"packages":[]}',
    '{"format":1,"manager":null,"os":null,"packages":[{"name":"a","version":"1","arch":"","source":1}]}',
  ])
    expect(readPackageList(broken)).toBeUndefined()
})

describe('anything at all', () => {
  const words = [
    'Package: a',
    'Version: 1',
    'Status: x installed',
    '',
    ' ',
    '%NAME%',
    '%VERSION%',
    'P:x',
    'V:',
    ':',
    '\t\t\t',
    '\0',
  ]
  const line = fc.oneof(fc.constantFrom(...words), fc.string({ unit: 'binary' }), fc.string())
  const text = fc.array(line, { maxLength: 60 }).map((lines) => lines.join('\n'))

  test('gives a list that is sound and sorted', () => {
    fc.assert(
      fc.property(fc.constantFrom('dpkg', 'apk', 'pacman', 'rpm'), text, text, (manager, database, os) => {
        const list = packageList({ [manager]: database, os, problem: os })
        expect(readPackageList(packageListText(list))).toEqual(list)
        for (const { name, version } of list.packages) {
          expect(name && version).not.toBe('')
          expect(name + version).not.toMatch(/\p{Cc}/u)
        }
      }),
    )
  })

  test.each(['dpkg', 'apk', 'pacman', 'rpm'] as const)('takes no longer than its length, of %s', (manager) => {
    for (const piece of ['a', ' ', '\n', ':', '%', '-', '\t', 'Package: a\n', '%NAME%\n', 'P:\n\n', 'x-1-1.rpm\t']) {
      const started = performance.now()
      packageList({ [manager]: piece.repeat(1_000_000 / piece.length), os: piece.repeat(100_000) })
      expect(performance.now() - started, JSON.stringify(piece)).toBeLessThan(2500)
    }
  })
})
