// A tiny guest that really boots: busybox on a disk of 64 MiB, with the kernel of the Debian base and an initrd of its own
// that loads the few drivers it takes. The login prompt is there some seconds after the start under TCG. BIOS starts it and,
// where that is asked for, UEFI, too.
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { debianBase } from './debian-base.ts'
import { makeRoot } from './tiny-disk.ts'
import { systemPartition } from './uefi-disk.ts'

const env = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` }
const applets = [
  'init',
  'getty',
  'stty',
  'tail',
  'mkfifo',
  'poweroff',
  'reboot',
  'yes',
  'printf',
  'tty',
  'awk',
  'udhcpc',
  'wget',
  'uptime',
]

// In the order in which they need one another.
const modules = [
  'drivers/virtio/virtio_ring',
  'drivers/virtio/virtio',
  'drivers/virtio/virtio_pci_legacy_dev',
  'drivers/virtio/virtio_pci_modern_dev',
  'drivers/virtio/virtio_pci',
  'drivers/block/virtio_blk',
]

const initScript = `#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
exec >/dev/console 2>&1
for module in ${modules.map((path) => `/${path.split('/').at(-1)}.ko`).join(' ')}; do insmod $module; done
while [ ! -b /dev/vda1 ]; do sleep 0.1; done
mount -t ext4 -o ro /dev/vda1 /root
mount --move /dev /root/dev
umount /proc
exec switch_root /root /sbin/init
`

const inittab = `::sysinit:/bin/mount -t proc proc /proc
::sysinit:/bin/mount -t sysfs sys /sys
::sysinit:/bin/mount -o remount,rw /
::sysinit:/bin/mount -t tmpfs run /run
::respawn:/bin/getty -n -l /etc/ask 115200 ttyS0
`

const kernelArguments = 'quiet panic=-1'

/**
 * Writes the raw disk to `path`. `prepare` changes its root folder. Needs root, extlinux, and the Debian base; with `uefi`
 * mtools and systemd-boot.
 */
export function tinyGuest(path: string, prepare: (root: string) => void = () => {}, { uefi = false } = {}): string {
  const work = mkdtempSync(join(tmpdir(), 'vlb-guest-'))
  try {
    const root = join(work, 'root')
    makeRoot(root)
    for (const applet of applets) symlinkSync('busybox', join(root, 'bin', applet))
    mkdirSync(join(root, 'sbin'))
    mkdirSync(join(root, 'boot'))
    symlinkSync('../bin/busybox', join(root, 'sbin/init'))
    writeFileSync(join(root, 'etc/inittab'), inittab)
    writeFileSync(join(root, 'etc/ask'), '#!/bin/sh\necho\necho "tiny login:"\nexec sleep 100000\n')
    chmodSync(join(root, 'etc/ask'), 0o755)
    const boot = join(work, 'boot')
    mkdirSync(boot)
    kernelAndInitrd(work, boot)
    writeFileSync(
      join(root, 'boot/extlinux.conf'),
      `DEFAULT linux\nLABEL linux\n KERNEL /boot/vmlinuz\n INITRD /boot/initrd\n APPEND console=ttyS0 ${kernelArguments}\n`,
    )
    prepare(root)
    install(work, root, path, uefi)
    if (uefi) {
      systemPartition(boot, espMebibytes, kernelArguments)
      copyTo(path, espStart, join(boot, 'esp'))
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return path
}

function kernelAndInitrd(work: string, boot: string): void {
  const disk = `${debianBase()}?offset=${2 ** 20}`
  const ask = (request: string) =>
    execFileSync('debugfs', ['-R', request, disk], { env, stdio: ['ignore', 'pipe', 'ignore'] })
  const version = /vmlinuz-([^/]+)/.exec(ask('ls -p /boot').toString())?.[1] ?? ''
  ask(`dump /boot/vmlinuz-${version} ${join(boot, 'vmlinuz')}`)
  const initrd = join(work, 'initrd')
  makeRoot(initrd)
  for (const applet of ['insmod', 'switch_root', 'umount']) symlinkSync('busybox', join(initrd, 'bin', applet))
  for (const module of modules) {
    ask(`dump /usr/lib/modules/${version}/kernel/${module}.ko ${join(initrd, `${module.split('/').at(-1)}.ko`)}`)
  }
  writeFileSync(join(initrd, 'init'), initScript)
  chmodSync(join(initrd, 'init'), 0o755)
  execFileSync(
    'sh',
    ['-c', 'cd "$1" && find . | busybox cpio -o -H newc | gzip -1 >"$2"', 'sh', initrd, join(boot, 'initrd')],
    {
      stdio: ['ignore', 'ignore', 'ignore'],
    },
  )
}

const mebibytes = 64
const espStart = mebibytes + 1
const espMebibytes = 32

function install(work: string, root: string, path: string, uefi: boolean): void {
  const part = join(work, 'part')
  const features =
    'none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize'
  execFileSync('truncate', ['-s', `${mebibytes}M`, part])
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-b', '4096', '-O', features, '-d', root, part], { env })
  const mount = join(work, 'mount')
  mkdirSync(mount)
  // Copied there: mke2fs makes holes where a file is zero, which extlinux cannot read.
  const script =
    'mount -o loop "$1" "$2" && cp --sparse=never "$3"/* "$2/boot" && extlinux --install --heads 255 --sectors 63 "$2/boot" && umount "$2"'
  execFileSync(
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', part, mount, join(work, 'boot')],
    {
      env,
      stdio: 'ignore',
    },
  )
  rmSync(path, { force: true })
  execFileSync('truncate', ['-s', `${espStart + (uefi ? espMebibytes : 0) + 1}M`, path])
  const table = [
    'label: dos',
    `start=1MiB, size=${mebibytes}MiB, bootable`,
    ...(uefi ? [`start=${espStart}MiB, size=${espMebibytes}MiB, type=ef`] : []),
  ]
  execFileSync('sfdisk', ['--quiet', path], { input: `${table.join('\n')}\n`, env })
  copyTo(path, 1, part)
  copyTo(path, 0, '/usr/lib/EXTLINUX/mbr.bin')
}

function copyTo(disk: string, mebibyte: number, file: string): void {
  const options = ['bs=1M', `seek=${mebibyte}`, 'conv=notrunc,sparse', 'status=none']
  execFileSync('dd', [`if=${file}`, `of=${disk}`, ...options])
}
