import { expect, test } from 'vitest'
import { comparePackages } from '../../../src/core/package-changes.ts'
import type { PackageList } from '../../../src/core/packages.ts'

const list = (...packages: string[]): PackageList => ({
  format: 1,
  manager: 'dpkg',
  os: null,
  packages: packages.map((one) => {
    const [name = '', version = '', arch = 'amd64'] = one.split(' ')
    return { name, version, arch }
  }),
})

test('upgrades, downgrades, new and lost packages', () => {
  const changes = comparePackages(list('a 1', 'b 2', 'c 1', 'same 1'), list('a 2', 'b 1', 'd 1', 'same 1'))
  expect(changes).toEqual({
    upgraded: [
      { name: 'a', arch: 'amd64', from: '1', to: '2', direction: 'upgraded' },
      { name: 'b', arch: 'amd64', from: '2', to: '1', direction: 'downgraded' },
    ],
    added: [{ name: 'd', version: '1', arch: 'amd64' }],
    removed: [{ name: 'c', version: '1', arch: 'amd64' }],
    major: [],
  })
})

test('a package of two architectures, or of several versions at once', () => {
  const changes = comparePackages(
    list('a 1', 'a 1 i386', 'kernel 5', 'kernel 6'),
    list('a 2', 'a 1 i386', 'kernel 6', 'kernel 7', 'kernel 8'),
  )
  expect(changes.upgraded).toMatchObject([{ name: 'a', arch: 'amd64' }])
  expect([changes.added, changes.removed]).toMatchObject([[{ version: '7' }, { version: '8' }], [{ version: '5' }]])
  expect(comparePackages(list('kernel 5', 'kernel 6'), list('kernel 6', 'kernel 7')).upgraded).toMatchObject([
    { from: '5', to: '7' },
  ])
})

test('a kernel whose version is in its name is an upgrade of the one before', () => {
  const changes = comparePackages(
    list('linux-image-6.1.0-18-amd64 6.1.76-1', 'linux-image-amd64 6.1.76-1'),
    list('linux-image-6.1.0-20-amd64 6.1.85-1', 'linux-image-amd64 6.1.85-1'),
  )
  expect(changes).toMatchObject({ added: [], removed: [], major: ['linux-image-6.1.0-20-amd64', 'linux-image-amd64'] })
  expect(changes.upgraded[0]).toMatchObject({ was: 'linux-image-6.1.0-18-amd64', from: '6.1.76-1', to: '6.1.85-1' })
  const both = comparePackages(list(), list('linux-image-6.1.0-20-amd64 1', 'linux-image-6.1.0-20-rt-amd64 1'))
  expect(both.added).toHaveLength(2)
})

test('what everybody asks for comes first, then what the project names', () => {
  const from = list('nginx 1', 'nginx-common 1', 'systemd 1', 'openssl 1', 'libc6 1', 'aaa 1', 'php8.2-fpm 1')
  const to = list('nginx 2', 'nginx-common 2', 'systemd 2', 'openssl 2', 'libc6 2', 'aaa 2', 'php8.2-fpm 2')
  const major = (...wanted: string[]) => comparePackages(from, to, wanted).major
  expect(major()).toEqual(['libc6', 'openssl', 'systemd'])
  expect(major('php*-fpm', 'nginx').slice(3)).toEqual(['php8.2-fpm', 'nginx'])
  expect(major('*').slice(3)).toEqual(['aaa', 'nginx', 'nginx-common', 'php8.2-fpm'])
  expect(major('n*x*n', 'a*a*a*a')).toHaveLength(4)
})
