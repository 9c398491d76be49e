// A full disk, wherever and whenever: status 3, or 1 for the image's own; path, need and free space named; nothing
// half-written; and with space again, the next build is right.
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { expect } from 'vitest'
import { contents } from '../rig/contents.ts'
import { type Ran, type Rig, rigTest } from '../rig/rig.ts'
import { withSmallDisk } from '../rig/small-disk.ts'

/** As data that nothing compresses. */
const random = (mebibytes: number): string => `head -c ${mebibytes * 2 ** 20} /dev/urandom`

const plain = 'seal: false\n'

function isFull(ran: Ran, path: string, more: RegExp = /./): void {
  expect(ran.code, ran.all).toBe(3)
  expect(ran.stderr).toMatch(/error: no space left on the host to write /)
  expect(ran.stderr).toContain(path)
  expect(ran.stderr).toMatch(/\d+(\.\d)? ([KMG]i)?B free\nhint: see: df -h /)
  expect(ran.stderr).toMatch(more)
  expect(ran.stderr).not.toContain('bug in git vlb')
}

/** Nothing of it is there, and what is there is whole. */
async function soundAfter(rig: Rig, right: string): Promise<void> {
  const left = (await rig.leaks()).filter((line) => !line.startsWith('mount: ') || !line.includes(' tmpfs vlb-test '))
  expect(left).toEqual([])
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).not.toMatch(/damaged/)
  expect(contents(rig, rig.path('build/image.qcow2')) === right).toBe(true)
}

rigTest(
  'the store, with room for ever more of a first build: refused, or failed, and right when there is enough',
  async (rig) => {
    // Sources of 2 MiB, an overlay that grows by 4 MiB while the script runs, a base of some MiB.
    rig.project({ '10_a': 'cat data data > /a', '20_b': 'md5sum /a > /b' }, plain)
    writeFileSync(rig.path('10_a/data'), Buffer.alloc(2 ** 21, createHash('sha512').update('x').digest()))
    rig.commit()
    await rig.build()
    const right = contents(rig, rig.path('build/image.qcow2'))
    const ends: (number | null)[] = []
    for (const size of ['16k', '64k', '1m', '3m', '5m', '6m', '8m', '10m', '12m', '32m']) {
      rig.forget()
      await withSmallDisk(rig, rig.store(), `size=${size}`, async (disk) => {
        const ran = await rig.vlb(['build'])
        ends.push(ran.code)
        if (ran.code !== 0) isFull(ran, rig.store())
        disk.resize('size=64m')
        await soundAfter(rig, right)
        expect(await rig.build(), size).toEqual(['10_a cached', '20_b cached'])
      })
    }
    expect(ends.at(0)).toBe(3)
    expect(ends.at(-1)).toBe(0)
    expect(ends.filter((code) => code === 3).length).toBeGreaterThan(5)
  },
  undefined,
  300_000,
)

rigTest('the store, without inodes', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, plain)
  rig.commit()
  await rig.build()
  const right = contents(rig, rig.path('build/image.qcow2'))
  const ends: (number | null)[] = []
  for (const inodes of [3, 12, 24, 36]) {
    rig.forget()
    await withSmallDisk(rig, rig.store(), `size=64m,nr_inodes=${inodes}`, async (disk) => {
      const ran = await rig.vlb(['build'])
      ends.push(ran.code)
      expect([0, 3], `${inodes}\n${ran.all}`).toContain(ran.code)
      expect(ran.stderr).not.toContain('bug in git vlb')
      disk.resize('nr_inodes=1000')
      await soundAfter(rig, right)
    })
  }
  expect(ends.slice(0, 2)).toEqual([3, 3])
})

const scripts: Record<string, string> = {
  // It is in memory, so the script ends well.
  'does not notice': `${random(20)} > /big; echo ended well`,
  'looks, and fails': `${random(20)} > /big && sync && md5sum /big || exit 7`,
  'goes on writing for long': `for i in 1 2 3 4; do ${random(8)} > /big$i; sync; done; sleep 60`,
}

for (const [name, script] of Object.entries(scripts)) {
  rigTest(`the store, while a script writes that ${name}: the host is told, not the script`, async (rig) => {
    rig.project({ '10_a': 'echo a > /a', '20_b': script }, plain)
    rig.commit()
    await withSmallDisk(rig, rig.store(), 'size=16m', async (disk) => {
      const ran = await rig.vlb(['build'])
      isFull(ran, rig.store())
      expect(ran.stdout).toMatch(/10_a +built[\s\S]*20_b +failed/)
      // What was written of the overlay is given back.
      expect(disk.free()).toBeGreaterThan(8 * 2 ** 20)
      expect((await rig.json('build')).error.code).toBe('VLB_HOST_SPACE')
      disk.resize('size=128m')
      rig.layer('20_b', script.replaceAll(/\d+ \/dev/g, '1000000 /dev').replace('sleep 60', 'true'))
      expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
      rig.tool('qemu-img', 'check', '-q', rig.path('build/image.qcow2'))
    })
  })
}

rigTest('the store, while a modify-disk script or a build-base script writes', async (rig) => {
  const script = `#!/bin/sh\nmkdir m; mount "$VLB_PARTITION_1" m\n${random(20)} > m/big\numount m\n`
  rig.project({ '10_a': 'echo a > /a', '20_disk': { 'modify-disk': script } }, plain)
  rig.commit()
  await withSmallDisk(rig, rig.store(), 'size=16m', async () => isFull(await rig.vlb(['build']), rig.store()))
  rig.forget()
  rig.layer('00_base', { 'build-base': `#!/bin/sh\n${random(30)} > "$1"\n` })
  rig.write({ 'vlb.yaml': 'version: 1\nseal: false\n' })
  await withSmallDisk(rig, rig.store(), 'size=16m', async () =>
    isFull(await rig.vlb(['build', '--last', '00_base']), rig.store()),
  )
})

rigTest("the image's own disk: status 1, with a hint; not so where something else is", async (rig) => {
  rig.project({ '10_a': `${random(80)} > /big` }, plain)
  rig.commit()
  const ran = await rig.vlb(['build'])
  const hint = expect.stringMatching(/disk is full: raise disk\.size in vlb\.yaml \(it has 50/)
  expect([ran.code, ran.stderr]).toEqual([1, hint])
  // Told by how full it is, whatever the script says of it.
  rig.layer('10_a', `${random(80)} > /big 2>/dev/null; exit 1`)
  expect((await rig.vlb(['build'])).stderr).toContain("the image's disk is full")
  rig.layer('10_a', 'echo "x: No space left on device"; exit 1')
  const other = await rig.vlb(['build'])
  expect([other.code, other.stderr]).toEqual([1, expect.not.stringContaining("the image's disk is full")])
  expect(readdirSync(rig.store('snapshots'))).toEqual([])
})

rigTest('where the image goes: refused before it is begun, with what it takes and what is free', async (rig) => {
  rig.project({ '10_a': `${random(12)} > /big` }, plain)
  rig.commit()
  await rig.build()
  const out = join(rig.folder, 'out')
  const image = join(out, 'image.qcow2')
  await withSmallDisk(rig, out, 'size=8m', async (disk) => {
    writeFileSync(image, 'an older image')
    const begun = await rig.vlb(['build', '-o', image])
    isFull(begun, image, /about 1\d(\.\d)? MiB needed, 8\.0 MiB free/)
    expect(begun.stderr).not.toContain('writing image')
    // Several at once take more than each of them.
    disk.resize('size=20m')
    const both = await rig.vlb(['build', '-o', join(out, 'image.raw'), '--format', 'raw', '--format', 'vdi'])
    isFull(both, out, /about 3\d(\.\d)? MiB needed/)
    // How much it is when compressed is only known in the end.
    disk.resize('size=8m')
    isFull(await rig.vlb(['build', '-o', image, '--compress', 'zstd']), image)
    expect([readdirSync(out), readFileSync(image, 'utf8')]).toEqual([['image.qcow2'], 'an older image'])
    disk.resize('size=40m')
    expect((await rig.vlb(['build', '-o', image])).code).toBe(0)
    expect(contents(rig, image)).toContain(' ./big ')
  })
})

rigTest('where the image goes, written while the last layer is built: the layer is kept', async (rig) => {
  rig.project({ '10_a': `${random(4)} > /a`, '20_b': 'echo b > /b' }, plain)
  rig.commit()
  await rig.build()
  rig.layer('20_b', `${random(6)} > /b`)
  const out = join(rig.folder, 'out')
  const image = join(out, 'image.qcow2')
  await withSmallDisk(rig, out, 'size=9m', async () => {
    isFull(await rig.vlb(['build', '-o', image]), image)
    expect(readdirSync(out)).toEqual([])
  })
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
})

rigTest('a rollup: refused before it is begun, and nothing of the repository is changed', async (rig) => {
  rig.project({ '10_a': `${random(6)} > /a`, '20_b': `${random(6)} > /b`, '30_c': 'echo c > /c' }, plain)
  rig.commit()
  await withSmallDisk(rig, rig.store(), 'size=64m', async (disk) => {
    await rig.build()
    // Room for less than what both wrote together.
    disk.resize(`size=${64 * 2 ** 20 - disk.free() + 6 * 2 ** 20}`)
    const state = () => [
      rig.git('rev-parse', 'HEAD'),
      rig.git('status', '--porcelain'),
      readdirSync(rig.store('snapshots')),
    ]
    const before = state()
    isFull(await rig.vlb(['rollup', '10..20', '--name', 'both']), rig.store(), /about 1\d(\.\d)? MiB needed/)
    expect(state()).toEqual(before)
    disk.resize('size=64m')
    expect((await rig.vlb(['rollup', '10..20', '--name', 'both'])).code).toBe(0)
  })
})

/** Serves bytes, with or without saying how many there are. */
async function serve(bytes: Buffer, sized: boolean): Promise<string> {
  const server = createServer((_request, response) => {
    response.writeHead(200, sized ? { 'content-length': bytes.length } : {})
    response.end(bytes)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  server.unref()
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/base`
}

rigTest('a base: downloaded, or unpacked', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, plain)
  const raw = readFileSync(rig.path('tiny.raw'))
  const packed = gzipSync(raw)
  const cases: [served: Buffer, sized: boolean, size: string, more: RegExp | undefined][] = [
    // Refused when the server says how much it is. Else it may send for ever, and is stopped before the disk is full.
    [raw, true, '10m', /about 50\.0 MiB needed/],
    [raw, false, '10m', undefined],
    // Room for the packed one, and not for what is in it.
    [packed, true, `${Math.ceil((packed.length + 2 ** 19) / 1024)}k`, /./],
  ]
  for (const [bytes, sized, size, more] of cases) {
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    rig.write({ 'vlb.yaml': `version: 1\nbase: { url: "${await serve(bytes, sized)}", sha256: ${sha256} }\n${plain}` })
    await withSmallDisk(rig, rig.store(), `size=${size}`, async (disk) => {
      const ran = await rig.vlb(['build'])
      if (more) isFull(ran, rig.store(), more)
      else expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('nearly all that is free')])
      expect(ran.stderr).not.toContain('trying again')
      expect(readdirSync(rig.store('bases'))).toEqual([])
      disk.resize('size=200m')
      expect(await rig.build()).toEqual(['10_a built'])
    })
    rig.forget()
  }
})

rigTest("git's objects, for the record of a build: a warning, and the build is done", async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, plain)
  rig.commit()
  mkdirSync(rig.path('.git/objects/pack'), { recursive: true })
  await withSmallDisk(rig, rig.path('.git/objects/pack'), 'size=4k', async (disk) => {
    writeFileSync(join(disk.path, 'full'), Buffer.alloc(4096))
    const ran = await rig.vlb(['build'])
    expect([ran.code, ran.stderr]).toEqual([0, expect.stringContaining('no record of this build could be kept')])
  })
})

rigTest('TMPDIR: nothing of ours is written there', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, plain)
  rig.commit()
  await withSmallDisk(rig, join(rig.folder, 'full'), 'size=4k', async (disk) => {
    writeFileSync(join(disk.path, 'full'), Buffer.alloc(4096))
    const ran = await rig.vlb(['build'], { env: { TMPDIR: disk.path } })
    expect(ran.code, ran.all).toBe(0)
    expect(readdirSync(disk.path)).toEqual(['full'])
  })
})

rigTest('a quota that is used up is told as such', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, plain)
  rig.commit()
  const folder = join(rig.folder, 'shims')
  mkdirSync(folder)
  const real = rig.tool('sh', '-c', 'command -v qemu-img').trim()
  const said = 'qemu-img: error while writing at byte 0: Disk quota exceeded'
  const shim = `#!/bin/sh\ncase "$*" in *convert*) echo "${said}" >&2; exit 1 ;; esac\nexec ${real} "$@"\n`
  writeFileSync(join(folder, 'qemu-img'), shim)
  chmodSync(join(folder, 'qemu-img'), 0o755)
  const ran = await rig.vlb(['build'], { env: { PATH: `${folder}:${process.env['PATH']}` } })
  expect([ran.code, ran.stderr]).toEqual([3, expect.stringContaining("this user's quota is used up")])
  expect(existsSync(rig.path('build/image.qcow2'))).toBe(false)
  await rig.build()
  expect(statSync(rig.path('build/image.qcow2')).size).toBeGreaterThan(2 ** 20)
})
