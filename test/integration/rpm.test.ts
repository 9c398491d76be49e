// Package lists by a real rpm: Debian's, put into the tiny image with the libraries it takes. It writes sqlite and reads
// what Berkeley DB wrote; ndb, which only SUSE's rpm has, cannot be tried with it.
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import type { Need } from '../rig/need.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:qemu-img', 'tool:rpm', 'tool:rpmbuild', 'tool:sqlite3']

const spec = `Name: tiny
Epoch: 4
Version: 1.2
Release: 3
Summary: nothing
License: none
BuildArch: noarch
%description
nothing
%files
`

/** The folder of an rpm database that knows one package. */
function sqliteDatabase(rig: Rig): string {
  const folder = join(rig.folder, 'rpm')
  const database = join(folder, 'db')
  mkdirSync(database, { recursive: true })
  writeFileSync(join(folder, 'tiny.spec'), spec)
  rig.tool('rpmbuild', '--quiet', '--define', `_topdir ${folder}`, '-bb', join(folder, 'tiny.spec'))
  const built = join(folder, 'RPMS/noarch/tiny-1.2-3.noarch.rpm')
  rig.tool('rpm', '--dbpath', database, '--justdb', '--nodeps', '--install', built)
  return database
}

/** The same as Berkeley DB has it: number → header, under 0 the highest number (db_load(1), "bytevalue"). */
function berkeleyDatabase(rig: Rig, sqlite: string): Buffer {
  const rows = rig.tool('sqlite3', join(sqlite, 'rpmdb.sqlite'), 'select hnum, lower(hex(blob)) from Packages').trim()
  const number = (n: number) => Buffer.from(Uint32Array.of(n).buffer).toString('hex')
  const records = rows.split('\n').map((row) => row.split('|'))
  const pairs = [[number(0), number(records.length)], ...records.map(([n, header]) => [number(Number(n)), header])]
  const lines = ['VERSION=3', 'format=bytevalue', 'type=hash', 'db_pagesize=4096', 'HEADER=END']
  const input = [...lines, ...pairs.flat().map((hex) => ` ${hex}`), 'DATA=END', ''].join('\n')
  const file = join(rig.folder, 'rpm/Packages')
  execFileSync('db5.3_load', [file], { input, env: { ...rig.env, PATH: `${rig.env['PATH']}:/usr/bin` } })
  return readFileSync(file)
}

/** rpm with all it opens, to be copied over an image. */
function putRpm(rig: Rig, root: string): void {
  const rpm = rig.tool('sh', '-c', 'command -v rpm').trim()
  const libraries = [...rig.tool('ldd', rpm).matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '')
  for (const path of libraries) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    copyFileSync(path, join(root, path))
  }
  mkdirSync(join(root, 'usr/bin'), { recursive: true })
  copyFileSync(rpm, join(root, 'usr/bin/rpm'))
  mkdirSync(join(root, 'usr/lib/rpm'), { recursive: true })
  for (const name of ['macros', 'rpmrc']) copyFileSync(join('/usr/lib/rpm', name), join(root, 'usr/lib/rpm', name))
}

function lists(rig: Rig): Record<string, unknown> {
  return Object.fromEntries(
    readdirSync(rig.store('snapshots')).map((id) => {
      const read = (name: string) => JSON.parse(readFileSync(rig.store('snapshots', id, name), 'utf8'))
      return [read('manifest.json').layer, read('packages.json')]
    }),
  )
}

rigTest(
  'a real rpm reads its database from the image, be it sqlite or Berkeley DB',
  async (rig) => {
    const script =
      '#!/bin/sh\nset -e\n[ ! -d root ] || cp -R root/. /\nmkdir -p /var/lib\nrm -rf /var/lib/rpm\ncp -R db /var/lib/rpm\n'
    rig.project({})
    mkdirSync(rig.path('10_sqlite'))
    const sqlite = sqliteDatabase(rig)
    cpSync(sqlite, rig.path('10_sqlite/db'), { recursive: true })
    rmSync(rig.path('10_sqlite/db/.rpm.lock'), { force: true })
    putRpm(rig, rig.path('10_sqlite/root'))
    rig.write({
      '10_sqlite/build-layer': script,
      '20_berkeley/build-layer': script,
      '20_berkeley/db/Packages': berkeleyDatabase(rig, sqlite),
    })
    rig.tool('chmod', '+x', rig.path('10_sqlite/root/usr/bin/rpm'))
    rig.commit()
    await rig.build()
    const packages = [{ name: 'tiny', version: '4:1.2-3', arch: 'noarch' }]
    const list = { format: 1, manager: 'rpm', os: { id: 'tiny' }, packages }
    expect(lists(rig)).toEqual({ '10_sqlite': list, '20_berkeley': list })
  },
  [...needs, 'tool:db5.3_load'],
)
