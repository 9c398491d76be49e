// The image: its formats, and when it is written again.
import { appendFileSync, copyFileSync, openSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs'
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'

rigTest('every format holds the same disk', async (rig) => {
  rig.project({ '10_a': 'echo a > /a; dd if=/dev/urandom of=/noise bs=1024 count=2000 2>/dev/null' })
  rig.commit()
  await rig.build()
  for (const format of ['qcow2', 'raw', 'vmdk', 'vdi', 'vhdx']) {
    const { ok, image } = await rig.json('build', '--format', format)
    expect(ok, format).toBe(true)
    expect(image).toMatchObject({ path: rig.path(`build/image.${format}`), format })
    const info = JSON.parse(rig.tool('qemu-img', 'info', '--output=json', image.path))
    expect(info.format).toBe(format)
    expect(info['backing-filename']).toBeUndefined()
    rig.tool('qemu-img', 'compare', '-f', format, '-F', 'qcow2', image.path, rig.path('build/image.qcow2'))
  }
  const wrong = await rig.vlb(['build', '--format', 'iso'])
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('one of qcow2, raw')])
})

rigTest('the format follows the ending in vlb.yaml', async (rig) => {
  rig.project({ '10_a': 'true' }, 'output: { path: out/disk.img }\n')
  rig.commit()
  await rig.build()
  expect(JSON.parse(rig.tool('qemu-img', 'info', '--output=json', rig.path('out/disk.img'))).format).toBe('raw')
})

rigTest('compression makes it smaller, and reads the same', async (rig) => {
  rig.project({ '10_a': 'for i in $(seq 8); do cat /bin/busybox; done > /much' })
  rig.commit()
  await rig.build()
  const plain = rig.path('build/image.qcow2')
  for (const method of ['zstd', 'zlib']) {
    const packed = rig.path(`build/${method}.qcow2`)
    await rig.ok('build', '--compress', method, '-o', packed)
    expect(statSync(packed).size).toBeLessThan(statSync(plain).size * 0.8)
    rig.tool('qemu-img', 'compare', plain, packed)
  }
  expect((await rig.vlb(['build', '--compress', 'zstd', '--format', 'raw'])).code).toBe(2)
})

rigTest('--no-flatten leaves a small overlay that reads the same', async (rig) => {
  rig.project({ '10_a': 'dd if=/dev/urandom of=/noise bs=1024 count=5000 2>/dev/null', '20_b': 'echo b > /b' })
  rig.commit()
  await rig.build()
  const thin = rig.path('build/thin.qcow2')
  const first = await rig.json('build', '--no-flatten', '-o', thin)
  expect(first.image).toMatchObject({ path: thin, format: 'qcow2', written: true })
  expect(statSync(thin).size).toBeLessThan(2 ** 20)
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), thin)
  expect(rig.readFromImage(thin, '/b')).toBe('b\n')
  expect((await rig.json('build', '--no-flatten', '-o', thin)).image.written).toBe(false)
  await rig.build('--rebuild', '10_a')
  expect((await rig.json('build', '--no-flatten', '-o', thin)).image.written, 'another chain').toBe(true)
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), thin)
})

rigTest('an image is written again when it is not what was written, and only then', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const image = rig.path('build/image.qcow2')
  const good = `${rig.folder}/good.qcow2`
  await rig.build()
  copyFileSync(image, good)
  const { mtime } = statSync(image)
  const damages: Record<string, () => void> = {
    deleted: () => rmSync(image),
    'a byte changed, its time of change put back': () => {
      const file = openSync(image, 'r+')
      writeSync(file, 'X', 70_000)
      utimesSync(image, mtime, mtime)
    },
    'something appended': () => appendFileSync(image, 'more'),
    'replaced by a copy': () => {
      rmSync(image)
      copyFileSync(good, image)
    },
  }
  for (const [name, damage] of Object.entries(damages)) {
    damage()
    expect((await rig.json('build')).image.written, name).toBe(true)
    rig.tool('qemu-img', 'compare', good, image)
    expect((await rig.json('build')).image.written, `after: ${name}`).toBe(false)
  }
})

rigTest('the digest that --json tells is that of the file', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const sum = (path: string) => rig.tool('sha256sum', path).split(' ')[0]
  const { image } = await rig.json('build')
  expect(image.sha256).toBe(sum(image.path))
  expect((await rig.json('build')).image.sha256).toBe(image.sha256)
  rig.layer('10_a', 'echo b > /a')
  const edited = (await rig.json('build')).image
  expect(edited.sha256).toBe(sum(edited.path))
  expect(edited.sha256).not.toBe(image.sha256)
})

rigTest('the image never goes over its own base', async (rig) => {
  rig.project({ '10_a': 'true' }, 'output: { path: ./tiny.raw }\n')
  rig.commit()
  for (const args of [['build'], ['build', '-o', 'tiny.raw'], ['build', '-o', '10_a/../tiny.raw']]) {
    const ran = await rig.vlb(args)
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('overwrite its own base')])
  }
})

rigTest('a folder that cannot be made is said, at once, by all who write where they are told to', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  rig.git('tag', 'v1')
  // The kernel answers "no such file" to whoever makes a folder there.
  const place = '/proc/vlb-test'
  for (const args of [
    ['build', '-o', `${place}/image.qcow2`],
    ['build', '--sbom', `${place}/sbom.json`],
    ['changelog', 'v1..v1', '-o', `${place}/changes.md`],
    ['init', place],
  ]) {
    const ran = await rig.vlb(args)
    expect([ran.code, ran.stderr], args.join(' ')).toEqual([3, expect.stringContaining(`cannot write to ${place}`)])
  }
})
