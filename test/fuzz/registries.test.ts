// What registries answer, and how people name them.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { layerKey } from '../../src/core/ids.ts'
import { leaseLimits, parseLease } from '../../src/core/lease.ts'
import { mediaTypes, parseOciManifest, parseSnapshot } from '../../src/core/oci.ts'
import { parseImage } from '../../src/core/oci-image.ts'
import { isLoopback, parseRemote, remoteName } from '../../src/core/remote.ts'
import { parseChallenge } from '../../src/store/oci-login.ts'
import { anyText, jsonOf, madeOf, orRefusal } from './outside.ts'

const key = layerKey('ab'.repeat(32))
const blob = { mediaType: mediaTypes.config, digest: `sha256:${key}`, size: 1 }

test('a remote is a host and a repository, or refused', () => {
  const pieces = [
    'https://',
    'http://',
    'example.com',
    'localhost',
    '[::1]',
    '127.0.0.1',
    ':5000',
    '/',
    'team',
    '..',
    'A',
    '@',
    '%2f',
    '?',
    '#',
    ' ',
  ]
  fc.assert(
    fc.property(madeOf(pieces, 7), (text) => {
      const remote = orRefusal(() => parseRemote(text, 'remote'))
      if (!remote) return
      const url = new URL(`${remote.scheme}://${remote.host}/v2/${remote.repository}/tags`)
      expect([url.username, url.password, url.search, url.hash]).toEqual(['', '', '', ''])
      expect(url.pathname).toBe(`/v2/${remote.repository}/tags`)
      if (remote.scheme === 'http') expect(isLoopback(remote.host)).toBe(true)
      expect(parseRemote(`${remote.scheme}://${remoteName(remote)}`, 'remote')).toEqual(remote)
    }),
  )
})

test('what it wants for a login is read, or not', () => {
  const pieces = ['Bearer ', 'Basic ', 'realm="', 'https://x', '"', ',', 'service=', '"a"', ' ', '\\', '=']
  fc.assert(
    fc.property(madeOf(pieces), (header) => {
      expect(['basic', 'bearer', undefined]).toContain(parseChallenge(header)?.scheme)
    }),
  )
})

test('a manifest of any form is one, or none', () => {
  const names = ['schemaVersion', 'artifactType', 'config', 'layers', 'mediaType', 'digest', 'size', 'annotations']
  fc.assert(
    fc.property(jsonOf(names, [2, blob, [blob], mediaTypes.config, blob.digest]), (text) => {
      const found = parseOciManifest(text)
      if (typeof found === 'string') return
      for (const { digest, size } of [found.config, ...found.blobs]) {
        expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/)
        expect(size).toBeGreaterThanOrEqual(0)
      }
    }),
  )
})

test('a config of any form is one for that key, or none', () => {
  const names = [
    'format',
    'key',
    'contentId',
    'arch',
    'base',
    'layers',
    'manifest',
    'file',
    'details',
    'inputs',
    'disk',
    'parts',
    '\ud800',
  ]
  fc.assert(
    fc.property(jsonOf(names, [1, key, [blob], { size: 1, parts: [blob] }]), (text) => {
      const found = parseSnapshot(text, key, [blob])
      if (typeof found !== 'string') expect(found.key).toBe(key)
    }),
  )
})

test('a lease of any form is one that can be waited for, or none', () => {
  const names = ['owner', 'host', 'layer', 'seconds', 'beat', 'at', 'ended']
  const values = ['f'.repeat(32), 'ci-7', '10_a', 90, 1e9, -1, 0.5, true]
  const lease = (told: string) =>
    JSON.stringify({
      artifactType: 'application/vnd.git-vlb.lease.v1',
      annotations: { 'vnd.git-vlb.lease': told },
    })
  // Such that some are leases, but for what one field says.
  const nearly = fc
    .record({
      owner: fc.constant('f'.repeat(32)),
      host: anyText,
      layer: anyText,
      seconds: fc.integer({ min: -1, max: 4000 }),
      beat: fc.integer(),
    })
    .map((one) => JSON.stringify(one))
  let read = 0
  fc.assert(
    fc.property(fc.oneof(jsonOf(names, values), jsonOf(names, values).map(lease), nearly.map(lease)), (text) => {
      const found = parseLease(text)
      if (!found) return
      read++
      expect(found.owner).toMatch(/^[0-9a-f]{16,64}$/)
      expect(found.seconds).toBeGreaterThanOrEqual(leaseLimits.least)
      expect(found.seconds).toBeLessThanOrEqual(leaseLimits.most)
      // One line of a terminal, with no tricks.
      expect(found.host + found.layer).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    }),
  )
  expect(read).toBeGreaterThan(0)
})

test('a config of any form is one of an image for that tag, or none', () => {
  const names = ['format', 'project', 'tag', 'disk', 'files', 'file', 'parts', 'name', 'capacity', 'sha256', '\ud800']
  const file = { size: 1, parts: [blob] }
  const image = {
    ...{ format: 1, project: 'x', tag: 'v1', contentId: key, arch: 'x', builtAt: '2024-01-01T00:00:00Z' },
    disk: { name: 'x', format: 'raw', capacity: 512, sha256: key, file },
    files: [],
  }
  expect(parseImage(JSON.stringify(image), 'v1', [blob])).toEqual(image)
  const part = jsonOf(names, [1, 'v1', key, blob, [blob], file, image.disk])
  fc.assert(
    fc.property(part, fc.constantFrom(...Object.keys(image), undefined), (text, name) => {
      const whole = name === undefined ? text : JSON.stringify({ ...image, [name]: '@' }).replace('"@"', () => text)
      const found = parseImage(whole, 'v1', [blob])
      if (typeof found === 'string') return
      expect([found.tag, found.disk.file.size]).toEqual(['v1', 1])
      expect(found.disk.name).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._-]*$/)
    }),
  )
})
