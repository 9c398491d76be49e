// Real systems on disks of several partitions: a layer installs a kernel, and what comes out boots, from the new kernel
// and with all its partitions.
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type DebianDisk, debianDisk } from '../rig/debian-disk.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs = [
  ...['root', 'fuse', 'loop', 'tool:mmdebstrap', 'tool:extlinux', 'tool:qemu-system-x86_64'],
  ...['tool:mkfs.xfs', 'tool:mkfs.btrfs'],
] as never

const upgrade = `#!/bin/sh
set -eu
rm -f /boot/initrd.img-* /boot/extlinux/extlinux.conf
apt-get update
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \\(linux-image-.*\\)/\\1/p' | head -n 1)
apt-get install -y --reinstall --no-install-recommends linux-image-cloud-amd64 "$kernel"
update-initramfs -u -k all
apt-get clean
rm -rf /var/lib/apt/lists/*
`

// What the machine has mounted shows on its console.
const tell = `#!/bin/sh
set -eu
cat >/etc/systemd/system/tell.service <<'END'
[Unit]
RequiresMountsFor=/boot /home
Before=getty.target serial-getty@ttyS0.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for at in / /boot /home; do echo "seen: $$at $$(findmnt --noheadings --output FSTYPE,FSROOT $$at | tr -s " ")"; done; echo "seen: all"'
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
END
systemctl enable tell.service
`

/** All files below a folder of a partition of the image, as text. */
function filesOf(rig: Rig, start: number, paths: string[]): string {
  const raw = join(rig.folder, 'look.raw')
  rig.tool('qemu-img', 'convert', '-O', 'raw', rig.path('build/image.qcow2'), raw)
  return paths.map((path) => rig.tool('debugfs', '-R', path, `${raw}?offset=${start}`)).join('\n')
}

const kinds: Record<string, DebianDisk & { shown: string[] }> = {
  'ext4 on a GPT': { table: 'gpt', root: 'ext4', shown: ['/ ext4 /', '/boot ext4 /'] },
  'xfs on an MBR': { table: 'dos', root: 'xfs', shown: ['/ xfs /', '/boot ext4 /'] },
  'btrfs with subvolumes on a GPT': {
    ...{ table: 'gpt', root: 'btrfs' },
    shown: ['/ btrfs /@', '/boot ext4 /', '/home btrfs /@home'],
  },
}

for (const [name, { shown, ...kind }] of Object.entries(kinds)) {
  rigTest(
    `a separate /boot, the root as ${name}: a layer installs a kernel, and the image boots`,
    async (rig) => {
      copyFileSync(debianDisk(kind), rig.path('debian.raw'))
      rig.write({
        'vlb.yaml': 'version: 1\nbase: { path: debian.raw }\n',
        '.gitignore': '/build/\n/debian.raw\n',
        '10_kernel/build-layer': upgrade,
        '20_tell/build-layer': tell,
      })
      mkdirSync(rig.path('build'))
      rig.commit('a kernel')
      expect(await rig.build()).toEqual(['10_kernel built', '20_tell built'])
      const boot = filesOf(rig, 2 ** 20, ['ls -p /', 'cat /extlinux/extlinux.conf'])
      expect(boot).toMatch(/\/vmlinuz-[^/]*-cloud-amd64\//)
      expect(boot).toMatch(/\/initrd\.img-[^/]*-cloud-amd64\//)
      expect(boot).toMatch(/APPEND root=UUID=[0-9a-f-]{36} ro/)
      expect(boot).not.toMatch(/loop|\/dev\/|\.git|vlb/)
      if (kind.root === 'ext4') {
        const root = filesOf(rig, 256 * 2 ** 20, ['ls -p /boot', 'cat /etc/fstab'])
        expect(root, 'written below the mount point').not.toContain('vmlinuz')
        expect(root).not.toMatch(/loop|\/dev\//)
      }
      const guest = await rig.vlb(['test-boot', '--expect', 'seen: all', '--timeout', '15m'])
      expect(guest.code, guest.all).toBe(0)
      for (const line of shown) expect(guest.all).toContain(`seen: ${line}`)
    },
    needs,
  )
}

rigTest(
  'GRUB writes its menu inside a layer: by UUID, and without a word of the devices it was built with',
  async (rig) => {
    copyFileSync(debianDisk({ table: 'gpt', root: 'ext4' }), rig.path('debian.raw'))
    const script = `#!/bin/sh
set -eu
ls /dev >/before
apt-get update
apt-get install -y --no-install-recommends grub2-common grub-common grub-pc-bin
`
    rig.write({
      'vlb.yaml': 'version: 1\nbase: { path: debian.raw }\n',
      '.gitignore': '/build/\n/debian.raw\n',
      '10_grub/build-layer': script,
      '20_menu/build-layer':
        '#!/bin/sh\nset -eu\ncat /before\nmkdir -p /boot/grub\nupdate-grub 2>&1\ngrub-probe --target=fs_uuid /boot\n',
    })
    rig.commit('GRUB')
    expect(await rig.build()).toEqual(['10_grub built', '20_menu built'])
    const log = await rig.ok('log', '20_menu')
    expect(log).not.toMatch(/error|warning/i)
    expect(log.split('Generating')[0], 'devices where there is no GRUB').not.toMatch(/loop|vlb|disk/)
    const menu = filesOf(rig, 2 ** 20, ['cat /grub/grub.cfg'])
    expect(menu).toMatch(/linux\s+\/vmlinuz-\S+ root=UUID=[0-9a-f-]{36} ro/)
    expect(menu).toContain(`--set=root ${log.trim().split('\n').at(-1)}`)
    expect(menu).not.toMatch(/loop|\/dev\/|vlb/)
  },
  needs,
)
