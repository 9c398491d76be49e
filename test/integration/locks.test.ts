// Builds at the same time: one key is built once, and neither mounts nor devices get into each other's way.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

const uuid = 'cat /proc/sys/kernel/random/uuid'

const images = (rig: Rig): [string, string] => [rig.path('build/one.qcow2'), rig.path('build/two.qcow2')]

rigTest('two builds of one key: it is built once, and both succeed', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `${uuid} > /a\n${hold.line}`, '20_b': `${uuid} > /b` })
  rig.commit()
  const [one, two] = images(rig)
  const first = rig.start(['build', '-o', one])
  await hold.reached()
  const second = rig.start(['build', '-o', two])
  await second.says(`10_a: waiting for pid ${first.child.pid}`)
  const states = (await rig.json('status')).layers.map((l: { state: string }) => l.state)
  expect(states).toEqual(['building', 'missing'])
  hold.release()
  for (const ran of await Promise.all([first.ended, second.ended])) expect(ran.code, ran.all).toBe(0)
  expect(hold.calls).toBe(1)
  for (const file of ['/a', '/b']) expect(rig.readFromImage(one, file)).toBe(rig.readFromImage(two, file))
})

rigTest('the first is killed while the second waits: the second builds it', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `${hold.line}\necho a > /a` })
  rig.commit()
  const [one, two] = images(rig)
  const first = rig.start(['build', '-o', one])
  await hold.reached()
  const second = rig.start(['build', '-o', two])
  await second.says('waiting for pid')
  first.kill('SIGKILL')
  await first.ended
  hold.release()
  const ran = await second.ended
  expect(ran.code, ran.all).toBe(0)
  expect(hold.calls).toBe(2)
  expect(rig.readFromImage(two, '/a')).toBe('a\n')
})

rigTest('the first fails while the second waits: the second tries itself', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `${hold.line}\nexit 5` })
  rig.commit()
  const first = rig.start(['build'])
  await hold.reached()
  const second = rig.start(['build'])
  await second.says('waiting for pid')
  hold.release()
  for (const ran of await Promise.all([first.ended, second.ended])) {
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('ended with status 5')
  }
  expect(hold.calls).toBe(2)
})

rigTest('two builds that want one base at once fetch it once', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.layer('10_a', 'echo other > /a')
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'main')
  rig.layer('10_a', 'echo main > /a')
  rig.commit()
  const both = [rig.start(['build', 'main']), rig.start(['build', 'other'])]
  for (const ran of await Promise.all(both.map((running) => running.ended))) expect(ran.code, ran.all).toBe(0)
  for (const name of ['main', 'other'])
    expect(rig.readFromImage(rig.path(`build/image-${name}.qcow2`), '/a')).toBe(`${name}\n`)
})

for (const [fs, more] of [
  ['ext4', {}],
  ['xfs', { fs: 'xfs', table: 'gpt' }],
  ['btrfs', { fs: 'btrfs' }],
] as const) {
  rigTest(
    `two layers on one ${fs} base, mounted at the same time: neither sees the other`,
    async (rig) => {
      const [hold, other] = [await rig.hold(), await rig.hold()]
      const script = (name: string, line: string) =>
        `echo ${name} > /a\nsync\n${line}\nls / > /list\ncat /a > /b\necho ${name} > /only-${name}; cat /b; cat /list`
      rig.project({ '10_a': script('main', hold.line) })
      if (fs !== 'ext4') tinyDisk(rig.path('tiny.raw'), more)
      rig.commit()
      rig.git('checkout', '--quiet', '-b', 'other')
      rig.layer('10_a', script('other', other.line))
      rig.commit()
      rig.git('checkout', '--quiet', 'main')
      const one = rig.start(['build', 'main', '--format', 'raw'])
      await hold.reached()
      const two = rig.start(['build', 'other', '--format', 'raw'])
      await other.reached()
      hold.release()
      const first = await one.ended
      expect(first.code, first.all).toBe(0)
      other.release()
      const second = await two.ended
      expect(second.code, second.all).toBe(0)
      for (const name of ['main', 'other']) {
        rig.git('checkout', '--quiet', name)
        const [content, ...list] = (await rig.ok('log', '10_a')).trim().split('\n')
        expect(content).toBe(name)
        expect(list.filter((file) => file.startsWith('only-'))).toEqual([])
        const image = rig.path(`build/image-${name}.raw`)
        if (fs === 'ext4') rig.tool('e2fsck', '-f', '-n', `${image}?offset=${2 ** 20}`)
        else {
          const part = join(rig.folder, 'part')
          rig.tool('dd', `if=${image}`, `of=${part}`, 'bs=1M', 'skip=1', 'conv=sparse', 'status=none')
          if (fs === 'xfs') rig.tool('xfs_repair', '-n', part)
          else rig.tool('btrfs', 'check', '--readonly', part)
        }
      }
    },
    ['root', 'fuse', 'loop', 'tool:mkfs.xfs', 'tool:mkfs.btrfs', 'tool:xfs_repair'],
  )
}

rigTest('loop devices that are in use already are left alone', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const file = join(rig.folder, 'somebody')
  writeFileSync(file, Buffer.alloc(2 ** 20))
  const loops = [1, 2].map(() => rig.tool('losetup', '--find', '--show', file).trim())
  try {
    await rig.build()
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
    for (const loop of loops) expect(rig.tool('losetup', '--list', '--noheadings', loop)).toContain(file)
    expect(readFileSync(file).every((byte) => byte === 0)).toBe(true)
  } finally {
    for (const loop of loops) rig.tool('losetup', '--detach', loop)
  }
})

rigTest('two builds of one image path: the file is one of the two, and is not mistaken for the other', async (rig) => {
  rig.project({ '10_a': 'echo main > /a' })
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.layer('10_a', 'echo other > /a')
  rig.commit()
  const image = rig.path('build/image.qcow2')
  const builds = () => ['main', 'other'].map((name) => rig.start(['build', name, '-o', image]).ended)
  for (const ran of await Promise.all([...builds(), ...builds()])) expect(ran.code, ran.all).toBe(0)
  for (const name of ['main', 'other']) {
    expect((await rig.vlb(['build', name, '-o', image])).code).toBe(0)
    expect(rig.readFromImage(image, '/a')).toBe(`${name}\n`)
  }
})

rigTest('the holder of a lock is killed: the build ends with a word, and the next one works', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': hold.line })
  rig.commit()
  const running = rig.start(['build'])
  await hold.reached()
  for (const pid of running.descendants()) {
    if (/^(flock|cat)\0/.test(commandLine(pid)) && !commandLine(pid).includes('runner')) process.kill(pid, 'SIGKILL')
  }
  const ran = await running.ended
  expect([ran.code, ran.stderr]).toEqual([1, expect.stringMatching(/held the lock|ended before its work was done/)])
  hold.release()
  expect(await rig.build()).toEqual(['10_a built'])
})

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
