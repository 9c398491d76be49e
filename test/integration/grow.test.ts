// disk.size: the disk, its root partition and the file system on it really are larger.
import { statSync } from 'node:fs'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'
import { type TinyDiskOptions, tinyDisk } from '../rig/tiny-disk.ts'

const MiB = 2 ** 20

/** What the file system offers in bytes, as seen in a layer. */
async function rootBytes(rig: Rig, layer: string): Promise<number> {
  const [blocks, size] = (await rig.ok('log', layer)).trim().split(' ').map(Number)
  return (blocks ?? 0) * (size ?? 0)
}

const kinds: Record<string, TinyDiskOptions> = {
  'ext4 with an MBR': {},
  'ext4 with a GPT': { table: 'gpt' },
  'ext4 without a table': { table: 'none' },
  'xfs with a GPT': { table: 'gpt', fs: 'xfs' },
  'btrfs with an MBR': { fs: 'btrfs' },
  'btrfs without a table': { table: 'none', fs: 'btrfs' },
}

for (const [name, options] of Object.entries(kinds)) {
  rigTest(
    `grown: ${name}`,
    async (rig) => {
      rig.project({ '10_a': 'stat -f -c "%b %S" /', '20_b': 'echo b > /b' })
      tinyDisk(rig.path('tiny.raw'), options)
      const before = statSync(rig.path('tiny.raw')).size
      const size = Math.ceil(before / MiB) * 2 * MiB
      rig.commit()
      await rig.build('--last', '10_a')
      const small = await rootBytes(rig, '10_a')
      rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}disk: { size: ${size / MiB}M }\n` })
      expect(await rig.build('--format', 'raw')).toEqual(['disk built', '10_a built', '20_b built'])
      const image = rig.path('build/image.raw')
      expect(statSync(image).size).toBe(size)
      expect(await rootBytes(rig, '10_a')).toBeGreaterThan(small + (size - before) * 0.85)
      if (options.table !== 'none') {
        const { partitiontable } = JSON.parse(rig.tool('sfdisk', '--json', image))
        const [root] = partitiontable.partitions
        expect(partitiontable.partitions).toHaveLength(1)
        expect(root.start).toBe(2048)
        expect((root.start + root.size) * 512).toBeGreaterThan(size - 2 * MiB)
        expect(rig.tool('sfdisk', '--verify', image)).toContain('No errors detected')
      }
      const start = options.table === 'none' ? 0 : MiB
      if (options.fs === undefined) rig.tool('e2fsck', '-f', '-n', `${image}?offset=${start}`)
      expect(await rig.build('--format', 'raw')).toEqual(['disk cached', '10_a cached', '20_b cached'])
    },
    ['root', 'fuse', 'loop', 'tool:mkfs.xfs', 'tool:mkfs.btrfs', 'tool:sfdisk', 'tool:resize2fs', 'tool:xfs_growfs'],
  )
}

rigTest('a size that is the base has already changes nothing; a smaller one is refused', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, 'disk: { size: 50M }\n')
  rig.commit()
  await rig.build()
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('50M', '49M') })
  const ran = await rig.vlb(['build'])
  expect([ran.code, ran.stderr]).toEqual([2, expect.stringMatching(/disk.size .* less than/)])
})

rigTest('a root that another partition lies behind cannot grow', async (rig) => {
  rig.project({ '10_a': 'true' }, 'disk: { size: 200M, root: 1 }\n')
  tinyDisk(rig.path('tiny.raw'), { twins: true })
  rig.commit()
  const ran = await rig.vlb(['build'])
  expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('partition 2 lies behind it')])
})
