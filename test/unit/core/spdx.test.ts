// Bills of materials: SPDX 2.3 for every list, the same for the same image, with package URLs that name the packages.
import { existsSync, readFileSync } from 'node:fs'
import { type Schema, Validator } from '@cfworker/json-schema'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type PackageList, packageList } from '../../../src/core/packages.ts'
import { packageUrl, spdxDocument } from '../../../src/core/spdx.ts'

const subject = { name: 'web', contentId: 'ab'.repeat(32), builtAt: '2024-05-06T07:08:09.123Z', version: '0.1.0' }
const libc = { name: 'libc6', version: '2.36-9+deb12u10', arch: 'amd64', source: 'glibc' }
const debian: PackageList = {
  format: 1,
  manager: 'dpkg',
  os: { id: 'debian', version: '12', name: 'Debian GNU/Linux 12 (bookworm)' },
  packages: [libc, { name: 'libstdc++6', version: '1:12.2.0-14~x', arch: 'amd64' }],
}

/** What SPDX 2.3 says of the fields that are written here (clauses 6, 7 and 11, and annex D of its text). */
const text: Schema = { type: 'string', minLength: 1 }
const spdxId: Schema = { type: 'string', pattern: '^SPDXRef-[A-Za-z0-9.-]+$' }
const spdx: Schema = {
  type: 'object',
  additionalProperties: false,
  required: [
    'spdxVersion',
    'dataLicense',
    'SPDXID',
    'name',
    'documentNamespace',
    'creationInfo',
    'packages',
    'relationships',
  ],
  properties: {
    spdxVersion: { const: 'SPDX-2.3' },
    dataLicense: { const: 'CC0-1.0' },
    SPDXID: { const: 'SPDXRef-DOCUMENT' },
    name: text,
    documentNamespace: { type: 'string', format: 'uri', pattern: '^[^#]+$' },
    comment: text,
    creationInfo: {
      type: 'object',
      additionalProperties: false,
      required: ['created', 'creators'],
      properties: {
        created: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ$' },
        creators: { type: 'array', minItems: 1, items: { type: 'string', pattern: '^Tool: .+' } },
      },
    },
    packages: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['SPDXID', 'name', 'downloadLocation'],
        properties: {
          SPDXID: spdxId,
          name: text,
          versionInfo: text,
          description: text,
          comment: text,
          sourceInfo: text,
          primaryPackagePurpose: { enum: ['OPERATING_SYSTEM'] },
          filesAnalyzed: { const: false },
          ...Object.fromEntries(
            ['downloadLocation', 'licenseConcluded', 'licenseDeclared', 'copyrightText'].map((name) => [
              name,
              { const: 'NOASSERTION' },
            ]),
          ),
          externalRefs: {
            type: 'array',
            items: {
              type: 'object',
              additionalProperties: false,
              required: ['referenceCategory', 'referenceType', 'referenceLocator'],
              properties: {
                referenceCategory: { const: 'PACKAGE-MANAGER' },
                referenceType: { const: 'purl' },
                referenceLocator: {
                  type: 'string',
                  pattern: '^pkg:[a-z]+(/[A-Za-z0-9._~%:-]+){1,2}@[A-Za-z0-9._~%:-]+(\\?[^ #]+)?$',
                },
              },
            },
          },
        },
      },
    },
    relationships: {
      type: 'array',
      items: {
        type: 'object',
        additionalProperties: false,
        required: ['spdxElementId', 'relationshipType', 'relatedSpdxElement'],
        properties: {
          spdxElementId: spdxId,
          relatedSpdxElement: spdxId,
          relationshipType: { enum: ['DESCRIBES', 'CONTAINS'] },
        },
      },
    },
  },
}

// The published schema (schemas/spdx-schema-2-3.json of spdx/spdx-spec), where a copy is at hand, besides.
const published = process.env['VLB_SPDX_SCHEMA'] ?? ''
const schemas = [spdx, ...(existsSync(published) ? [JSON.parse(readFileSync(published, 'utf8')) as Schema] : [])]

function expectValid(document: object): void {
  for (const schema of schemas) {
    const { valid, errors } = new Validator(schema, '2019-09', false).validate(JSON.parse(JSON.stringify(document)))
    expect(valid, JSON.stringify(errors)).toBe(true)
  }
}

// biome-ignore lint/suspicious/noExplicitAny: a test looks into JSON of any shape
const made = (list: PackageList): any => spdxDocument(subject, list)

test('it describes the image, which contains each package', () => {
  const document = made(debian)
  expectValid(document)
  expect(document.creationInfo).toEqual({ created: '2024-05-06T07:08:09Z', creators: ['Tool: git-vlb-0.1.0'] })
  expect(document.documentNamespace).toBe(`https://spdx.org/spdxdocs/git-vlb-1/web-${subject.contentId}`)
  expect(document.packages[0]).toMatchObject({ SPDXID: 'SPDXRef-Image', name: 'web', versionInfo: subject.contentId })
  expect(document.packages[1]).toMatchObject({
    name: 'libc6',
    versionInfo: libc.version,
    sourceInfo: expect.stringMatching(/ glibc$/),
  })
  const [first, ...contained] = document.relationships
  expect(first).toMatchObject({
    spdxElementId: 'SPDXRef-DOCUMENT',
    relationshipType: 'DESCRIBES',
    relatedSpdxElement: 'SPDXRef-Image',
  })
  const ids = document.packages.map((one: { SPDXID: string }) => one.SPDXID)
  expect(contained.map((one: { relatedSpdxElement: string }) => one.relatedSpdxElement)).toEqual(ids.slice(1))
  expect(made(debian)).toEqual(document)
})

test('package URLs, as the specification of each type has them', () => {
  const url = (
    manager: PackageList['manager'],
    os: PackageList['os'],
    name: string,
    version: string,
    arch = 'x86_64',
  ) => packageUrl({ name, version, arch }, { format: 1, manager, os, packages: [] })
  const id = (name: string, version?: string) => ({ id: name, ...(version ? { version } : {}) })
  expect(url('dpkg', id('debian', '12'), 'libc6', '2.36-9+deb12u10', 'amd64')).toBe(
    'pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12',
  )
  expect(url('dpkg', null, 'libstdc++6', '1:12.2.0-14', '')).toBe('pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14')
  expect(url('rpm', id('fedora', '40'), 'Dbus', '1:1.14-3.fc40')).toBe(
    'pkg:rpm/fedora/Dbus@1.14-3.fc40?arch=x86_64&distro=fedora-40&epoch=1',
  )
  expect(url('rpm', null, 'bash', '5-1')).toBe('pkg:rpm/bash@5-1?arch=x86_64')
  expect(url('apk', id('alpine', '3.20.1'), 'musl', '1.2.5-r0')).toBe(
    'pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1',
  )
  expect(url('pacman', id('arch'), 'zlib', '1:1.3.1-2')).toBe('pkg:alpm/arch/zlib@1:1.3.1-2?arch=x86_64')
  expect(url(null, null, 'x', '1')).toBeUndefined()
})

test('an image without packages, and a list with a hole, are told as such', () => {
  const document = made(packageList({ problem: 'the image has an rpm database, but no rpm to read it' }))
  expectValid(document)
  expect([document.packages.length, document.comment]).toEqual([1, expect.stringContaining('no rpm to read it')])
})

test('every list gives a valid document, with an id of its own for each package', () => {
  const word = fc.oneof(fc.string({ unit: 'binary' }), fc.string(), fc.constantFrom('a', 'a+b', 'é', '../x', 'A'))
  const record = fc
    .tuple(word, word, word)
    .map(([name, version, arch]) => `Package: ${name}\nVersion: ${version}\nArchitecture: ${arch}\n`)
  fc.assert(
    fc.property(fc.array(record, { maxLength: 20 }), word, (records, os) => {
      const document = made(packageList({ dpkg: records.join('\n'), os: `ID=${os}\nVERSION_ID=${os}` }))
      expectValid(document)
      const ids = document.packages.map((one: { SPDXID: string }) => one.SPDXID)
      expect(new Set(ids).size).toBe(ids.length)
    }),
  )
})
