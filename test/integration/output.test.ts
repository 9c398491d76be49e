// Several images from one build: every format holds the disk, each is current or stale by itself, and their checksums.
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { XMLParser, XMLValidator } from 'fast-xml-parser'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

interface Image {
  path: string
  format: string
  sha256: string | null
  written: boolean
}
const noise = 'dd if=/dev/urandom of=/noise bs=1024 count=2000 2>/dev/null; echo a > /a'
const all = '[qcow2, raw, vmdk, vdi, vhdx, vpc, ova]'
const written = (result: { images: Image[] }) => result.images.filter((i) => i.written).map((i) => i.format)

/** Opens an OVA as its readers do: the descriptor is the first file, the digests are those of the others. */
function openOva(rig: Rig, path: string) {
  const names = rig.tool('tar', '-tf', path).trim().split('\n')
  expect(names.map((name) => name.replace(/^.*\./, '.'))).toEqual(['.ovf', '.mf', '.vmdk'])
  const folder = join(rig.folder, 'ova')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  rig.tool('tar', '-C', folder, '-xf', path)
  const [ovfName = '', mfName = '', vmdkName = ''] = names
  const ovf = readFileSync(join(folder, ovfName), 'utf8')
  expect(XMLValidator.validate(ovf)).toBe(true)
  const sums = [...readFileSync(join(folder, mfName), 'utf8').matchAll(/^SHA256\((.+)\)= ([0-9a-f]{64})$/gm)]
  expect(sums.map((sum) => sum[1])).toEqual([ovfName, vmdkName])
  for (const [, name = '', sum] of sums) expect(rig.tool('sha256sum', join(folder, name)).split(' ')[0]).toBe(sum)
  const { Envelope: envelope } = new XMLParser({ ignoreAttributes: false, parseTagValue: false }).parse(ovf)
  expect(envelope.References.File).toMatchObject({
    '@_ovf:href': vmdkName,
    '@_ovf:size': String(statSync(join(folder, vmdkName)).size),
  })
  return { vmdk: join(folder, vmdkName), ovf, envelope }
}

rigTest('all formats in one build hold the disk of the chain', async (rig) => {
  rig.project(
    { '10_a': noise, '20_b': 'echo b > /b' },
    `name: web\noutput: { format: ${all} }\nseal: false\nboot: { cpus: 3 }\n`,
  )
  rig.commit()
  const result = await rig.json('build')
  expect(result.image).toEqual(result.images[0])
  const endings = ['qcow2', 'raw', 'vmdk', 'vdi', 'vhdx', 'vhd', 'ova']
  expect(result.images.map((i: Image) => i.path)).toEqual(endings.map((ending) => rig.path(`build/image.${ending}`)))
  const top = rig.store('chain', `${result.layers.at(-1).contentId}.qcow2`)
  for (const { path, format } of result.images as Image[]) {
    if (format === 'ova') continue
    rig.tool('qemu-img', 'compare', '-f', format, '-F', 'qcow2', path, top)
    const info = JSON.parse(rig.tool('qemu-img', 'info', '-f', format, '--output=json', path))
    expect(info['backing-filename'], format).toBeUndefined()
    if (['vmdk', 'vdi', 'vhdx', 'qcow2'].includes(format)) rig.tool('qemu-img', 'check', '-f', format, path)
    if (format === 'vmdk') expect(info['format-specific'].data['create-type']).toBe('streamOptimized')
  }
  const { blocks, size } = statSync(rig.path('build/image.raw'))
  expect(blocks * 512, 'raw is sparse').toBeLessThan(size / 2)
  const footer = readFileSync(rig.path('build/image.vhd')).subarray(-512)
  expect([footer.toString('latin1', 0, 8), footer.readUInt32BE(60)], 'a fixed VHD').toEqual(['conectix', 2])
  expect(Number(footer.readBigUInt64BE(48)), 'of the exact size').toBe(size)
  const { vmdk, envelope } = openOva(rig, rig.path('build/image.ova'))
  rig.tool('qemu-img', 'compare', '-f', 'vmdk', '-F', 'qcow2', vmdk, top)
  expect(readFileSync(vmdk).equals(readFileSync(rig.path('build/image.vmdk'))), 'written once').toBe(true)
  expect(envelope.DiskSection.Disk['@_ovf:capacity']).toBe(String(size))
  expect(envelope.VirtualSystem['@_ovf:id']).toBe('web')
  expect(JSON.stringify(envelope.VirtualSystem.VirtualHardwareSection.Item)).toContain('3 virtual CPU')
  expect(readdirSync(rig.path('build'))).toHaveLength(7)
})

rigTest('only what is stale is written again, by the chain as by one image', async (rig) => {
  rig.project({ '10_a': noise }, 'output: { format: [raw, qcow2, ova], compress: zlib }\n')
  rig.commit()
  expect(written(await rig.json('build'))).toEqual(['raw', 'qcow2', 'ova'])
  expect((await rig.json('status')).image).toMatchObject({ path: rig.path('build/image.raw'), state: 'current' })
  expect(written(await rig.json('build'))).toEqual([])
  appendFileSync(rig.path('build/image.qcow2'), 'more')
  expect((await rig.json('status')).image.state).toBe('stale')
  expect(written(await rig.json('build'))).toEqual(['qcow2'])
  rmSync(rig.path('build/image.ova'))
  expect(written(await rig.json('build'))).toEqual(['ova'])
  rig.tool('qemu-img', 'compare', rig.path('build/image.raw'), rig.path('build/image.qcow2'))
  rig.tool('qemu-img', 'compare', openOva(rig, rig.path('build/image.ova')).vmdk, rig.path('build/image.raw'))
  rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}boot: { memory: 3G }\n` })
  expect(written(await rig.json('build')), 'the ova names the memory').toEqual(['ova'])
  expect(openOva(rig, rig.path('build/image.ova')).ovf).toContain('<rasd:VirtualQuantity>3072<')
})

rigTest('formats on the command line take the place of those in vlb.yaml', async (rig) => {
  rig.project({ '10_a': noise }, 'output: { path: out/disk.img, format: [raw, vdi] }\n')
  rig.commit()
  const paths = async (...args: string[]) => (await rig.json('build', ...args)).images.map((i: Image) => i.path)
  expect(await paths()).toEqual([rig.path('out/disk.img'), rig.path('out/disk.vdi')])
  expect(await paths('--format', 'vmdk', '--format', 'qcow2', '--format', 'vmdk')).toEqual([
    rig.path('out/disk.vmdk'),
    rig.path('out/disk.qcow2'),
  ])
  const named = rig.path('out/other')
  expect(await paths('--format', 'vdi', '-o', named)).toEqual([named])
  expect(await paths('-o', named)).toEqual([`${named}.raw`, `${named}.vdi`])
  expect(await paths('HEAD')).toEqual([rig.path('out/disk-HEAD.img'), rig.path('out/disk-HEAD.vdi')])
  expect(await paths('--no-flatten')).toEqual([rig.path('out/disk.qcow2')])
  for (const args of [
    ['--no-flatten', '--format', 'raw'],
    ['--compress', 'zlib'],
    ['--format', 'tar'],
  ])
    expect((await rig.vlb(['build', ...args])).code, args.join(' ')).toBe(2)
})

rigTest('a qcow2 for old qemu', async (rig) => {
  rig.project({ '10_a': noise }, 'output: { compat: 0.10, compress: zlib }\n')
  rig.commit()
  const { image } = await rig.json('build')
  const info = JSON.parse(rig.tool('qemu-img', 'info', '--output=json', image.path))
  expect(info['format-specific'].data).toMatchObject({ compat: '0.10', 'compression-type': 'zlib' })
  rig.tool('qemu-img', 'check', image.path)
  const wrong = await rig.vlb(['build', '--compress', 'zstd'])
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('output.compat')])
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('compat: 0.10, ', '') })
  expect(written(await rig.json('build'))).toEqual(['qcow2'])
})

rigTest('SHA256SUMS names the images of the build, and is true', async (rig) => {
  rig.project({ '10_a': noise }, 'output: { format: [qcow2, vdi], checksums: true }\n')
  rig.commit()
  await rig.ok('build')
  const sums = rig.path('build/SHA256SUMS')
  const check = () => rig.tool('sh', '-c', 'cd "$1" && sha256sum --check --strict SHA256SUMS', 'sh', rig.path('build'))
  expect(check()).toBe('image.qcow2: OK\nimage.vdi: OK\n')
  const { mtimeMs } = statSync(sums)
  await rig.ok('build')
  expect(statSync(sums).mtimeMs, 'left alone').toBe(mtimeMs)
  rig.layer('10_a', 'echo b > /b')
  await rig.ok('build')
  expect(check()).toContain('image.vdi: OK')
  writeFileSync(sums, 'nonsense\n')
  await rig.ok('build')
  expect(check()).toBe('image.qcow2: OK\nimage.vdi: OK\n')
  rig.commit('second')
  await rig.ok('build', 'HEAD', 'HEAD~1')
  expect(check().split('\n')).toHaveLength(5)
  const failed = await rig.vlb(['build', '-o', rig.path('build/SHA256SUMS'), '--format', 'raw', '--last', '10'])
  expect([failed.code, failed.stderr]).toEqual([2, expect.stringContaining('cannot be called SHA256SUMS')])
})

rigTest('an ova of a disk of more than 8 GiB', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, 'name: "web"\ndisk: { size: 20G }\noutput: { format: ova }\n')
  rig.commit()
  const { image } = await rig.json('build')
  expect(image).toMatchObject({ path: rig.path('build/image.ova'), format: 'ova', written: true })
  const { vmdk, ovf } = openOva(rig, image.path)
  expect(ovf).toContain(`ovf:capacity="${20 * 2 ** 30}"`)
  expect(ovf).toContain('vmw:value="bios"')
  expect(JSON.parse(rig.tool('qemu-img', 'info', '--output=json', vmdk))['virtual-size']).toBe(20 * 2 ** 30)
  expect(rig.readFromImage(vmdk, '/a')).toBe('a\n')
  const header = readFileSync(image.path).subarray(257, 265).toString('latin1')
  expect(header, 'a USTAR archive').toBe('ustar\x0000')
})

/** Enough of a FAT file system for blkid(8). */
function fatSector(): Buffer {
  const sector = Buffer.alloc(512)
  sector.write('\xeb\x3c\x90MSWIN4.1', 0, 'latin1')
  for (const [at, value] of [
    [11, 512],
    [14, 1],
    [17, 512],
    [19, 8192],
    [22, 8],
  ] as const)
    sector.writeUInt16LE(value, at)
  for (const [at, value] of [
    [13, 4],
    [16, 2],
    [21, 0xf8],
    [38, 0x29],
    [510, 0x55],
    [511, 0xaa],
  ] as const)
    sector[at] = value
  sector.write('NO NAME    FAT16   ', 43, 'latin1')
  return sector
}

rigTest('an ova says UEFI when the disk has a partition for it and nothing for a BIOS to start', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, 'output: { format: ova }\n')
  const base = rig.path('tiny.raw')
  rig.tool('truncate', '--size=+8M', base)
  rig.tool('sh', '-c', 'echo "start=50MiB, size=4MiB, type=ef" | sfdisk --quiet --append "$1"', 'sh', base)
  const file = openSync(base, 'r+')
  writeSync(file, fatSector(), 0, 512, 50 * 2 ** 20)
  rig.commit()
  await rig.ok('build')
  expect(openOva(rig, rig.path('build/image.ova')).ovf).toContain('vmw:value="efi"')
  writeSync(file, Buffer.from([0xfa, 0xeb, 0xfe]), 0, 3, 0)
  closeSync(file)
  await rig.ok('build')
  expect(openOva(rig, rig.path('build/image.ova')).ovf).toContain('vmw:value="bios"')
})

rigTest('when one image cannot be written, all stay as they were', async (rig) => {
  rig.project({ '10_a': noise }, 'output: { format: [qcow2, vdi], checksums: true }\n')
  rig.commit()
  await rig.ok('build')
  const state = () => readdirSync(rig.path('build')).map((name) => [name, statSync(rig.path('build', name)).ino])
  const before = state()
  const shim = join(rig.folder, 'shim')
  mkdirSync(shim)
  const real = rig.tool('sh', '-c', 'command -v qemu-img').trim()
  const script = `#!/bin/sh\ncase "$*" in *"-O vdi"*) echo "No space left on device" >&2; exit 1 ;; esac\nexec ${real} "$@"\n`
  writeFileSync(join(shim, 'qemu-img'), script, { mode: 0o755 })
  rig.layer('10_a', 'echo b > /b')
  const ran = await rig.vlb(['build'], { env: { PATH: `${shim}:${process.env['PATH']}` } })
  expect([ran.code, ran.stderr]).toEqual([3, expect.stringContaining('no space left')])
  expect(state()).toEqual(before)
})
