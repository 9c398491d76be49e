// The programs we call, which packages bring them, and how this host installs packages.
import { constants, readFileSync } from 'node:fs'
import { access } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { childEnvironment } from './env.ts'

export type Manager = 'apt' | 'dnf' | 'pacman' | 'zypper' | 'apk'
type Packages = Partial<Record<Manager, string>>

export interface Tool {
  name: string
  packages: Packages
  /** Needed for every build; otherwise for what `neededFor` says. */
  required: boolean
  neededFor: string
  /** Other programs that do as well. */
  alternatives?: readonly string[]
  /** Arguments that make it print its version, and the oldest that will do. */
  version?: { args: string[]; atLeast: string }
}

const utilLinux: Packages = {
  apt: 'util-linux',
  dnf: 'util-linux',
  pacman: 'util-linux',
  zypper: 'util-linux',
  apk: 'util-linux',
}
const mountTools: Packages = { ...utilLinux, apt: 'mount' }
const sfdisk: Packages = { ...utilLinux, apt: 'fdisk', apk: 'sfdisk' }

function tool(name: string, packages: Packages, neededFor: string, more: Partial<Tool> = {}): Tool {
  return { name, packages, required: false, neededFor, ...more }
}
const needed = { required: true }

export const tools: readonly Tool[] = [
  tool('git', { apt: 'git', dnf: 'git', pacman: 'git', zypper: 'git', apk: 'git' }, 'everything', {
    ...needed,
    version: { args: ['--version'], atLeast: '2.31' },
  }),
  tool('bash', { apt: 'bash', dnf: 'bash', pacman: 'bash', zypper: 'bash', apk: 'bash' }, 'the sandbox', needed),
  tool(
    'qemu-img',
    { apt: 'qemu-utils', dnf: 'qemu-img', pacman: 'qemu-img', zypper: 'qemu-img', apk: 'qemu-img' },
    'snapshots and images',
    {
      ...needed,
      version: { args: ['--version'], atLeast: '6.0' },
    },
  ),
  tool(
    'qemu-storage-daemon',
    {
      apt: 'qemu-system-common',
      dnf: 'qemu-img',
      pacman: 'qemu-block-gluster qemu-tools',
      zypper: 'qemu-tools',
      apk: 'qemu-storage-daemon',
    },
    'attaching a snapshot by FUSE',
    { ...needed, version: { args: ['--version'], atLeast: '6.0' } },
  ),
  tool(
    'qemu-nbd',
    { apt: 'qemu-utils', dnf: 'qemu-img', pacman: 'qemu-img', zypper: 'qemu-tools', apk: 'qemu-tools' },
    'attaching a snapshot by nbd, where FUSE does not work',
  ),
  tool('unshare', utilLinux, 'private namespaces', needed),
  tool('setpriv', utilLinux, 'children that end with us', needed),
  tool('flock', utilLinux, 'locks', needed),
  tool('mount', mountTools, 'the root file system of a layer', needed),
  tool('umount', mountTools, 'the root file system of a layer', needed),
  tool('losetup', mountTools, 'the root file system of a layer', needed),
  tool('fstrim', utilLinux, 'small snapshots', needed),
  tool('pivot_root', utilLinux, 'the sandbox', needed),
  tool('blkid', utilLinux, 'finding file systems', needed),
  tool('sfdisk', sfdisk, 'reading and growing partition tables', needed),
  tool(
    'resize2fs',
    { apt: 'e2fsprogs', dnf: 'e2fsprogs', pacman: 'e2fsprogs', zypper: 'e2fsprogs', apk: 'e2fsprogs-extra' },
    'growing ext4',
  ),
  tool(
    'xfs_growfs',
    { apt: 'xfsprogs', dnf: 'xfsprogs', pacman: 'xfsprogs', zypper: 'xfsprogs', apk: 'xfsprogs-extra' },
    'growing xfs',
  ),
  tool(
    'btrfs',
    { apt: 'btrfs-progs', dnf: 'btrfs-progs', pacman: 'btrfs-progs', zypper: 'btrfsprogs', apk: 'btrfs-progs' },
    'growing btrfs',
  ),
  tool(
    'getfattr',
    { apt: 'attr', dnf: 'attr', pacman: 'attr', zypper: 'attr', apk: 'attr' },
    'git vlb diff: extended attributes',
  ),
  tool(
    'filefrag',
    { apt: 'e2fsprogs', dnf: 'e2fsprogs', pacman: 'e2fsprogs', zypper: 'e2fsprogs', apk: 'e2fsprogs-extra' },
    'git vlb diff: snapshots of one chain',
  ),
  tool('xz', { apt: 'xz-utils', dnf: 'xz', pacman: 'xz', zypper: 'xz', apk: 'xz' }, 'bases that come as .xz'),
  tool('zstd', { apt: 'zstd', dnf: 'zstd', pacman: 'zstd', zypper: 'zstd', apk: 'zstd' }, 'bases that come as .zst'),
  tool(
    'qemu-system-x86_64',
    {
      apt: 'qemu-system-x86',
      dnf: 'qemu-system-x86-core',
      pacman: 'qemu-system-x86',
      zypper: 'qemu-x86',
      apk: 'qemu-system-x86_64',
    },
    'git vlb test-boot',
  ),
  tool(
    'xorriso',
    { apt: 'xorriso', dnf: 'xorriso', pacman: 'libisoburn', zypper: 'xorriso', apk: 'xorriso' },
    'git vlb cloud-init',
    { alternatives: ['genisoimage', 'mkisofs', 'mformat'] },
  ),
  tool(
    'ssh',
    {
      apt: 'openssh-client',
      dnf: 'openssh-clients',
      pacman: 'openssh',
      zypper: 'openssh-clients',
      apk: 'openssh-client',
    },
    'git vlb test-boot --ssh',
  ),
  tool('script', { ...utilLinux, apt: 'bsdutils', dnf: 'util-linux-script' }, 'git vlb shell on a terminal'),
  tool('mmdebstrap', { apt: 'mmdebstrap debian-archive-keyring' }, 'the debian template'),
  tool('extlinux', { apt: 'extlinux' }, 'the debian template'),
  tool(
    'mke2fs',
    { apt: 'e2fsprogs', dnf: 'e2fsprogs', pacman: 'e2fsprogs', zypper: 'e2fsprogs', apk: 'e2fsprogs' },
    'the debian and busybox templates',
  ),
  tool(
    'busybox',
    { apt: 'busybox-static', dnf: 'busybox', pacman: 'busybox', zypper: 'busybox-static', apk: 'busybox-static' },
    'the busybox template',
  ),
]

/** Any one of these makes the disk of `git vlb cloud-init`. */
export const seedMakers = tools.flatMap(({ name, alternatives }) =>
  name === 'xorriso' ? [name, ...(alternatives ?? [])] : [],
)

/** Where a program is that we would start by that name. */
export async function programPath(name: string): Promise<string | undefined> {
  for (const folder of (childEnvironment()['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, name)
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path
  }
  return undefined
}

const installers: Record<Manager, string[]> = {
  apt: ['apt-get', 'install', '-y', '--no-install-recommends'],
  dnf: ['dnf', 'install', '-y'],
  pacman: ['pacman', '-S', '--needed', '--noconfirm'],
  zypper: ['zypper', 'install', '-y'],
  apk: ['apk', 'add'],
}

const families: Record<string, Manager> = {
  debian: 'apt',
  ubuntu: 'apt',
  fedora: 'dnf',
  rhel: 'dnf',
  centos: 'dnf',
  arch: 'pacman',
  suse: 'zypper',
  opensuse: 'zypper',
  alpine: 'apk',
}

/** How this host installs packages, from os-release(5). */
export function packageManager(file = '/etc/os-release'): Manager | undefined {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
  const value = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? ''
  for (const id of `${value('ID')} ${value('ID_LIKE')}`.split(' ')) {
    const manager = families[id]
    if (manager) return manager
  }
  return undefined
}

/** The arguments of the command that installs the packages of these tools; undefined where we know no way. */
export function installCommand(names: readonly string[], manager = packageManager()): string[] | undefined {
  if (!manager) return undefined
  const packages = names.flatMap((name) => tools.find((t) => t.name === name)?.packages[manager]?.split(' ') ?? [])
  return packages.length === 0 ? undefined : [...installers[manager], ...new Set(packages)]
}

/** What to tell somebody who lacks a tool. */
export function toolHint(name: string): string {
  const command = installCommand([name])
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  return command
    ? `install it: ${sudo}${command.join(' ')}`
    : `install the package that brings ${name}; git vlb doctor lists all that is needed`
}

/** Both ways to have disks attached. */
export function attachHint(manager = packageManager()): string {
  const brings = (name: string) => (manager && tools.find((t) => t.name === name)?.packages[manager]) ?? name
  const fuse = `by FUSE: modprobe fuse, and install ${brings('qemu-storage-daemon')}`
  const nbd = `by nbd: modprobe nbd max_part=0, and install ${brings('qemu-nbd')}`
  return `${fuse}; ${nbd}; git vlb doctor shows what is there already`
}

const emulators: Packages = {
  apt: 'qemu-user-static binfmt-support',
  dnf: 'qemu-user-static',
  pacman: 'qemu-user-static qemu-user-static-binfmt',
  zypper: 'qemu-linux-user',
  apk: 'qemu-openrc',
}

/** How to get programs of other machines run: qemu-user, registered with the kernel so that it opens them itself (F). */
export function emulatorHint(): string {
  return packageHint(emulators, 'install qemu-user, registered in binfmt_misc with the flag F')
}

function packageHint(names: Packages, otherwise: string): string {
  const manager = packageManager()
  const packages = manager && names[manager]
  if (!manager || !packages) return otherwise
  const sudo = process.getuid?.() === 0 ? '' : 'sudo '
  return `install it: ${sudo}${[...installers[manager], ...packages.split(' ')].join(' ')}`
}

const uefiPackages: Packages = {
  apt: 'ovmf',
  dnf: 'edk2-ovmf',
  pacman: 'edk2-ovmf',
  zypper: 'qemu-ovmf-x86_64',
  apk: 'ovmf',
}

/** How to get UEFI for guests, which is no program. */
export function firmwareHint(): string {
  return packageHint(uefiPackages, 'install OVMF, the UEFI firmware of the edk2 project')
}

const screenPackages: Packages = {
  apt: 'qemu-system-gui',
  dnf: 'qemu-ui-gtk',
  pacman: 'qemu-ui-gtk',
  zypper: 'qemu-ui-gtk',
  apk: 'qemu-ui-gtk',
}

/** How to get qemu's window. */
export function screenHint(): string {
  return packageHint(screenPackages, 'install the part of qemu that opens windows, or take --display vnc')
}
