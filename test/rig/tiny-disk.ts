// Tiny disks with a busybox root file system, made without mounting anything.
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TinyDiskOptions {
  /** none: the file system fills the disk. */
  table?: 'dos' | 'gpt' | 'none'
  fs?: 'ext4' | 'xfs' | 'btrfs'
  /** Size of the root file system in MiB; xfs and btrfs need more than ext4. */
  mebibytes?: number
  /** A second partition with the same content, so that two could be the root. */
  twins?: boolean
  /** Changes the root folder before it becomes a file system. */
  prepare?: (root: string) => void
}

const sbin = { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` }
const applets = [
  'sh',
  'ls',
  'cat',
  'echo',
  'nc',
  'sleep',
  'id',
  'env',
  'ps',
  'rm',
  'mkdir',
  'ln',
  'cp',
  'mv',
  'chmod',
  'touch',
  'dd',
  'grep',
  'sed',
  'stat',
  'readlink',
  'setsid',
  'seq',
  'head',
  'find',
  'sort',
  'wc',
  'true',
  'false',
  'date',
  'hostname',
  'mount',
  'df',
  'sync',
  'kill',
  'test',
  'tr',
  'md5sum',
  'ip',
  'basename',
  'mknod',
]

/** Writes a raw disk to `path` and returns `path`. */
export function tinyDisk(path: string, options: TinyDiskOptions): string {
  const { table = 'dos', fs = 'ext4', mebibytes = fs === 'ext4' ? 48 : 320, twins = false } = options
  const work = mkdtempSync(join(tmpdir(), 'vlb-tiny-'))
  try {
    const root = join(work, 'root')
    makeRoot(root)
    options.prepare?.(root)
    const part = join(work, 'part')
    makeFileSystem(fs, root, part, mebibytes)
    if (table === 'none') copyFileSync(part, path)
    else {
      const count = twins ? 2 : 1
      execFileSync('truncate', ['-s', `${mebibytes * count + 2}M`, path])
      const lines = Array.from({ length: count }, (_, i) => `start=${1 + i * mebibytes}MiB, size=${mebibytes}MiB`)
      execFileSync('sfdisk', ['--quiet', path], { input: `label: ${table}\n${lines.join('\n')}\n`, env: sbin })
      for (let i = 0; i < count; i++)
        execFileSync('dd', [
          `if=${part}`,
          `of=${path}`,
          'bs=1M',
          `seek=${1 + i * mebibytes}`,
          'conv=notrunc,sparse',
          'status=none',
        ])
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return path
}

export function makeRoot(root: string): void {
  for (const name of ['bin', 'dev', 'etc', 'mnt', 'proc', 'root', 'run', 'sys', 'tmp', 'usr/bin', 'usr/sbin', 'var'])
    mkdirSync(join(root, name), { recursive: true })
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'))
  chmodSync(join(root, 'bin/busybox'), 0o755)
  for (const applet of applets) symlinkSync('busybox', join(root, 'bin', applet))
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n')
  writeFileSync(join(root, 'etc/os-release'), 'ID=tiny\n')
  writeFileSync(join(root, 'etc/resolv.conf'), 'nameserver 192.0.2.1\n')
}

export function makeFileSystem(fs: 'ext4' | 'xfs' | 'btrfs', root: string, part: string, mebibytes: number): void {
  execFileSync('truncate', ['-s', `${mebibytes}M`, part])
  if (fs === 'ext4') execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', root, part], { env: sbin })
  else if (fs === 'btrfs') execFileSync('mkfs.btrfs', ['-q', '--rootdir', root, part], { env: sbin })
  else {
    // mkfs.xfs takes no folder; its prototype file (mkfs.xfs(8), -p) would need one line per file.
    execFileSync('mkfs.xfs', ['-q', part], { env: sbin })
    const script = 'mkdir "$2.m" && mount -o loop "$2" "$2.m" && cp -a "$1/." "$2.m/" && umount "$2.m" && rmdir "$2.m"'
    execFileSync('unshare', ['--mount', 'sh', '-ec', script, 'sh', root, part], { env: sbin })
  }
}
