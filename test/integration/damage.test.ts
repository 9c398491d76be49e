// Damage in what the store holds: found on use, dropped with all that stands on it, said in one line, built again. Never an
// abort, never a wrong image.
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { contents } from '../rig/contents.ts'
import { type Ran, type Rig, rigTest } from '../rig/rig.ts'

/** Turns all bits of a byte. */
function flip(path: string, at: number): void {
  chmodSync(path, 0o644)
  const file = openSync(path, 'r+')
  const byte = Buffer.alloc(1)
  readSync(file, byte, 0, 1, at)
  writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 0xff]), 0, 1, at)
}

const eight = (path: string, at: number): number => Number(readFileSync(path).readBigUInt64BE(at) & 0x00fffffffffffe00n)
/** Where a qcow2 has its tables (qemu's docs/interop/qcow2.txt). */
const firstTable = (path: string): number => eight(path, 40)
const secondTable = (path: string): number => eight(path, firstTable(path))
const dataCluster = (path: string): number => {
  const bytes = readFileSync(path)
  // Entries of 16 bytes: with subclusters.
  for (let at = secondTable(path); ; at += 16) {
    const data = Number(bytes.readBigUInt64BE(at) & 0x00fffffffffffe00n)
    if (data !== 0) return data
  }
}

interface Site {
  /** Folders of the snapshots of 10_a and 20_b. */
  lower: string
  upper: string
  /** A copy of the snapshot of another 20_b, on the same parent. */
  sibling: string
  right: string
}

async function site(rig: Rig): Promise<Site> {
  rig.project({ '10_a': 'seq 400 > /a', '20_b': 'cat /a > /b; echo right > /c' }, 'seal: false\n')
  rig.commit()
  const { layers } = await rig.json('build')
  const right = contents(rig, rig.path('build/image.qcow2'))
  rig.git('checkout', '-qb', 'other')
  rig.layer('20_b', 'cat /a > /b; echo wrong > /c')
  rig.commit()
  const other = await rig.json('build')
  rig.git('checkout', '-q', 'main')
  await rig.build()
  const folder = (layer: { key: string }) => rig.store('snapshots', layer.key)
  const sibling = join(rig.folder, 'sibling', other.layers[1].key)
  mkdirSync(join(rig.folder, 'sibling'))
  rig.tool('cp', '-a', folder(other.layers[1]), sibling)
  return { lower: folder(layers[0]), upper: folder(layers[1]), sibling, right }
}

const warnings = (ran: Ran): string[] => ran.stderr.split('\n').filter((line) => line.startsWith('warning:'))

/** Builds the image anew, which reads the chain: right, with one word of the damage, and all in the store again. */
async function mended(rig: Rig, { right }: Site, said: string, args: string[] = []): Promise<Ran> {
  rmSync(rig.path('build'), { recursive: true, force: true })
  const ran = await rig.vlb(['build', ...args])
  expect(ran.code, `${said}\n${ran.all}`).toBe(0)
  expect(warnings(ran), said).toEqual([expect.stringContaining(said)])
  expect(contents(rig, rig.path('build/image.qcow2')) === right, said).toBe(true)
  const next = await rig.vlb(['build'])
  expect([next.code, warnings(next)], next.all).toEqual([0, []])
  expect(next.stdout).toMatch(/0 built, 2 from the store/)
  return ran
}

const overlay = 'layer.qcow2'

const damages: Record<string, [said: string, damage: (rig: Rig, folder: string, site: Site) => void]> = {
  'the first byte': ['the header of its overlay is damaged', (_, folder) => flip(join(folder, overlay), 0)],
  'the size of the disk': ['its overlay is a disk of', (_, folder) => flip(join(folder, overlay), 27)],
  'a feature that does not exist': [
    'the header of its overlay is damaged',
    (_, folder) => flip(join(folder, overlay), 73),
  ],
  'the place of its first table': [
    'the tables of its overlay are damaged',
    (_, folder) => flip(join(folder, overlay), 45),
  ],
  'an entry of its first table': [
    'the tables of its overlay are damaged',
    (_, folder) => flip(join(folder, overlay), firstTable(join(folder, overlay)) + 5),
  ],
  'an entry of its second table': [
    'the tables of its overlay are damaged',
    (_, folder) => flip(join(folder, overlay), secondTable(join(folder, overlay)) + 5),
  ],
  'a bitmap of subclusters': [
    'the tables of its overlay are damaged',
    (_, folder) => flip(join(folder, overlay), secondTable(join(folder, overlay)) + 15),
  ],
  'another file that backs it': [
    'its overlay names another file that backs it',
    (rig, folder) => {
      chmodSync(join(folder, overlay), 0o644)
      rig.tool(
        'qemu-img',
        'rebase',
        '-u',
        '-f',
        'qcow2',
        '-F',
        'raw',
        '-b',
        '../bases/other.raw',
        join(folder, overlay),
      )
    },
  ],
  'no file that backs it': [
    'its overlay names another file that backs it',
    (rig, folder) => {
      chmodSync(join(folder, overlay), 0o644)
      rig.tool('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', '', join(folder, overlay))
    },
  ],
  'a byte of its manifest': [
    'its manifest is unreadable',
    (_, folder) =>
      flip(join(folder, 'manifest.json'), readFileSync(join(folder, 'manifest.json'), 'utf8').indexOf('"nonce"') + 12),
  ],
  'a number in its manifest': [
    'its manifest is unreadable',
    (_, folder) => {
      const file = join(folder, 'manifest.json')
      writeFileSync(file, readFileSync(file, 'utf8').replace(/"start": \d+/, '"start": 512'))
    },
  ],
  'a manifest that lists nothing': [
    'its manifest is unreadable',
    (_, folder) => writeFileSync(join(folder, 'manifest.json'), '[]'),
  ],
  'the manifest of another': [
    'its manifest is unreadable',
    (_, folder, { sibling }) => copyFileSync(join(sibling, 'manifest.json'), join(folder, 'manifest.json')),
  ],
}

for (const where of ['lower', 'upper'] as const) {
  rigTest(`${where} layer, each kind of damage: one line, dropped with what stands on it, built again`, async (rig) => {
    const all = await site(rig)
    for (const [name, [said, damage]] of Object.entries(damages)) {
      damage(rig, all[where], all)
      const ran = await mended(rig, all, said)
      expect(ran.stdout, name).toMatch(
        where === 'lower' ? /10_a +built[\s\S]*20_b +built/ : /10_a +cached[\s\S]*20_b +built/,
      )
      if (where === 'lower') expect(ran.stderr, name).toMatch(/dropped with \d that stood on it/)
    }
  })
}

rigTest('an overlay, or a whole snapshot, in the place of another: found, although both are sound', async (rig) => {
  const all = await site(rig)
  copyFileSync(join(all.sibling, overlay), `${join(all.upper, overlay)}.new`)
  renameSync(`${join(all.upper, overlay)}.new`, join(all.upper, overlay))
  await mended(rig, all, "its overlay is another snapshot's")
  rmSync(all.upper, { recursive: true })
  rig.tool('cp', '-a', all.sibling, all.upper)
  await mended(rig, all, 'its manifest is unreadable')
})

rigTest('names that lead astray: of a key to another snapshot, of a snapshot to another disk', async (rig) => {
  const all = await site(rig)
  const [key, other] = [all.upper.slice(-64), all.sibling.slice(-64)]
  writeFileSync(rig.store('keys', key), `${other}\n`)
  rmSync(rig.store('chain', `${key}.qcow2`))
  symlinkSync(`../snapshots/${other}/${overlay}`, rig.store('chain', `${key}.qcow2`))
  rmSync(rig.path('build'), { recursive: true })
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  expect(contents(rig, rig.path('build/image.qcow2')) === all.right).toBe(true)
  expect(readdirSync(rig.store('keys'))).toEqual([])
})

rigTest(
  'status and a build that reads nothing find what the header shows; diff and shell look into tables',
  async (rig) => {
    const all = await site(rig)
    flip(join(all.lower, overlay), 0)
    const looked = await rig.vlb(['status'])
    expect([looked.code, warnings(looked)]).toEqual([0, [expect.stringContaining('is damaged: the header')]])
    expect(looked.stdout).toMatch(/10_a +missing/)
    await rig.build()
    for (const args of [
      ['diff', '10_a', '20_b'],
      ['test-boot', '--no-flatten', '--timeout', '1s', '--accel', 'tcg'],
    ]) {
      flip(join(all.lower, overlay), secondTable(join(all.lower, overlay)) + 5)
      const ran = await rig.vlb(args)
      expect(warnings(ran), ran.all).toEqual([expect.stringContaining('the tables of its overlay are damaged')])
      expect(await rig.build(), args[0]).toEqual(['10_a cached', '20_b cached'])
    }
  },
)

/** A folder for PATH whose qemu-img fails on `words`, each time. */
function failing(rig: Rig, words: string, said: string): Record<string, string> {
  const folder = join(rig.folder, 'failing')
  mkdirSync(folder, { recursive: true })
  const real = rig.tool('sh', '-c', 'command -v qemu-img').trim()
  const text = `#!/bin/sh\ncase "$*" in *"${words}"*)\n  if [ -e '${folder}/fail' ]; then rm '${folder}/fail'; echo "${said}" >&2; exit 1; fi ;;\nesac\nexec ${real} "$@"\n`
  writeFileSync(join(folder, 'qemu-img'), text)
  writeFileSync(join(folder, 'fail'), '')
  chmodSync(join(folder, 'qemu-img'), 0o755)
  return { PATH: `${folder}:${process.env['PATH']}` }
}

const unreadable = 'qemu-img: error while reading at byte 0: Input/output error'

rigTest('a flipped byte of the data: no quick look finds it, a failure on it does', async (rig) => {
  const all = await site(rig)
  const damage = () => flip(join(all.lower, overlay), dataCluster(join(all.lower, overlay)) + 1100)
  // While the image is written.
  damage()
  rmSync(rig.path('build'), { recursive: true })
  let ran = await rig.vlb(['build'], { env: failing(rig, 'convert', unreadable) })
  expect(ran.code, ran.all).toBe(0)
  expect(warnings(ran)).toEqual([expect.stringContaining('its overlay is damaged; dropped with 2')])
  expect(ran.stdout).toMatch(/10_a +built[\s\S]*20_b +built/)
  expect(contents(rig, rig.path('build/image.qcow2')) === all.right).toBe(true)
  // While a layer is built on it: its file system cannot be mounted.
  damage()
  rmSync(all.upper, { recursive: true })
  ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(0)
  expect(warnings(ran)).toEqual([expect.stringContaining('its overlay is damaged; dropped')])
  expect(contents(rig, rig.path('build/image.qcow2')) === all.right).toBe(true)
})

rigTest('a failure with nothing damaged below is told, and nothing dropped', async (rig) => {
  await site(rig)
  rmSync(rig.path('build'), { recursive: true })
  const ran = await rig.vlb(['build'], { env: failing(rig, 'convert', unreadable) })
  expect([ran.code, warnings(ran)], ran.all).toEqual([3, []])
  expect(ran.stderr).toMatch(/error: .*Input\/output error\nhint: /)
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
})

rigTest('the disk gives back other bytes again and again: the build ends, and says so', async (rig) => {
  const all = await site(rig)
  const folder = join(rig.folder, 'rotten')
  mkdirSync(folder)
  const real = rig.tool('sh', '-c', 'command -v qemu-img').trim()
  // Whenever an image is begun, the overlay of 10_a is damaged, though built a moment ago.
  const rot = `printf x | dd of=${join(all.lower, overlay)} bs=1 seek=${dataCluster(join(all.lower, overlay)) + 1100} conv=notrunc status=none`
  writeFileSync(
    join(folder, 'qemu-img'),
    `#!/bin/sh\ncase "$*" in *convert*) chmod u+w ${join(all.lower, overlay)}; ${rot}; echo "${unreadable}" >&2; exit 1 ;; esac\nexec ${real} "$@"\n`,
  )
  chmodSync(join(folder, 'qemu-img'), 0o755)
  rmSync(rig.path('build'), { recursive: true })
  const ran = await rig.vlb(['build'], { env: { PATH: `${folder}:${process.env['PATH']}` } })
  expect(ran.code, ran.all).toBe(4)
  expect(ran.stderr).toMatch(/was damaged again as soon as it was built[\s\S]*hint: does the disk under/)
})

const rawDamages: Record<string, (folder: string) => void> = {
  'its partition table': (folder) => flip(join(folder, 'disk.raw'), 450),
  'its record, no JSON': (folder) => writeFileSync(join(folder, 'base.json'), '{'),
  'its record, of another base': (folder) => {
    const file = join(folder, 'base.json')
    writeFileSync(file, readFileSync(file, 'utf8').replace(/sha256:[0-9a-f]{4}/, 'sha256:0000'))
  },
  'its record, another file': (folder) => {
    const file = join(folder, 'base.json')
    writeFileSync(file, readFileSync(file, 'utf8').replace('"disk.raw"', '"../../format"'))
  },
}

rigTest('a base, each kind of damage: brought again, and all layers stay', async (rig) => {
  const all = await site(rig)
  const base = rig.store('bases', readdirSync(rig.store('bases'))[0] ?? '')
  for (const [name, damage] of Object.entries(rawDamages)) {
    damage(base)
    const ran = await mended(rig, all, 'in the store is damaged')
    expect(ran.stdout, name).toMatch(/10_a +cached[\s\S]*20_b +cached/)
  }
})

rigTest('a base that is a qcow2, damaged in header or tables: brought again', async (rig) => {
  const all = await site(rig)
  rig.tool('qemu-img', 'convert', '-O', 'qcow2', rig.path('tiny.raw'), rig.path('tiny.qcow2'))
  rig.write({ 'vlb.yaml': 'version: 1\nbase: { path: tiny.qcow2 }\nseal: false\n' })
  await rig.build()
  const folders = readdirSync(rig.store('bases')).map((name) => rig.store('bases', name, 'disk.qcow2'))
  const file = folders.find((path) => rig.tool('sh', '-c', `ls ${path} 2>/dev/null || true`) !== '') ?? ''
  for (const at of [20, firstTable(file) + 5, secondTable(file) + 5]) {
    flip(file, at)
    await mended(rig, all, 'in the store is damaged')
  }
})

rigTest('a damaged base that cannot be brought again: said, and no layer is lost', async (rig) => {
  const all = await site(rig)
  const base = rig.store('bases', readdirSync(rig.store('bases'))[0] ?? '')
  const digest = /sha256-([0-9a-f]+)/.exec(base)?.[1]
  rig.write({ 'vlb.yaml': `version: 1\nbase: { url: "http://127.0.0.1:1/base", sha256: ${digest} }\nseal: false\n` })
  flip(join(base, 'disk.raw'), 450)
  rmSync(rig.path('build'), { recursive: true })
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(2)
  expect(ran.stderr).toMatch(/is damaged[\s\S]*error: download failed/)
  rig.git('checkout', 'vlb.yaml')
  const again = await mended(rig, all, 'in the store is damaged')
  expect(again.stdout).toMatch(/0 built, 2 from the store/)
})
