// Bases and disks that cannot be built on: each refused with what it is, and what to do. And packed ones, which can.
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { describe, expect, inject } from 'vitest'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { type TinyDiskOptions, tinyDisk } from '../rig/tiny-disk.ts'

/** A project of one layer on the base `file`, committed; the file itself is not tracked. */
function projectOn(rig: Rig, file: string, config = '', more = ''): void {
  rig.write({
    'vlb.yaml': `version: 1\nbase: { path: ${file}${more} }\n${config}`,
    '.gitignore': '/build/\n/base*\n',
    '10_a/build-layer': '#!/bin/sh\necho built > /a\n',
  })
  rig.commit()
}

const disk = (rig: Rig, options: TinyDiskOptions, name = 'base.raw') => tinyDisk(rig.path(name), options)

/** No base is in the store that was refused as one. */
function keepsNone(rig: Rig): void {
  expect(readdirSync(rig.store('bases'))).toEqual([])
}

describe('the file', () => {
  rigTest('is not there, or is a folder', async (rig) => {
    projectOn(rig, 'base.raw')
    const missing = { says: ['the base base.raw is not there', rig.path('base.raw')], hint: 'correct base.path' }
    await refused(rig, ['build'], missing)
    await refused(rig, ['status'], missing)
    mkdirSync(rig.path('base.raw'))
    await refused(rig, ['build'], { says: 'the base base.raw is not a regular file', hint: 'correct base.path' })
  })

  rigTest('is not the one that vlb.yaml says', async (rig) => {
    copyFileSync(inject('tinyDisk'), rig.path('base.raw'))
    const found = rig.tool('sha256sum', rig.path('base.raw')).split(' ')[0] ?? ''
    const expected = 'ab'.repeat(32)
    projectOn(rig, 'base.raw', '', `, sha256: ${expected}`)
    await refused(rig, ['build'], {
      says: ['base.raw is not what vlb.yaml says', `expected sha256 ${expected}`, `found    sha256 ${found}`],
      hint: 'put its digest into vlb.yaml',
    })
    rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace(expected, found) })
    expect(await rig.build()).toEqual(['10_a built'])
  })

  rigTest('is a Git LFS pointer', async (rig) => {
    projectOn(rig, 'base.raw')
    rig.write({ 'base.raw': 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n' })
    await refused(rig, ['build'], { says: 'base.raw is a Git LFS pointer', hint: 'git lfs' })
    keepsNone(rig)
  })

  rigTest('is no disk: text, or a length that no disk has', async (rig) => {
    projectOn(rig, 'base.raw')
    rig.write({ 'base.raw': 'this is no disk\n' })
    await refused(rig, ['build'], { says: 'base.raw is not a disk image: 16 bytes', hint: 'file base.raw' })
    copyFileSync(inject('tinyDisk'), rig.path('base.raw'))
    truncateSync(rig.path('base.raw'), 10_000_001)
    await refused(rig, ['build'], { says: 'base.raw is not a disk image: 10000001 bytes', hint: 'unfinished download' })
    rig.write({ 'base.raw': '' })
    await refused(rig, ['build'], { says: 'base.raw is not a disk image: 0 bytes', hint: 'file base.raw' })
    keepsNone(rig)
  })

  rigTest('is an image of another kind', async (rig) => {
    projectOn(rig, 'base.img')
    for (const [format, name] of [
      ['vmdk', 'VMDK'],
      ['vdi', 'VDI'],
      ['vhdx', 'VHDX'],
    ] as const) {
      rig.tool('qemu-img', 'create', '-q', '-f', format, rig.path('base.img'), '8M')
      const hint = 'qemu-img convert -O qcow2 base.img base.qcow2'
      await refused(rig, ['build'], { says: `base.img is a ${name} image`, hint })
    }
    keepsNone(rig)
  })

  rigTest('points to another file of this host', async (rig) => {
    projectOn(rig, 'base.qcow2')
    const create = (...args: string[]) => rig.tool('qemu-img', 'create', '-q', '-f', 'qcow2', ...args)
    create('-F', 'raw', '-b', '/etc/passwd', rig.path('base.qcow2'))
    await refused(rig, ['build'], { says: 'base.qcow2 names a backing file: a base must stand alone', hint: 'flatten' })
    create('-o', `data_file=${rig.path('base.data')}`, rig.path('base.qcow2'), '8M')
    await refused(rig, ['build'], { says: 'base.qcow2 names a data file: a base must stand alone', hint: 'flatten' })
    keepsNone(rig)
  })

  rigTest('is encrypted', async (rig) => {
    projectOn(rig, 'base.qcow2')
    rig.tool('qemu-img', 'create', '-q', '-f', 'qcow2', rig.path('base.qcow2'), '8M')
    // The field crypt_method of the header: AES.
    const file = openSync(rig.path('base.qcow2'), 'r+')
    writeSync(file, Buffer.from([0, 0, 0, 1]), 0, 4, 32)
    closeSync(file)
    await refused(rig, ['build'], { says: 'base.qcow2 is encrypted', hint: 'qemu-img convert' })
  })

  rigTest('is a qcow2 that was cut short', async (rig) => {
    projectOn(rig, 'base.qcow2')
    rig.tool('qemu-img', 'convert', '-O', 'qcow2', inject('tinyDisk'), rig.path('base.qcow2'))
    truncateSync(rig.path('base.qcow2'), 300_000)
    await refused(rig, ['build'], { says: 'base.qcow2 is a damaged qcow2 image', hint: 'qemu-img check' })
    keepsNone(rig)
  })
})

describe('packed', () => {
  for (const [tool, ending] of [
    ['gzip', 'gz'],
    ['xz', 'xz'],
    ['zstd', 'zst'],
  ] as const) {
    rigTest(`with ${tool}: unpacked, and built on; its digest is that of the packed file`, async (rig) => {
      copyFileSync(inject('tinyDisk'), rig.path('base.raw'))
      rig.tool(tool, '-1', '-q', rig.path('base.raw'))
      const packed = `base.raw.${ending}`
      const digest = rig.tool('sha256sum', rig.path(packed)).split(' ')[0] ?? ''
      projectOn(rig, packed, '', `, sha256: ${digest}`)
      expect(await rig.build()).toEqual(['10_a built'])
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('built\n')
    })

    rigTest(`with ${tool}, and damaged`, async (rig) => {
      copyFileSync(inject('tinyDisk'), rig.path('base.raw'))
      rig.tool(tool, '-1', '-q', rig.path('base.raw'))
      truncateSync(rig.path(`base.raw.${ending}`), 100_000)
      projectOn(rig, `base.raw.${ending}`)
      await refused(rig, ['build'], { says: [`${tool} cannot unpack the base`], hint: 'damaged' })
      keepsNone(rig)
    })
  }
})

describe('the disk', () => {
  rigTest('is empty', async (rig) => {
    projectOn(rig, 'base.raw')
    writeFileSync(rig.path('base.raw'), Buffer.alloc(2 ** 20))
    await refused(rig, ['build'], { says: 'no partition and no file system found', hint: ['qemu-img info', 'sfdisk'] })
  })

  rigTest('has partitions, but no root on them', async (rig) => {
    projectOn(rig, 'base.raw')
    disk(rig, { prepare: (root) => rmSync(`${root}/etc`, { recursive: true }) })
    await refused(rig, ['build'], {
      says: ['no partition holds a root file system', 'found partition 1 (ext4)'],
      hint: 'disk: { root: NUMBER }',
    })
  })

  rigTest('has a root that is only a trap: /etc is a symlink', async (rig) => {
    projectOn(rig, 'base.raw')
    disk(rig, {
      prepare: (root) => {
        rmSync(`${root}/etc`, { recursive: true })
        symlinkSync('/etc', `${root}/etc`)
      },
    })
    await refused(rig, ['build'], { says: 'no partition holds a root file system', hint: 'disk: { root: NUMBER }' })
  })

  rigTest('has two partitions that could be the root; vlb.yaml says which, in any way', async (rig) => {
    projectOn(rig, 'base.raw')
    disk(rig, { twins: true })
    const offset = 49 * 2 ** 20
    rig.tool('tune2fs', '-L', 'second root', `${rig.path('base.raw')}?offset=${offset}`)
    rig.tool('tune2fs', '-U', '11111111-2222-3333-4444-555555555555', `${rig.path('base.raw')}?offset=${offset}`)
    await refused(rig, ['build'], {
      says: '2 partitions could be the root: partition 1 (ext4), partition 2 (ext4, LABEL=second root)',
      hint: 'disk: { root: 1 }',
    })
    const config = rig.read('vlb.yaml')
    for (const root of ['3', 'LABEL=second', 'UUID=none']) {
      rig.write({ 'vlb.yaml': `${config}disk: { root: ${root} }\n` })
      await refused(rig, ['build'], { says: `no partition matches root: ${root}`, hint: 'correct disk.root' })
    }
    for (const root of ['2', 'LABEL=second root', 'UUID=11111111-2222-3333-4444-555555555555']) {
      rig.write({ 'vlb.yaml': `${config}disk: { root: "${root}" }\n`.replace('"2"', '2') })
      expect(await rig.build(), root).toEqual(['10_a built'])
      rig.tool('qemu-img', 'convert', '-O', 'raw', rig.path('build/image.qcow2'), rig.path('build/i.raw'))
      const cat = (at: number) => rig.tool('debugfs', '-R', 'cat /a', `${rig.path('build/i.raw')}?offset=${at}`)
      expect(cat(offset)).toBe('built\n')
      expect(cat(2 ** 20)).toBe('')
    }
  })

  rigTest('is larger than disk.size', async (rig) => {
    projectOn(rig, 'base.raw', 'disk: { size: 32M }\n')
    copyFileSync(inject('tinyDisk'), rig.path('base.raw'))
    await refused(rig, ['build'], {
      says: 'disk.size of 32.0 MiB is less than the 50.0 MiB of the disk',
      hint: 'raise disk.size in vlb.yaml to 50M or more',
    })
  })

  rigTest('cannot be grown, for its root is not the last partition', async (rig) => {
    projectOn(rig, 'base.raw', 'disk: { size: 200M, root: 1 }\n')
    disk(rig, { twins: true })
    await refused(rig, ['build'], {
      says: 'the root partition 1 cannot grow: partition 2 lies behind it',
      hint: 'leave disk.size out',
    })
  })
})

rigTest('an image to boot that names other files of the host is refused before qemu has it', async (rig) => {
  projectOn(rig, 'base.raw')
  const description = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
  rig.write({ 'x.vmdk': `${description}RW 2048 FLAT "/etc/passwd" 0\n` })
  await refused(rig, ['test-boot', 'x.vmdk'], { says: 'x.vmdk is not booted: it is no sparse VMDK', hint: 'qemu-img' })
})
