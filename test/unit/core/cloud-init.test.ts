// Files of a NoCloud seed: what cloud-init would ignore or choke on is an error here, and what it takes is taken.
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { composeSeed, pickSeedFiles, type SeedFile, type SeedName } from '../../../src/core/cloud-init.ts'
import { complaint } from '../errors.ts'

const file = (name: SeedName, text: string | Buffer): SeedFile => ({
  name,
  path: `cloud-init/${name}`,
  content: Buffer.from(text),
})
const user = (text: string | Buffer) => composeSeed([file('user-data', text)])

describe('the files of the folder', () => {
  test('are found by their names, with and without an ending', () => {
    const { chosen, misspelled } = pickSeedFiles(['user-data.yaml', 'meta-data', 'network-config.yml', 'README'])
    expect([...chosen]).toEqual([
      ['meta-data', 'meta-data'],
      ['network-config', 'network-config.yml'],
      ['user-data', 'user-data.yaml'],
    ])
    expect(misspelled).toEqual([])
  })

  test('what looks like a slip of the pen is said', () => {
    expect(pickSeedFiles(['user-data', 'metadata', 'vendor_data.yaml']).misspelled).toEqual([
      'cloud-init/metadata is not used: did you mean meta-data?',
      'cloud-init/vendor_data.yaml is not used: did you mean vendor-data?',
    ])
  })

  test('two for one, or none, is an error', () => {
    expect(complaint('VLB_CLOUD_INIT', () => pickSeedFiles(['user-data', 'user-data.yaml']))).toMatch(
      /both user-data and user-data.yaml/,
    )
    expect(complaint('VLB_CLOUD_INIT', () => pickSeedFiles(['userdata']))).toMatch(/none of user-data/)
  })
})

describe('user-data', () => {
  test.each([
    ['#cloud-config\nhostname: web1\n'],
    ['#cloud-config\r\nhostname: web1\r\n'],
    ['#cloud-config\n'],
    ['\n\n#cloud-config\nhostname: web1\n'],
    ['#!/bin/sh\necho hello\n'],
    ['#include\nhttps://example.com/a\n'],
    ['#include https://example.com/a\n'],
    ['#include-once\nhttps://example.com/a\n'],
    ['#cloud-boothook\n#!/bin/sh\ntrue\n'],
    ['#cloud-config-archive\n- { type: text/cloud-config, content: "#cloud-config" }\n'],
    ['#cloud-config-jsonp\n[]\n'],
    ['#part-handler\ndef list_types(): return []\n'],
    ['Content-Type: multipart/mixed; boundary="=="\nMIME-Version: 1.0\n\n--==--\n'],
    ['## template: jinja\n#cloud-config\nhostname: {{ ds.x }}: {% raw %}\n'],
    [gzipSync('#cloud-config\n')],
  ])('that cloud-init knows is taken as it is: %j', (text) => {
    expect(user(text).files.get('user-data')?.equals(Buffer.from(text))).toBe(true)
  })

  test.each([
    ['hostname: web1\n', /^cloud-init\/user-data:1:1: its first line does not say what it is/],
    ['# cloud-config\nhostname: web1\n', /user-data:1:1: "# cloud-config" is not "#cloud-config"/],
    ['#cloud-config hostname: web1\n', /user-data:1:1: /],
    ['#cloud-configuration\n', /user-data:1:1: /],
    ['#includes\nhttps://example.com\n', /user-data:1:1: /],
    ['## template: jinja\nhostname: x\n', /user-data:2:1: its first line/],
    ['\ufeff#cloud-config\n', /byte order mark/],
    ['', /is empty/],
    ['#cloud-config\nusers:\n  - name: a\n   shell: b\n', /^cloud-init\/user-data:4:\d+: /],
    ['#cloud-config\n\thostname: x\n', /^cloud-init\/user-data:2:\d+: /],
    ['#cloud-config\nhostname: a\nhostname: b\n', /^cloud-init\/user-data:3:1: Map keys must be unique/],
    ['#cloud-config\n- hostname\n', /must be a mapping/],
    ['#cloud-config\na: 1\n---\nb: 2\n', /user-data:3:\d: /],
    ['#cloud-config-archive\na: b\n', /must be a list/],
    ['#!/bin/sh\r\necho hello\r\n', /Windows line ends/],
  ])('that it would ignore or choke on is an error: %j', (text, message) => {
    expect(complaint('VLB_CLOUD_INIT', () => user(text))).toMatch(message)
  })

  test('that is not there is as good as empty', () => {
    expect(
      composeSeed([file('meta-data', 'instance-id: a\n')])
        .files.get('user-data')
        ?.toString(),
    ).toMatch(/^#cloud-config\n/)
  })
})

describe('the instance id', () => {
  test('is made from the content: stable, and another with any other file', () => {
    const first = user('#cloud-config\nhostname: a\n')
    expect(first.instanceId).toMatch(/^iid-[0-9a-f]{16}$/)
    expect(first.files.get('meta-data')?.toString()).toBe(`instance-id: ${first.instanceId}\n`)
    expect(user('#cloud-config\nhostname: a\n')).toEqual(first)
    expect(user('#cloud-config\nhostname: b\n').instanceId).not.toBe(first.instanceId)
    const network = [file('user-data', '#cloud-config\nhostname: a\n'), file('network-config', 'version: 2\n')]
    expect(composeSeed(network).instanceId).not.toBe(first.instanceId)
  })

  test('of meta-data stays, and where it lacks one the rest stays', () => {
    const given = composeSeed([file('meta-data', '# mine\ninstance-id: web-1\n')])
    expect(given.instanceId).toBe('web-1')
    expect(given.files.get('meta-data')?.toString()).toBe('# mine\ninstance-id: web-1\n')
    const lacking = composeSeed([file('meta-data', '# mine\nlocal-hostname: web1\n')])
    expect(lacking.files.get('meta-data')?.toString()).toBe(
      `# mine\nlocal-hostname: web1\ninstance-id: ${lacking.instanceId}\n`,
    )
    const json = composeSeed([file('meta-data', '{"local-hostname": "web1"}')])
    expect(json.files.get('meta-data')?.toString()).toContain(json.instanceId)
    expect(complaint('VLB_CLOUD_INIT', () => composeSeed([file('meta-data', 'web1')]))).toMatch(
      /meta-data must be a mapping/,
    )
    // The parser drops one mark and takes a second one for a part of the key: written and read again, both keys were one.
    expect(complaint('VLB_CLOUD_INIT', () => composeSeed([file('meta-data', '\ufeff\ufeffinstance-id: x')]))).toMatch(
      /meta-data:1:1: starts with a byte order mark/,
    )
    expect(complaint('VLB_CLOUD_INIT', () => composeSeed([file('meta-data', '&a\ufeff  config: disabled')]))).toMatch(
      /meta-data: no instance-id can be added to it: Anchor .*\nhint: write it there: instance-id: iid-/,
    )
  })
})

test.each([
  ['version: 2\nethernets: {}\n', undefined],
  ['network:\n  version: 2\n', undefined],
  ['version: 1\nconfig: []\n', undefined],
  ['config: disabled\n', undefined],
  ['network: { config: disabled }\n', undefined],
  ['ethernets: {}\n', /has no version/],
  ['version: 3\n', /has version 3/],
  ['version: 1\nethernets: {}\n', /no list "config"/],
  ['version: 2: 3\n', /network-config:1:\d+: /],
  ['version: 2\n<<: a\n', /Merge sources must be maps/],
])('network-config %j', (text, message) => {
  const make = () => composeSeed([file('network-config', text)])
  if (message) expect(complaint('VLB_CLOUD_INIT', make)).toMatch(message)
  else expect(make().files.get('network-config')?.toString()).toBe(text)
})
