// Disks as they are in the world: several partitions, other file systems, subvolumes. What the image's own fstab names
// is mounted while a script runs, and nothing else of it or of the host is touched.
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { disk, type Part } from '../rig/disk.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const tools = ['root', 'fuse', 'loop', 'tool:mkfs.xfs', 'tool:mkfs.btrfs', 'tool:sfdisk', 'tool:mke2fs'] as const

/** A root partition with that fstab. */
function root(fstab: string, more: Partial<Part> = {}): Part {
  const fill = (folder: string) => {
    writeFileSync(join(folder, 'etc/fstab'), fstab)
    more.fill?.(folder)
  }
  return { fs: 'ext4', mebibytes: 48, root: true, ...more, fill }
}

function project(rig: Rig, table: 'gpt' | 'dos', parts: Part[], layers: Parameters<Rig['project']>[0], config = '') {
  rig.project(layers, config)
  disk(rig.path('tiny.raw'), table, parts)
  rig.commit()
}

const lines = (text: string): string[] => text.split('\n').filter(Boolean)

/** Where and how things are mounted, but for what the sandbox itself mounts: "PLACE FILESYSTEM OPTIONS". */
const showMounts = `while read -r _ _ _ at place options more; do
  fs=\${more#*- }; fs=\${fs%% *}
  case $place in /dev*|/proc*|/sys*|/run*|/tmp*|/mnt) ;; *) echo "$place $fs $options" ;; esac
done < /proc/self/mountinfo | sort`

rigTest(
  'every name that fstab may give a partition, on a GPT, parents before children',
  async (rig) => {
    const fstab = `# a comment
LABEL=root / ext4 errors=remount-ro 0 1
/dev/disk/by-label/vär\\x20x /home auto defaults,nosuid,exec 0 2
/dev/sda2 /boot ext4 ro 0 2

PARTLABEL="the\\040var" /var xfs rw,data=nonsense,uid=7 0 2
LABEL=log	/var/log	btrfs	compress=zstd,subvol=/	0	0
/dev/sda6 none swap sw 0 0
UUID=0-0 /gone ext4 defaults 0 2
tmpfs /scratch tmpfs size=1g 0 0
/var/log /srv none bind 0 0
host:/export /net nfs defaults 0 0
/dev/loop0 /loop ext4 defaults 0 0
/etc/shadow /shadow ext4 loop 0 0
/dev/sda2 /tmp ext4 defaults 0 0
/dev/sda2 /../../up ext4 defaults 0 0
garbage
`
    project(
      rig,
      'gpt',
      [
        root(fstab, { label: 'root' }),
        { fs: 'ext4', mebibytes: 8, fill: (folder) => writeFileSync(join(folder, 'kernel'), 'k') },
        { fs: 'ext4', mebibytes: 8, label: 'vär x' },
        { fs: 'xfs', mebibytes: 320, name: 'the var', fill: (folder) => mkdirSync(join(folder, 'log')) },
        { fs: 'btrfs', mebibytes: 120, label: 'log' },
        { fs: 'swap', mebibytes: 8 },
      ],
      {
        '10_a': `${showMounts}\necho a > /home/a; echo a > /var/a; echo a > /var/log/a; cat /boot/kernel; echo; echo > /boot/a || echo read-only`,
        '20_b': 'cat /home/a /var/a /var/log/a; ls / | tr "\\n" " "',
      },
    )
    await rig.build()
    expect(lines(await rig.ok('log', '10_a'))).toEqual([
      'git vlb: not mounted at /gone: /etc/fstab:9, UUID=0-0 is not on this disk',
      'git vlb: not mounted at /tmp: /etc/fstab:15, git vlb has something of its own there',
      '/ ext4 rw,nodev,noatime',
      '/boot ext4 ro,nodev,noatime',
      '/home ext4 rw,nodev,noatime',
      '/var xfs rw,nodev,noatime',
      '/var/log btrfs rw,nodev,noatime',
      'k',
      expect.stringMatching(/Read-only file system/),
      'read-only',
    ])
    const second = await rig.ok('log', '20_b')
    expect(second).toContain('a\na\na\n')
    // Mount points are made and stay; those of what is not mounted are not made.
    expect(second.split('\n').at(-1)?.split(' ')).toEqual(expect.arrayContaining(['boot', 'home']))
    expect(second.split('\n').at(-1)).not.toMatch(/gone|scratch|shadow|net|loop|up\b/)
    const image = rig.path('build/image.qcow2')
    rig.tool('qemu-img', 'check', '-q', image)
    // Written to their own file systems, not below the mount points.
    for (const path of ['/home/a', '/var/a', '/boot/a']) expect(rig.readFromImage(image, path), path).toBe('')
  },
  tools,
)

rigTest(
  'an MBR with logical partitions: mounted, and the last of them grows as the root',
  async (rig) => {
    project(
      rig,
      'dos',
      [
        { fs: 'ext4', mebibytes: 8 },
        { fs: 'extended', mebibytes: 59 },
        { fs: 'ext4', mebibytes: 8, number: 5 },
        root('/dev/vda1 /boot ext4 defaults 0 0\n/dev/vda5 /home ext4 defaults 0 0\n', { number: 6 }),
      ],
      { '10_a': `${showMounts}; stat -f -c "%b %S" /` },
      'disk: { size: 300M }\n',
    )
    expect(await rig.build()).toEqual(['disk built', '10_a built'])
    const log = lines(await rig.ok('log', '10_a'))
    expect(log.slice(0, -1)).toEqual(['/', '/boot', '/home'].map((place) => `${place} ext4 rw,nodev,noatime`))
    const [blocks = 0, size = 0] = (log.at(-1) ?? '').split(' ').map(Number)
    expect(blocks * size).toBeGreaterThan(200 * 2 ** 20)
    const raw = join(rig.folder, 'x.raw')
    rig.tool('qemu-img', 'convert', '-O', 'raw', rig.path('build/image.qcow2'), raw)
    expect(rig.tool('sfdisk', '--verify', raw)).toContain('No errors detected')
  },
  tools,
)

rigTest(
  'a layer may change fstab: the next one finds what it says',
  async (rig) => {
    const show = `${showMounts}; cat /data/x /old/x 2>/dev/null; true`
    project(rig, 'gpt', [root('/dev/vda2 /old ext4 defaults 0 0\n'), { fs: 'ext4', mebibytes: 8, label: 'data' }], {
      '10_a': `echo of-old > /old/x; echo "LABEL=data /data ext4 defaults 0 0" > /etc/fstab; ${show}`,
      '20_b': show,
      '30_c': 'rm /etc/fstab',
      '40_d': show,
    })
    await rig.build()
    const mounted = async (layer: string) => lines(await rig.ok('log', layer)).map((line) => line.split(' ')[0])
    expect(await mounted('10_a')).toEqual(['/', '/old', 'of-old'])
    expect(await mounted('20_b')).toEqual(['/', '/data', 'of-old'])
    expect(await mounted('40_d')).toEqual(['/'])
    // Space that was given back is given back in every file system.
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/data/x')).toBe('')
  },
  tools,
)

rigTest(
  'what is deleted on any of the file systems does not stay in the snapshot',
  async (rig) => {
    const junk = (place: string) => `dd if=/dev/urandom of=${place}/junk bs=1048576 count=5; sync; rm ${place}/junk`
    project(
      rig,
      'gpt',
      [root('/dev/vda2 /a ext4\n/dev/vda3 /b xfs\n'), { fs: 'ext4', mebibytes: 16 }, { fs: 'xfs', mebibytes: 320 }],
      { '10_a': `${junk('/a')}; ${junk('/b')}; ${junk('/root')}` },
    )
    const { layers } = await rig.json('build')
    expect(layers[0].bytes).toBeLessThan(6 * 2 ** 20)
  },
  tools,
)

rigTest(
  'many small files that are deleted again do not stay in it either; what is kept is whole',
  async (rig) => {
    const many = 'i=0; while [ $i -lt 1500 ]; do head -c 8192 /dev/urandom >/many/$i; i=$((i + 1)); done'
    project(rig, 'gpt', [root('')], {
      '10_deleted': `mkdir /many; ${many}; sync; rm /many/*[13579]; sync; rm -r /many; head -c 1000000 /dev/zero | tr '\\0' x >/kept`,
      '20_kept': 'head -c 9000000 /dev/zero | tr "\\0" y >/more',
    })
    const { layers } = await rig.json('build')
    expect(layers[0].bytes).toBeLessThan(5 * 2 ** 20)
    const image = rig.path('build/image.qcow2')
    expect(rig.readFromImage(image, '/kept')).toBe('x'.repeat(1_000_000))
    expect(rig.debugfs(image, 'stat /more')).toContain('Size: 9000000')
  },
  tools,
)

rigTest(
  'mount points by way of links stay inside the image; /run and the kernel’s places are not covered',
  async (rig) => {
    const outside = mkdtempSync('/var/tmp/vlb-outside-')
    project(
      rig,
      'gpt',
      [
        root('/dev/vda2 /evil/x ext4\n/dev/vda2 /up ext4\n/dev/vda2 /var/run/x ext4\n/dev/vda2 /p ext4\n', {
          fill: (folder) => {
            symlinkSync(outside, join(folder, 'evil'))
            symlinkSync('../../../../../../srv', join(folder, 'up'))
            symlinkSync('../run', join(folder, 'var/run'))
            symlinkSync('proc', join(folder, 'p'))
          },
        }),
        { fs: 'ext4', mebibytes: 8 },
      ],
      { '10_a': showMounts },
    )
    await rig.build()
    const log = lines(await rig.ok('log', '10_a'))
    expect(log.filter((line) => line.startsWith('git vlb'))).toEqual([
      expect.stringContaining('not mounted at /p'),
      expect.stringContaining('not mounted at /var/run/x'),
    ])
    expect(log.filter((line) => line.startsWith('/')).map((line) => line.split(' ')[0])).toEqual([
      '/',
      '/srv',
      `${outside}/x`,
    ])
    expect(readdirSync(outside)).toEqual([])
    rmdirSync(outside)
  },
  tools,
)

const efi: Part = { fs: 'fat', mebibytes: 16 }
const knowsFat = (rig: Rig) => rig.tool('cat', '/proc/filesystems').includes('vfat')

rigTest(
  'a partition that this kernel cannot mount is an error that names it, unless fstab says nofail or noauto',
  async (rig) => {
    project(rig, 'gpt', [root('/dev/vda2 /boot/efi vfat umask=0077 0 1\n'), efi], { '10_a': showMounts })
    const ran = await rig.vlb(['build'])
    if (knowsFat(rig)) expect(ran.code, ran.all).toBe(0)
    else {
      expect(ran.code, ran.all).toBe(3)
      expect(ran.stderr).toContain('cannot mount /etc/fstab:1: partition 2 (vfat) at /boot/efi')
      expect(ran.stderr).toContain('modprobe vfat')
    }
    for (const option of ['nofail', 'noauto,x-systemd.automount']) {
      project(rig, 'gpt', [root(`/dev/vda2 /boot/efi vfat ${option} 0 1\n`), efi], { '10_a': showMounts })
      await rig.build()
      const log = await rig.ok('log', '10_a')
      if (!knowsFat(rig)) expect(log).toContain('git vlb: not mounted at /boot/efi: /etc/fstab:1: partition 2 (vfat)')
      expect(log).toContain('\n/ ext4')
      expect(rig.debugfs(rig.path('build/image.qcow2'), 'stat /boot/efi'), 'no trace of it').toBe('')
    }
  },
  tools,
)

rigTest(
  'fstabs that cannot be followed are refused: no file system, two of one name, too many, too long',
  async (rig) => {
    const data: Part = { fs: 'ext4', mebibytes: 8, label: 'twin' }
    const cases: [fstab: string, said: string][] = [
      ['/dev/vda4 /blank ext4\n', 'partition 4 (no file system) cannot be mounted'],
      ['LABEL=twin /twin ext4\n', 'LABEL=twin, which is both partition 2 and 3'],
      [Array.from({ length: 101 }, (_, i) => `/dev/vda2 /many/${i} ext4\n`).join(''), 'more than 100 partitions'],
      ['# padding\n'.repeat(1_000_000), 'longer than 65536 bytes'],
    ]
    for (const [fstab, said] of cases) {
      project(rig, 'gpt', [root(fstab), data, data, { fs: 'blank', mebibytes: 8 }], { '10_a': 'true' })
      const ran = await rig.vlb(['build'])
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining(said)])
    }
    // A pipe in its place is not waited for, and a link out of the image not followed.
    writeFileSync(join(rig.folder, 'fstab'), '/dev/vda2 /of-the-host ext4\n')
    for (const put of [
      (etc: string) => rig.tool('mkfifo', join(etc, 'fstab')),
      (etc: string) => symlinkSync(join(rig.folder, 'fstab'), join(etc, 'fstab')),
    ]) {
      const fill = (folder: string) => {
        rmSync(join(folder, 'etc/fstab'))
        put(join(folder, 'etc'))
      }
      project(rig, 'gpt', [root('', { fill }), data], { '10_a': showMounts })
      await rig.build()
      expect(await rig.ok('log', '10_a')).toBe('/ ext4 rw,nodev,noatime\n')
    }
  },
  tools,
)

interface BtrfsCase {
  fstab: string
  subvolumes: string[]
  root: string
  defaultSubvolume?: string
  shown: string[]
}

const btrfs: Record<string, BtrfsCase> = {
  'found by what it says of itself (Ubuntu, Debian)': {
    fstab: 'LABEL=sys / btrfs defaults,subvol=@ 0 0\nLABEL=sys /home btrfs defaults,subvol=/@home 0 0\n',
    subvolumes: ['@', '@home', '@snap'],
    root: '@',
    shown: ['/ /@', '/home /@home'],
  },
  'the only one (Fedora)': {
    fstab: 'LABEL=sys /home btrfs subvol=home,compress=zstd:1 0 0\n',
    subvolumes: ['root', 'home'],
    root: 'root',
    shown: ['/ /root', '/home /home'],
  },
  'the default one (openSUSE)': {
    fstab: 'LABEL=sys / btrfs defaults 0 0\nLABEL=sys /var btrfs subvol=@/var 0 0\n',
    subvolumes: ['@', '@/var', '@/snap'],
    root: '@/snap',
    defaultSubvolume: '@/snap',
    shown: ['/ /@/snap', '/var /@/var'],
  },
}

for (const [name, { fstab, subvolumes, root: at, defaultSubvolume, shown }] of Object.entries(btrfs)) {
  rigTest(
    `btrfs, the root's subvolume: ${name}`,
    async (rig) => {
      const fill = (folder: string) => {
        const inner = join(folder, at)
        mkdirSync(inner, { recursive: true })
        for (const entry of ['bin', 'dev', 'etc', 'mnt', 'proc', 'root', 'run', 'sys', 'tmp', 'usr', 'var'].filter(
          (n) => n !== at,
        ))
          rig.tool('mv', join(folder, entry), inner)
        writeFileSync(join(inner, 'etc/fstab'), fstab)
      }
      const part: Part = { fs: 'btrfs', mebibytes: 320, root: true, label: 'sys', subvolumes, fill }
      project(rig, 'gpt', [defaultSubvolume ? { ...part, defaultSubvolume } : part], {
        '10_a': `while read -r _ _ _ at place _; do case $place in /|/home|/var) echo "$place $at" ;; esac; done < /proc/self/mountinfo | sort; echo x > /home/x || mkdir /home; echo x > /var/x`,
        '20_b': 'cat /home/x /var/x; true',
      })
      await rig.build()
      expect(
        lines(await rig.ok('log', '10_a')).filter((line) => line.startsWith('/ ') || /^\/\S+ \//.test(line)),
      ).toEqual(shown)
      expect(await rig.ok('log', '20_b')).toContain('x\n')
    },
    tools,
  )
}

rigTest(
  'btrfs: several subvolumes that could be the root are named',
  async (rig) => {
    const fill = (folder: string) => {
      for (const name of ['a', 'b']) {
        mkdirSync(join(folder, name))
        rig.tool('cp', '-a', join(folder, 'etc'), join(folder, 'bin'), join(folder, name))
      }
      rmSync(join(folder, 'etc'), { recursive: true })
    }
    project(rig, 'gpt', [{ fs: 'btrfs', mebibytes: 320, root: true, subvolumes: ['a', 'b'], fill }], { '10_a': 'true' })
    const ran = await rig.vlb(['build'])
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining('2 subvolumes could be the root: a, b')])
    expect(ran.stderr).toContain('btrfs subvolume set-default')
  },
  tools,
)

rigTest(
  'a separate /usr: the root is found, and the programs are there',
  async (rig) => {
    const fill = (folder: string) => {
      rmSync(join(folder, 'bin'), { recursive: true })
      rmSync(join(folder, 'usr'), { recursive: true })
      mkdirSync(join(folder, 'usr'))
      symlinkSync('usr/bin', join(folder, 'bin'))
    }
    const usr: Part = {
      ...{ fs: 'ext4', mebibytes: 16, root: true },
      fill: (folder) => {
        rig.tool('sh', '-c', 'cd "$1"; rm -r usr/bin; rm -rf etc dev mnt proc root run sys tmp var usr', 'sh', folder)
      },
    }
    project(rig, 'dos', [root('/dev/vda2 /usr ext4 defaults 0 2\n', { fill }), usr], { '10_a': showMounts })
    await rig.build()
    expect(await rig.ok('log', '10_a')).toBe('/ ext4 rw,nodev,noatime\n/usr ext4 rw,nodev,noatime\n')
  },
  tools,
)

rigTest('bind: files of the layer elsewhere, as a private copy, gone afterwards', async (rig) => {
  const script = `#!/bin/sh
# vlb: bind conf /etc/app/conf
# chroot-bind-mount one.txt /srv/one.txt
# vlb: bind . /tmp/all
# vlb: bind link /opt/link
cat /etc/app/conf/a /srv/one.txt /tmp/all/conf/a /opt/link
echo changed > /etc/app/conf/a; echo changed > /srv/one.txt; touch /etc/app/own; ls /mnt/conf; cat /mnt/one.txt
`
  rig.project({ '10_a': { 'build-layer': script, 'conf/a': 'in a\n', 'one.txt': 'one\n' } })
  symlinkSync('/conf/a', rig.path('10_a/link'))
  rig.commit()
  await rig.build()
  expect(lines(await rig.ok('log', '10_a'))).toEqual(['in a', 'one', 'in a', 'in a', 'a', 'changed'])
  const image = rig.path('build/image.qcow2')
  expect(rig.debugfs(image, 'ls -p /etc/app')).toContain('/own/')
  for (const gone of ['/srv', '/opt', '/etc/app/conf']) expect(rig.debugfs(image, `stat ${gone}`), gone).toBe('')
  expect(rig.read('10_a/one.txt')).toBe('one\n')
})

rigTest('bind: what is wrong names file and line', async (rig) => {
  const cases: [directive: string, said: string][] = [
    ['bind missing /srv', '10_a/build-layer:2: missing is not in the layer'],
    ['bind out /srv', '10_a/build-layer:2: out is not in the layer'],
    ['bind ../x /srv', '10_a/build-layer:2: bind takes a path inside'],
    ['bind a', '10_a/build-layer:2: bind takes SRC TARGET'],
    ['bind a srv', '10_a/build-layer:2: bind takes SRC TARGET'],
    ['bind a /proc/x', '10_a/build-layer:2: nothing can be mounted at /proc/x'],
    ['bind a /', '10_a/build-layer:2: nothing can be mounted at /'],
    ['mount 7 /srv', '10_a/build-layer:2: no partition is 7'],
    ['mount LABEL=x /srv', '10_a/build-layer:2: no partition is LABEL=x'],
    ['mount p1', '10_a/build-layer:2: mount takes PARTITION TARGET'],
  ]
  for (const [directive, said] of cases) {
    rig.project({ '10_a': { 'build-layer': `#!/bin/sh\n# vlb: ${directive}\n`, a: '' } })
    symlinkSync(rig.folder, rig.path('10_a/out'))
    rig.commit()
    const ran = await rig.vlb(['build'])
    expect([ran.code, ran.stderr], directive).toEqual([2, expect.stringContaining(said)])
    rmSync(rig.path('10_a'), { recursive: true })
  }
})

rigTest(
  'mount: another partition, also below /mnt and instead of what fstab says; its mount point goes again',
  async (rig) => {
    project(
      rig,
      'gpt',
      [root('/dev/vda2 /boot ext4\n'), { fs: 'ext4', mebibytes: 8, label: 'b' }, { fs: 'xfs', mebibytes: 320 }],
      {
        '10_a': `# vlb: mount LABEL=b /data/deep\n# chroot-mount p3 /boot\n${showMounts}; echo b > /data/deep/b; echo c > /boot/c`,
        '20_b':
          '# vlb: mount 3 /mnt/three\n# vlb: mount p2 /run/two\ncat /mnt/three/c /run/two/b /boot/b; ls -d /data || true',
      },
    )
    await rig.build()
    expect(lines(await rig.ok('log', '10_a'))).toEqual([
      '/ ext4 rw,nodev,noatime',
      '/boot xfs rw,nodev,noatime',
      '/data/deep ext4 rw,nodev,noatime',
    ])
    expect(lines(await rig.ok('log', '20_b'))).toEqual(['c', 'b', 'b', expect.stringContaining('No such file')])
  },
  tools,
)
