// Bases that were made to do harm: qcow2 files with absurd headers, other files, encryption or snapshots in them; packed ones
// and servers without end; YAML that grows. Each is refused soon, in little memory, and leaves nothing.
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, inject } from 'vitest'
import { refused } from '../rig/refused.ts'
import { type Rig, Running, rigTest } from '../rig/rig.ts'

function projectOn(rig: Rig, file: string, config = '', more = ''): void {
  rig.write({
    'vlb.yaml': `version: 1\nbase: { path: ${file}${more} }\n${config}`,
    '.gitignore': '/build/\n/base*\n',
    '10_a/build-layer': '#!/bin/sh\necho built > /a\n',
  })
  rig.commit()
}

function keepsNone(rig: Rig): void {
  for (const folder of ['bases', 'tmp']) expect(readdirSync(rig.store(folder)), folder).toEqual([])
}

const makeQcow2 = (rig: Rig, ...options: string[]) =>
  rig.tool('qemu-img', 'convert', '-O', 'qcow2', ...options, inject('tinyDisk'), rig.path('base.qcow2'))

/** Writes a number into the header, most significant byte first, as the format has it (qemu, docs/interop/qcow2.txt). */
function patch(rig: Rig, at: number, bytes: 4 | 8, value: bigint): void {
  const buffer = Buffer.alloc(bytes)
  if (bytes === 4) buffer.writeUInt32BE(Number(value))
  else buffer.writeBigUInt64BE(value)
  const file = openSync(rig.path('base.qcow2'), 'r+')
  writeSync(file, buffer, 0, bytes, at)
  closeSync(file)
}

const max32 = 0xffff_ffffn
const max64 = 0xffff_ffff_ffff_ffffn

describe('a qcow2 with an absurd header', () => {
  const cases: Record<string, [at: number, bytes: 4 | 8, value: bigint][]> = {
    'version 0': [[4, 4, 0n]],
    'version 2^32 - 1': [[4, 4, max32]],
    'a backing file beyond its end': [[8, 8, max64]],
    'a backing file with an endless name': [
      [8, 8, 512n],
      [16, 4, max32],
    ],
    'clusters of 1 byte': [[20, 4, 0n]],
    'clusters of 2^63 bytes': [[20, 4, 63n]],
    'clusters of 2 GiB': [[20, 4, 31n]],
    'a size of 2^64 - 1': [[24, 8, max64]],
    'a size of 8 EiB': [[24, 8, 2n ** 63n]],
    'a size that its first table does not reach': [[24, 8, 2n ** 45n]],
    'an unknown encryption': [[32, 4, 7n]],
    'a first table of 2^32 entries': [[36, 4, max32]],
    'a first table of no entries': [[36, 4, 0n]],
    'a first table beyond its end': [[40, 8, 2n ** 62n]],
    'a first table in its header': [[40, 8, 8n]],
    'counts of references beyond its end': [[48, 8, 2n ** 62n]],
    'counts of references without end': [[56, 4, max32]],
    'snapshots without number': [[60, 4, max32]],
    'snapshots beyond its end': [
      [60, 4, 1n],
      [64, 8, 2n ** 62n],
    ],
    'a feature that nobody knows': [[72, 8, 1n << 40n]],
    'references of 2^64 bits': [[96, 4, 64n]],
    'a header of 4 GiB': [[100, 4, max32]],
    'a header of no length': [[100, 4, 0n]],
  }
  for (const [what, patches] of Object.entries(cases)) {
    rigTest(`${what}: refused`, async (rig) => {
      projectOn(rig, 'base.qcow2')
      makeQcow2(rig)
      for (const [at, bytes, value] of patches) patch(rig, at, bytes, value)
      const started = Date.now()
      const ran = await refused(rig, ['build'], { says: 'base.qcow2', hint: '' })
      expect(ran.stderr).toMatch(/damaged|claims a size|backing file|encrypted|version/)
      expect(Date.now() - started).toBeLessThan(60_000)
      keepsNone(rig)
    })
  }
})

describe('a qcow2 with more in it', () => {
  rigTest('encrypted with LUKS: refused', async (rig) => {
    projectOn(rig, 'base.qcow2')
    makeQcow2(rig)
    // crypt_method 2. qemu-img itself makes one only where it can measure its use of the processor.
    patch(rig, 32, 4, 2n)
    await refused(rig, ['build'], { says: 'base.qcow2 is encrypted', hint: 'qemu-img convert' })
    keepsNone(rig)
  })

  rigTest('snapshots of its own: the disk is as it is now, and they are not in the image', async (rig) => {
    projectOn(rig, 'base.qcow2')
    makeQcow2(rig)
    rig.tool('qemu-img', 'snapshot', '-c', 'before', rig.path('base.qcow2'))
    expect(await rig.build()).toEqual(['10_a built'])
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('built\n')
    expect(rig.tool('qemu-img', 'snapshot', '-l', rig.path('build/image.qcow2'))).toBe('')
  })

  rigTest('a raw disk that begins like a qcow2 with a backing file: refused', async (rig) => {
    projectOn(rig, 'base.raw')
    rig.tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/shadow', rig.path('base.raw'))
    truncateSync(rig.path('base.raw'), 50 * 2 ** 20)
    await refused(rig, ['build'], { says: 'names a backing file', hint: 'flatten' })
    keepsNone(rig)
  })

  rigTest('a name as for a program of qemu: it is a name', async (rig) => {
    for (const name of [
      'json:{"driver":"file","filename":"/etc/shadow"}',
      'nbd:localhost:1',
      '/dev/fd/0',
      'fat:/etc',
    ]) {
      projectOn(rig, `'${name}'`)
      const ran = await rig.vlb(['build'])
      expect(ran.code, ran.all).toBe(2)
      expect(ran.stderr).toMatch(/is not there|not a regular file/)
    }
  })
})

describe('what is packed', () => {
  for (const [tool, ending] of [
    ['gzip', 'gz'],
    ['xz', 'xz'],
    ['zstd', 'zst'],
  ] as const) {
    rigTest(`a small ${ending} that unpacks to more than disk.size: stopped there`, async (rig) => {
      projectOn(rig, `base.raw.${ending}`, 'disk: { size: 64M }\n')
      rig.tool('sh', '-c', `head -c 1000000000 /dev/zero | ${tool} -1 -c >"$1"`, 'sh', rig.path(`base.raw.${ending}`))
      const ran = await refused(rig, ['build'], {
        says: `base.raw.${ending} unpacks to more than the 64.0 MiB of disk.size`,
        hint: 'raise disk.size',
      })
      expect(ran.stderr).not.toContain('1000000000')
      keepsNone(rig)
    })
  }
})

describe('a server', () => {
  /** Serves what it likes, and tells how many bytes it got rid of. */
  async function served(
    rig: Rig,
    head: Record<string, string | number>,
    body: (url: string) => Promise<void>,
  ): Promise<void> {
    const piece = Buffer.alloc(2 ** 20, 'x')
    const server = createServer((_request, response) => {
      response.writeHead(200, head)
      const more = () => {
        while (!response.destroyed && response.write(piece));
      }
      response.on('drain', more)
      more()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/base.raw`
      rig.write({
        'vlb.yaml': `version: 1\nbase: { url: "${url}", sha256: ${'ab'.repeat(32)} }\n`,
        '10_a/build-layer': '#!/bin/sh\n',
      })
      await body(url)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  }

  rigTest('that sends without end: stopped before the disk is full, and nothing of it stays', async (rig) => {
    await served(rig, {}, async (url) => {
      // A store on a disk of its own, small enough to be filled.
      const store = rig.path('..', 'store')
      const script = `mkdir "$1" && mount -t tmpfs -o size=64M none "$1" && git config vlb.store "$1" && { ${rig.command} build 2>&1
echo "status $?"; find "$1/downloads" -type f -size +0; df --output=used -k "$1" | tail -n 1; }`
      const args = ['--mount', 'sh', '-c', script, 'sh', store]
      const ran = (await new Running('unshare', args, { cwd: rig.repo, env: rig.env }).ended).stdout
      expect(ran).toContain(`${url}: the server does not say how much it sends`)
      const [status, ...left] = ran.slice(ran.indexOf('status ')).trim().split('\n')
      expect(status).toBe('status 2')
      expect(left).toHaveLength(1)
      expect(Number(left[0])).toBeLessThan(1024)
    })
  })

  rigTest('that announces more than there is room for: not even begun', async (rig) => {
    await served(rig, { 'content-length': 10 ** 17 }, async () => {
      const ran = await rig.vlb(['build'])
      expect(ran.code, ran.all).toBe(3)
      expect(ran.stderr).toMatch(/no space left on the host to write .*: about .* needed/)
      const parts = readdirSync(rig.store('downloads')).map((name) => statSync(rig.store('downloads', name)).size)
      expect(parts.reduce((sum, bytes) => sum + bytes, 0)).toBe(0)
    })
  })
})

describe('YAML that grows', () => {
  const bomb = (top: string) =>
    [
      `a0: &a0 [${'x, '.repeat(9)}x]`,
      ...Array.from({ length: 9 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}*a${i}]`),
      top,
    ].join('\n')

  rigTest('in vlb.yaml: refused', async (rig) => {
    projectOn(rig, 'base.raw')
    rig.write({ 'vlb.yaml': `version: 1\n${bomb('name: *a9')}\n` })
    await refused(rig, ['build'], { says: ['vlb.yaml', 'alias'], hint: 'man git-vlb' })
    await refused(rig, ['status'], { says: ['vlb.yaml', 'alias'], hint: 'man git-vlb' })
  })

  rigTest("in cloud-init's files: refused", async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.write({ 'cloud-init/user-data': `#cloud-config\n${bomb('runcmd: *a9')}\n` })
    rig.commit()
    await refused(rig, ['cloud-init'], { says: ['user-data', 'alias'], hint: 'anchors' })
  })

  rigTest('vlb.yaml of 100 MB: refused, not read', async (rig) => {
    projectOn(rig, 'base.raw')
    writeFileSync(rig.path('vlb.yaml'), `version: 1\n${'# nothing at all\n'.repeat(6_000_000)}`)
    await refused(rig, ['build'], { says: 'vlb.yaml', hint: '' })
    rig.commit()
    await refused(rig, ['build', 'HEAD'], { says: 'vlb.yaml', hint: '' })
    expect(readFileSync(rig.path('vlb.yaml')).length).toBeGreaterThan(10 ** 8)
  })
})
