// Disks that mean harm to the host they are built on: links that lead out of them, fifos and devices where files are expected,
// files without end, file systems that are damaged or ask the kernel for what it must not do.
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect } from 'vitest'
import { leavesHostAlone } from '../rig/host-state.ts'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

/** A test on a base of its own; the host is looked at before and after. */
function hostile(name: string, body: (rig: Rig) => Promise<void>): void {
  rigTest(name, async (rig) => await leavesHostAlone(async () => await body(rig)))
}

type Prepare = (root: string) => void

function projectOn(rig: Rig, prepare: Prepare, script = 'echo built > /built'): string {
  rig.project({ '10_a': script })
  rmSync(rig.path('tiny.raw'))
  tinyDisk(rig.path('tiny.raw'), { prepare })
  rig.commit()
  return `${rig.path('tiny.raw')}?offset=${2 ** 20}`
}

/** Puts something else where a file or folder of the image is. */
function instead(root: string, path: string, make: (place: string) => void): void {
  const place = join(root, path)
  rmSync(place, { recursive: true, force: true })
  mkdirSync(dirname(place), { recursive: true })
  make(place)
}

const fifo = (place: string) => execFileSync('mkfifo', [place])
const device = (place: string) => execFileSync('mknod', [place, 'c', '1', '5'])

/** A folder of the host with something in it for every place that a link may lead to. */
function trap(rig: Rig): string {
  const folder = join(rig.folder, 'trap')
  for (const name of ['log', 'dpkg', 'basic.target.wants', 'apt/lists'])
    mkdirSync(join(folder, name), { recursive: true })
  for (const name of [
    'machine-id',
    'resolv.conf',
    'fstab',
    'passwd',
    'policy-rc.d',
    'invoke-rc.d',
    'random-seed',
    'status',
  ])
    writeFileSync(join(folder, name), `${name} of the host\n`)
  for (const name of ['ssh_host_rsa_key', 'log/syslog', 'apt/lists/x', '.bash_history', 'vlb-checks.service'])
    writeFileSync(join(folder, name), `${name} of the host\n`)
  return folder
}

/** Names and contents of all that is in it. */
const contents = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true }).map((entry) => {
    const path = join(entry.parentPath, entry.name)
    return entry.isFile() ? `${path}: ${readFileSync(path, 'utf8')}` : path
  })

describe('what is mounted on', () => {
  const links: Record<string, (rig: Rig) => (place: string) => void> = {
    'a link to a folder of the host': (rig) => (place) => symlinkSync(trapOf(rig), place),
    'a link that climbs out': (rig) => (place) => symlinkSync(`../../../../../../../../../../..${trapOf(rig)}`, place),
    'a link to itself': () => (place) => symlinkSync(place.split('/').at(-1) ?? '', place),
    'a fifo': () => fifo,
    'a device': () => device,
  }
  const trapOf = (rig: Rig) => join(rig.folder, 'trap')
  const cases = [
    ...Object.keys(links).map((kind) => ['mnt', kind] as const),
    ...['proc', 'sys', 'dev', 'run', 'tmp'].map((name) => [name, 'a link to a folder of the host'] as const),
  ]
  for (const [name, kind] of cases) {
    hostile(`/${name} is ${kind}: refused`, async (rig) => {
      const folder = trap(rig)
      const before = contents(folder)
      projectOn(rig, (root) => instead(root, name, links[kind]?.(rig) ?? fifo))
      await refused(rig, ['build'], { says: `/${name} in the image is no plain directory`, hint: 'e2fsck' })
      expect(contents(folder)).toEqual(before)
    })
  }
})

/** Everything else that is read or written in an image from outside. */
const places = [
  ...['etc/resolv.conf', 'etc/fstab', 'etc/machine-id', 'etc/os-release', 'etc/passwd', 'etc/ssh/ssh_host_rsa_key'],
  ...['usr/sbin/policy-rc.d', 'usr/sbin/sshd', 'usr/bin/ssh-keygen', 'usr/sbin/grub-probe', 'etc/init.d/ssh'],
  ...['etc/default/ssh', 'lib/systemd/system/ssh.service', 'lib/systemd/systemd', 'var/lib/dpkg/status'],
  ...['lib/apk/db/installed', 'var/lib/rpm/Packages', 'usr/bin/rpm', 'var/lib/systemd/random-seed', 'var/log/syslog'],
  ...['var/lib/dbus/machine-id', 'root/.bash_history', 'usr/lib/os-release', 'var/lib/pacman/local/x/desc'],
]

describe('what is read and written', () => {
  hostile('all of it is links to files of the host', async (rig) => {
    const folder = trap(rig)
    const before = contents(folder)
    projectOn(rig, (root) => {
      for (const path of places)
        instead(root, path, (place) => symlinkSync(join(folder, path.split('/').at(-1) ?? ''), place))
    })
    expect(await rig.build()).toEqual(['10_a built'])
    expect(contents(folder)).toEqual(before)
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/built')).toBe('built\n')
  })

  hostile('the folders that it lies in are links to folders of the host', async (rig) => {
    const folder = trap(rig)
    const before = contents(folder)
    const folders = [
      'usr/sbin',
      'etc/ssh',
      'var/log',
      'var/lib',
      'var/cache',
      'etc/systemd',
      'root',
      'etc/default',
      'lib',
    ]
    for (const up of ['', '../../../../../../../../../..']) {
      projectOn(rig, (root) => {
        for (const path of folders) instead(root, path, (place) => symlinkSync(`${up}${folder}`, place))
        writeFileSync(
          join(root, 'etc/passwd'),
          `root:x:0:0::/root:/bin/sh\nx:x:1:1::${folder}:/bin/sh\ny:x:1:1::/../..${folder}:/\n`,
        )
      })
      expect(await rig.build('--rebuild', '10_a')).toEqual(['10_a built'])
      expect(contents(folder)).toEqual(before)
    }
  })

  hostile('the folders that it lies in are loops of links', async (rig) => {
    projectOn(rig, (root) => {
      for (const path of ['usr/sbin', 'etc/ssh', 'etc/dropbear', 'etc/systemd', 'lib/systemd', 'var/lib', 'var/log'])
        instead(root, path, (place) => symlinkSync(path.split('/').at(-1) ?? '', place))
    })
    expect(await rig.build()).toEqual(['10_a built'])
  })

  for (const [kind, make] of [
    ['fifos', fifo],
    ['devices', device],
    ['folders', (place: string) => mkdirSync(place)],
  ] as const) {
    hostile(`all of it is ${kind}: nothing waits for them`, async (rig) => {
      projectOn(rig, (root) => {
        for (const path of places) instead(root, path, make)
      })
      expect(await rig.build()).toEqual(['10_a built'])
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/built')).toBe('built\n')
    })
  }

  hostile('all of it is 4 GB long', async (rig) => {
    projectOn(rig, (root) => {
      for (const path of places.filter((name) => name !== 'etc/fstab'))
        instead(root, path, (place) => {
          writeFileSync(place, '', { mode: 0o755 })
          truncateSync(place, 4 * 2 ** 30)
        })
    })
    expect(await rig.build()).toEqual(['10_a built'])
    const told = await rig.json('status')
    expect(told.layers[0].state).toBe('cached')
  })

  for (const [kind, fill] of [
    ['4 GB long', (place: string) => truncateSync(place, 4 * 2 ** 30)],
    ['a million lines', (place: string) => writeFileSync(place, '/dev/sda1 /x ext4 defaults 0 0\n'.repeat(1_000_000))],
  ] as const) {
    hostile(`/etc/fstab is ${kind}: refused, with what to do`, async (rig) => {
      projectOn(rig, (root) => {
        writeFileSync(join(root, 'etc/fstab'), '')
        fill(join(root, 'etc/fstab'))
      })
      await refused(rig, ['build'], { says: "the image's /etc/fstab is longer than 65536 bytes", hint: 'correct it' })
    })
  }

  hostile(
    '/etc/fstab names places of the host, devices of the host and options for the kernel: none is heeded',
    async (rig) => {
      const folder = trap(rig)
      projectOn(
        rig,
        (root) => {
          mkdirSync(join(root, 'data'))
          symlinkSync(folder, join(root, 'out'))
          const lines = [
            `/dev/sda1 ${folder} ext4 defaults 0 0`,
            '/dev/sda1 /../../../../data ext4 defaults 0 0',
            `${folder} /data none bind 0 0`,
            '/dev/loop0 /data ext4 defaults 0 0',
            '/dev/vdb /data ext4 errors=panic 0 0',
            'none /data tmpfs size=1T 0 0',
            'host:/export /data nfs defaults 0 0',
            '/swapfile none swap sw 0 0',
            '/dev/sda1 /data\u001b[2J ext4 defaults 0 0',
            '/dev/sda1 /out ext4 dev,suid,errors=panic,context=x 0 0',
          ]
          writeFileSync(join(root, 'etc/fstab'), `${lines.join('\n')}\n`)
        },
        'cat /proc/self/mountinfo',
      )
      const ran = await rig.vlb(['build'])
      expect(ran.code, ran.all).toBe(0)
      expect(ran.all).not.toMatch(/\x1b/)
      const mounts = await rig.ok('log', '10_a')
      expect(mounts).not.toMatch(/errors=panic|nfs|size=1073741824k/)
      for (const line of mounts.split('\n').filter((text) => text.includes(' ext4 /dev/loop')))
        expect(line).toContain('nodev')
      expect(readdirSync(folder)).toContain('secret'.length > 0 ? 'machine-id' : '')
    },
  )
})

hostile('names of files with line ends and escape sequences: kept as they are, and never obeyed', async (rig) => {
  const name = 'evil\n\u001b]0;title\u0007\u001b[2Jerror VLB_BUG x\nexit 0\nsealed logs 5 5'
  projectOn(
    rig,
    (root) => {
      for (const folder of ['etc', 'var/log', 'etc/ssh', 'var/lib/dpkg/status.d', 'home']) {
        mkdirSync(join(root, folder), { recursive: true })
        writeFileSync(join(root, folder, name), 'x\n')
      }
      writeFileSync(join(root, 'etc/passwd'), `x:x:1:1::/home/${name}:/bin/sh\n`)
    },
    'for at in / /etc; do for n in 1 2; do echo x > "$at/$(printf "new\\nexit 7\\n\\033[2J$n")"; done; done',
  )
  const ran = await rig.vlb(['build', '-v'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.all).not.toMatch(/[\x1b\x07]/)
  const listed = await rig.vlb(['diff', '--name-status', 'base', '10_a'])
  expect(listed.all).not.toMatch(/[\x1b\x07]/)
})

describe('the file system', () => {
  for (const [how, change] of [
    ['its superblock', ['-e', 'panic']],
    ['its default options', ['-E', 'mount_opts=errors=panic']],
  ] as const) {
    hostile(`asks the kernel to panic on errors, by ${how}: not heeded`, async (rig) => {
      const partition = projectOn(rig, () => {}, 'cat /proc/self/mountinfo')
      rig.tool('tune2fs', ...change, partition)
      await rig.build()
      const root = (await rig.ok('log', '10_a')).split('\n').find((line) => line.split(' ')[4] === '/')
      expect(root).toMatch(/,errors=remount-ro/)
      expect(root).not.toContain('panic')
    })
  }

  hostile(
    'is damaged where it is only seen in use: the kernel stops writing, and no snapshot is made of it',
    async (rig) => {
      const partition = projectOn(
        rig,
        () => {},
        'i=0; while [ $i -lt 2000 ]; do echo x > /file$i || break; i=$((i+1)); done; sync; true',
      )
      const found = rig.tool('dumpe2fs', partition)
      // What is free, and what not.
      for (const what of ['block bitmap', 'inode bitmap']) {
        const block = new RegExp(`^ +${what} at (\\d+)`, 'im').exec(found)?.[1]
        rig.tool(
          'dd',
          'if=/dev/urandom',
          `of=${rig.path('tiny.raw')}`,
          'bs=1024',
          `seek=${1024 + Number(block)}`,
          'count=1',
          'conv=notrunc',
          'status=none',
        )
      }
      const ran = await rig.vlb(['build'])
      expect(ran.code, ran.all).toBe(2)
      expect(ran.stderr).toMatch(/error: .*the image's file system is damaged: the kernel found errors in it/)
      expect(ran.stderr).toContain('e2fsck -f -n')
      expect(existsSync(rig.path('build'))).toBe(false)
    },
  )

  hostile('cannot be mounted at all', async (rig) => {
    const partition = projectOn(rig, () => {})
    rig.tool('debugfs', '-w', '-R', 'clri <2>', partition)
    await refused(rig, ['build'], {
      says: ['no partition holds a root file system', 'partition 1 (ext4, which cannot be mounted: damaged'],
      hint: 'disk',
    })
    rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}disk: { root: 1 }\n` })
    const ran = await rig.vlb(['build'])
    expect([ran.code, ran.stderr], ran.all).toEqual([
      2,
      expect.stringContaining("cannot mount the image's root file system: the ext4 on it is damaged"),
    ])
  })

  hostile('was not unmounted: its journal is replayed, in the snapshot and not in the base', async (rig) => {
    const partition = projectOn(
      rig,
      (root) => writeFileSync(join(root, 'note'), 'old\n'.repeat(256)),
      'head -n 1 /note',
    )
    const block = rig.tool('debugfs', '-R', 'blocks /note', partition).trim().split(/\s+/)[0] ?? ''
    writeFileSync(join(rig.folder, 'new'), 'new\n'.repeat(256))
    writeFileSync(join(rig.folder, 'commands'), `jo\njw -b ${block} ${join(rig.folder, 'new')}\njc\n`)
    rig.tool('debugfs', '-w', '-f', join(rig.folder, 'commands'), partition)
    expect(rig.tool('dumpe2fs', '-h', partition)).toContain('needs_recovery')
    expect(rig.tool('debugfs', '-R', 'cat /note', partition)).toMatch(/^old/)
    await rig.build()
    expect(await rig.ok('log', '10_a')).toBe('new\n')
    expect(rig.tool('debugfs', '-R', 'cat /note', partition)).toMatch(/^old/)
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/note')).toMatch(/^new/)
  })
})

hostile(
  'a unit of the name that checks use, but a link to a file of the host: that file stays as it is',
  async (rig) => {
    const folder = trap(rig)
    const before = contents(folder)
    projectOn(rig, (root) => {
      for (const path of [
        'etc/systemd/system/vlb-checks.service',
        'etc/systemd/system/basic.target.wants/vlb-checks.service',
      ])
        instead(root, path, (place) => symlinkSync(join(folder, 'vlb-checks.service'), place))
      for (const path of ['lib/systemd/systemd', 'sbin/init'])
        instead(root, path, (place) =>
          path === 'sbin/init'
            ? symlinkSync('/lib/systemd/systemd', place)
            : writeFileSync(place, '#!/bin/sh\n', { mode: 0o755 }),
        )
    })
    rig.write({ 'checks/10_a': '#!/bin/sh\n' })
    rig.commit()
    await rig.build()
    const ran = await rig.vlb(['test-boot', '--check', '--timeout', '3s'])
    expect(ran.code, ran.all).toBe(1)
    expect(contents(folder)).toEqual(before)
  },
)
