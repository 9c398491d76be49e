// git vlb cache: damage that verify finds, and what is removed by hand.
import {
  chmodSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { describe, expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

async function project(rig: Rig): Promise<Record<string, string>> {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b', '30_c': 'cat /a /b > /c' })
  rig.commit()
  await rig.ok('build')
  const { layers } = await rig.json('status')
  return Object.fromEntries(layers.map(({ name, key }: { name: string; key: string }) => [name, key]))
}

function flip(file: string, at: number): void {
  chmodSync(file, 0o644)
  const fd = openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  readSync(fd, byte, 0, 1, at)
  writeSync(fd, Buffer.from([(byte[0] ?? 0) ^ 0x10]), 0, 1, at)
  closeSync(fd)
}

const overlay = (rig: Rig, key = '') => rig.store('snapshots', key, 'layer.qcow2')

describe('verify finds damage, drops it with all that stands on it, and the next build makes it anew', () => {
  const damages: [
    name: string,
    damage: (rig: Rig, keys: Record<string, string>) => void,
    reason: RegExp,
    quick: boolean,
  ][] = [
    [
      'a flipped byte',
      (rig, keys) => flip(overlay(rig, keys['20_b']), 300_000),
      /its bytes are not what they were/,
      false,
    ],
    [
      'a flipped byte behind the header',
      (rig, keys) => flip(overlay(rig, keys['20_b']), 2000),
      /its bytes are not what they were/,
      false,
    ],
    [
      'a file cut short',
      (rig, keys) => {
        chmodSync(overlay(rig, keys['20_b']), 0o644)
        truncateSync(overlay(rig, keys['20_b']), 200_000)
      },
      /has 200000 bytes instead of/,
      true,
    ],
    ['a missing overlay', (rig, keys) => rmSync(overlay(rig, keys['20_b'])), /its overlay is missing/, true],
    [
      'a manifest that cannot be read',
      (rig, keys) => writeFileSync(rig.store('snapshots', keys['20_b'] ?? '', 'manifest.json'), '{'),
      /its manifest is unreadable/,
      true,
    ],
    [
      'another backing file',
      (rig, keys) => {
        const file = overlay(rig, keys['20_b'])
        chmodSync(file, 0o644)
        rig.tool('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', '/etc/passwd', file)
      },
      /names another backing file/,
      true,
    ],
    [
      'a parent that is gone',
      (rig, keys) => rmSync(rig.store('snapshots', keys['10_a'] ?? ''), { recursive: true }),
      /its parent .* is missing/,
      true,
    ],
    [
      'a parent of another build',
      (rig, keys) => {
        const file = rig.store('snapshots', keys['10_a'] ?? '', 'manifest.json')
        // Without the digest of itself, which an older git vlb did not write, and which would tell of it.
        const { check: _, ...manifest } = JSON.parse(readFileSync(file, 'utf8'))
        writeFileSync(file, JSON.stringify({ ...manifest, nonce: 'f'.repeat(32) }))
      },
      /is not the one it was built on/,
      true,
    ],
  ]
  for (const [name, damage, reason, quick] of damages) {
    rigTest(name, async (rig) => {
      const keys = await project(rig)
      damage(rig, keys)
      const looked = await rig.vlb(['cache', 'verify', '--dry-run', '--json'])
      expect(looked.code, looked.all).toBe(4)
      const found = JSON.parse(looked.stdout)
      expect(found.damaged.map((one: { reason: string }) => one.reason).join('\n')).toMatch(reason)
      expect(found.removed).toEqual([])
      const fast = await rig.vlb(['cache', 'verify', '--quick', '--dry-run'])
      expect(fast.code, fast.all).toBe(quick ? 4 : 0)
      const ran = await rig.vlb(['cache', 'verify'])
      expect(ran.code, ran.all).toBe(0)
      expect(ran.stdout).toMatch(reason)
      expect(ran.stdout).toContain('dropped with all on it, and will be built again')
      expect(await rig.ok('cache', 'verify')).toContain('all sound')
      const built = await rig.build()
      expect(built.slice(1)).toEqual(['20_b built', '30_c built'])
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/c')).toBe('a\nb\n')
      expect(await rig.ok('cache', 'verify')).toContain('all sound')
    })
  }

  rigTest('a base', async (rig) => {
    await project(rig)
    const [folder = ''] = readdirSync(rig.store('bases'))
    flip(rig.store('bases', folder, 'disk.raw'), 5000)
    expect(await rig.ok('cache', 'verify', '--quick')).toContain('all sound')
    const result = await rig.json('cache', 'verify')
    expect(result.damaged[0]).toMatchObject({ kind: 'base', reason: 'its bytes are not what they were' })
    expect(result.removed.map(({ kind }: { kind: string }) => kind).sort()).toEqual([
      'base',
      'snapshot',
      'snapshot',
      'snapshot',
    ])
    expect(await rig.build()).toEqual(['10_a built', '20_b built', '30_c built'])
  })
})

rigTest('damage in what a build uses stays, with status 4, until the build has ended', async (rig) => {
  const keys = await project(rig)
  const hold = await rig.hold()
  rig.layer('40_d', hold.line)
  const running = rig.start(['build'])
  await hold.reached()
  flip(overlay(rig, keys['10_a']), 300_000)
  const ran = await rig.vlb(['cache', 'verify'])
  expect([ran.code, ran.stdout]).toEqual([4, expect.stringContaining('in use and stay')])
  running.kill('SIGTERM')
  await running.ended
  hold.release()
  expect((await rig.vlb(['cache', 'verify'])).code).toBe(0)
  rmSync(rig.path('40_d'), { recursive: true })
  expect(await rig.build()).toEqual(['10_a built', '20_b built', '30_c built'])
})

rigTest('rm: by layer, number or key, with all that stands on it; failures; everything', async (rig) => {
  const keys = await project(rig)
  const names = async (...args: string[]) =>
    (await rig.json('cache', 'rm', ...args)).removed.map(({ layer }: { layer: string | null }) => layer)
  expect(await names('20', '--dry-run')).toEqual(['30_c', '20_b'])
  expect(await names('20_b')).toEqual(['30_c', '20_b'])
  expect(await rig.build()).toEqual(['10_a cached', '20_b built', '30_c built'])
  expect(await names((keys['30_c'] ?? '').slice(0, 12))).toEqual(['30_c'])
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached', '30_c built'])
  rig.layer('40_d', 'exit 1')
  expect((await rig.vlb(['build'])).code).toBe(1)
  expect(await names('--failed')).toEqual(['40_d'])
  expect((await rig.vlb(['shell', '--failed'])).stderr).toContain('is not kept any more')
  expect((await rig.ok('log')).trim()).toBe('')
  expect(await names('--all')).toHaveLength(4)
  for (const folder of ['snapshots', 'bases', 'chain', 'used']) expect(readdirSync(rig.store(folder))).toEqual([])
  rmSync(rig.path('40_d'), { recursive: true })
  expect(await rig.build()).toEqual(['10_a built', '20_b built', '30_c built'])
})

rigTest('du, and what is wrong with a command line', async (rig) => {
  await project(rig)
  const { layers, folders, totalBytes } = await rig.json('cache', 'du')
  expect(layers.map(({ layer }: { layer: string }) => layer).sort()).toEqual(['10_a', '20_b', '30_c'])
  const bytes = (folder: string) => folders.find((one: { folder: string }) => one.folder === folder).bytes
  expect(bytes('bases')).toBeGreaterThan(2 ** 20)
  expect(totalBytes).toBeGreaterThanOrEqual(bytes('bases') + bytes('snapshots'))
  expect(await rig.ok('cache', 'du')).toMatch(/10_a +\d+ KiB +1 snapshot\n/)
  for (const [args, said] of [
    [['lss'], 'git vlb cache ls'],
    [['rm'], 'cache rm takes keys or layers'],
    [['ls', '--quick'], '--quick is for git vlb cache verify'],
    [['rm', '10_a', '--all'], 'not with names'],
    [['du', '10_a'], 'takes no names'],
    [['ls', 'nothing'], 'holds nothing of "nothing"'],
  ] as const) {
    const ran = await rig.vlb(['cache', ...args])
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining(said)])
  }
})

rigTest('where nothing was built yet', async (rig) => {
  rig.project({ '10_a': 'true' })
  expect(await rig.ok('cache', 'ls')).toMatch(/^0 snapshots; the store .git\/vlb holds 0 B of /)
  expect((await rig.json('cache', 'du')).layers).toEqual([])
  expect(rig.exists('.git/vlb/snapshots')).toBe(false)
  expect(await rig.ok('gc', '--dry-run')).toMatch(/^would drop nothing; the store would hold /)
  expect(await rig.ok('cache', 'verify', '--dry-run')).toContain('all sound')
  expect((await rig.json('status')).store).toMatchObject({ bytes: null, budgetBytes: expect.any(Number) })
  expect(await rig.ok('gc')).toMatch(/^dropped nothing/)
  expect((await rig.json('cache', 'rm', '--all')).removed).toEqual([])
})
