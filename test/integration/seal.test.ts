// The seal: what it takes away, what it leaves, and that it never reaches out of the image or into a snapshot.
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { disk } from '../rig/disk.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

const id = 'aa6bd21c5f0e4f2f9c3a5d8e7b1c0d9e'

/** Files, by step, that a machine leaves behind once it has run. What ends in / is a folder. */
const gone: Record<string, string[]> = {
  'machine-id': ['var/lib/dbus/machine-id'],
  'ssh-host-keys': [
    'etc/ssh/ssh_host_rsa_key',
    'etc/ssh/ssh_host_rsa_key.pub',
    'etc/ssh/ssh_host_ed25519_key',
    'etc/ssh/ssh_host_ed25519_key-cert.pub',
  ],
  'random-seed': [
    'var/lib/systemd/random-seed',
    'var/lib/systemd/credential.secret',
    'boot/loader/random-seed',
    'var/lib/random-seed',
    'var/lib/urandom/random-seed',
    'var/lib/misc/random-seed',
    'var/lib/seedrng/seed.credit',
  ],
  dhcp: [
    'var/lib/dhcp/dhclient.eth0.leases',
    'var/lib/dhclient/dhclient6.leases',
    'var/lib/dhcpcd/duid',
    'var/lib/dhcpcd/eth0.lease',
    'etc/dhcpcd.duid',
    'var/lib/NetworkManager/internal-x-eth0.lease',
    'var/lib/NetworkManager/secret_key',
    'var/lib/systemd/network/dhcp-server-lease/eth0',
    'var/lib/wicked/duid.xml',
  ],
  'cloud-init': [
    'var/lib/cloud/instance',
    'var/lib/cloud/instances/i-1/user-data.txt',
    'var/lib/cloud/data/instance-id',
    'var/lib/cloud/sem/config_scripts_per_once.once',
  ],
  logs: [
    'var/log/syslog.1',
    'var/log/syslog.2.gz',
    'var/log/messages-20240101',
    'var/log/dpkg.log.old',
    `var/log/journal/${id}/system.journal`,
    `var/log/journal/${id}.private/user-1000.journal`,
    'var/log/journal/remote/remote.journal',
  ],
  'package-cache': [
    'var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_InRelease',
    'var/lib/apt/lists/partial/x',
    'var/cache/apt/pkgcache.bin',
    'var/cache/apt/archives/a_1_all.deb',
    'var/cache/dnf/fedora-1/repodata/repomd.xml',
    'var/cache/yum/x86_64/a',
    'var/cache/zypp/raw/a',
    'var/cache/apk/APKINDEX.1.tar.gz',
    'var/lib/pacman/sync/core.db',
  ],
  history: [
    'root/.bash_history',
    'root/.ash_history',
    'root/.local/share/fish/fish_history',
    'home/eve/.zsh_history',
    'srv/db/.psql_history',
  ],
}

/** Emptied, by step, with their modes kept. */
const emptied: Record<string, string[]> = {
  'machine-id': ['etc/machine-id'],
  logs: [
    'var/log/syslog',
    'var/log/wtmp',
    'var/log/btmp',
    'var/log/lastlog',
    'var/log/nginx/access.log',
    'var/lib/wtmpdb/wtmp.db',
    'var/lib/lastlog/lastlog2.db',
  ],
}

const kept = [
  'etc/ssh/sshd_config',
  'etc/ssh/moduli',
  'var/lib/dhcp/dhcpd.leases',
  'var/lib/NetworkManager/NetworkManager.state',
  'var/lib/cloud/seed/nocloud/user-data',
  'var/lib/cloud/scripts/per-boot/mine',
  'var/lib/apt/lists/lock',
  'var/lib/apt/extended_states',
  'var/cache/apk/other',
  'root/.bashrc',
  'home/eve/notes',
  'tmp/mine',
  'var/tmp/mine',
]

function put(root: string, path: string, text = `in ${path}\n`, mode = 0o644): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
  chmodSync(join(root, path), mode)
}

/** A root as a machine that has run would leave it. */
function used(root: string): void {
  for (const path of [...Object.values(gone), ...Object.values(emptied), kept].flat()) put(root, path)
  put(root, 'etc/machine-id', `${id}\n`, 0o444)
  rmSync(join(root, 'var/lib/cloud/instance'))
  symlinkSync('instances/i-1', join(root, 'var/lib/cloud/instance'))
  chmodSync(join(root, 'var/log/btmp'), 0o660)
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\neve:x:1000:1000::/home/eve:/bin/sh\ndb:x:5:5::/srv/db:/bin/sh\n',
  )
}

/** A project on a tiny disk that `prepare` has changed. */
function project(rig: Rig, prepare: (root: string) => void, config = ''): void {
  rig.project({ '10_a': 'true' }, config)
  tinyDisk(rig.path('tiny.raw'), { prepare })
  rig.commit()
}

/** Every file of an image's root file system: path → type and mode, size, content's digest or link's target. */
function files(rig: Rig, image = rig.path('build/image.qcow2')): Map<string, string> {
  const raw = join(rig.folder, 'look.raw')
  rig.tool('qemu-img', 'convert', '-O', 'raw', image, raw)
  const script = `mkdir "$1.m" && mount -o ro,noload,loop,offset=1048576 "$1" "$1.m" && cd "$1.m" &&
    find . -printf '%P\\t%y %m\\t%s\\t%l\\n' | grep -v '^lost' | sort && find . -type f -exec sha256sum {} +`
  const lines = rig.tool('unshare', '--mount', 'sh', '-ec', script, 'sh', raw).split('\n')
  rmSync(raw)
  rmSync(`${raw}.m`, { recursive: true })
  const found = new Map<string, string>()
  for (const line of lines) {
    const [path, kind, size, target] = line.split('\t')
    const [, sum, name] = /^([0-9a-f]{64}) {2}\.\/(.*)$/.exec(line) ?? []
    if (name !== undefined) found.set(name, `${found.get(name)} ${sum}`)
    else if (path) found.set(path, kind?.startsWith('d') ? kind : `${kind} ${size} ${target}`)
  }
  return found
}

const all = Object.keys(gone)

rigTest('what differs between machines is taken away and told, all else stays as it is', async (rig) => {
  project(rig, used)
  const ran = await rig.vlb(['build', '--json'])
  expect(ran.code, ran.all).toBe(0)
  const { image } = JSON.parse(ran.stdout)
  expect(image.seal.map(({ step }: { step: string }) => step)).toEqual(all)
  for (const { step, files, bytes } of image.seal) {
    const names = [...(gone[step] ?? []), ...(emptied[step] ?? [])]
    expect(files, step).toBe(names.length)
    // The link holds its target's name.
    const sizes = names.map((name) => (name === 'etc/machine-id' ? 33 : `in ${name}\n`.length))
    if (step !== 'cloud-init') expect(bytes, step).toBe(sizes.reduce((a, b) => a + b))
    expect(ran.stderr).toMatch(new RegExp(`^seal: ${step}: ${files} file`, 'm'))
  }
  const before = files(rig, rig.path('tiny.raw'))
  const after = files(rig)
  for (const name of Object.values(gone).flat()) {
    expect(before.has(name), name).toBe(true)
    expect(after.has(name), name).toBe(false)
    before.delete(name)
  }
  for (const name of Object.values(emptied).flat()) {
    expect(after.get(name)?.split(' ').slice(0, 3), name).toEqual([
      ...(before.get(name)?.split(' ').slice(0, 2) ?? []),
      '0',
    ])
    before.delete(name)
    after.delete(name)
  }
  // Folders of what is one machine's own.
  for (const name of [...before.keys()].filter((path) => !after.has(path)))
    expect(name).toMatch(/^var\/(log\/journal\/[0-9a-f]{32}|lib\/cloud\/instances\/|cache\/|lib\/systemd\/network\/)/)
  for (const [name, what] of after) expect(what, name).toBe(before.get(name))
  expect(after.get('var/log/journal/remote')).toBe('d 755')
})

rigTest('snapshots stay as they are, and a current image is neither sealed nor written again', async (rig) => {
  project(rig, used)
  const first = await rig.json('build')
  const digest = () =>
    readdirSync(rig.store('snapshots')).map((name) => {
      const file = readFileSync(rig.store('snapshots', name, 'layer.qcow2'))
      return `${name} ${createHash('sha256').update(file).digest('hex')}`
    })
  const before = digest()
  expect((await rig.json('status')).image.state).toBe('current')
  const again = await rig.json('build')
  expect(again.image).toMatchObject({ written: false, seal: first.image.seal })
  rmSync(rig.path('build/image.qcow2'))
  const third = await rig.json('build')
  expect(third.image).toMatchObject({ written: true, seal: first.image.seal })
  expect(third.layers).toMatchObject([{ result: 'cached', contentId: first.layers[0].contentId }])
  expect(digest()).toEqual(before)
  expect(rig.readFromImage(rig.store('chain', `${first.layers[0].key}.qcow2`), '/etc/machine-id')).toBe(`${id}\n`)
})

rigTest('a list of steps does those only, false none; either way the image is another', async (rig) => {
  project(rig, used, 'seal: [history, machine-id]\n')
  const { image } = await rig.json('build')
  expect(image.seal.map(({ step }: { step: string }) => step)).toEqual(['machine-id', 'history'])
  const some = files(rig)
  expect(some.has('root/.bash_history')).toBe(false)
  expect(some.has('etc/ssh/ssh_host_rsa_key')).toBe(true)

  const head = rig.read('vlb.yaml').replace(/seal:.*\n/, '')
  rig.write({ 'vlb.yaml': `${head}seal: false\n` })
  expect((await rig.json('status')).image.state).toBe('stale')
  const none = await rig.json('build')
  expect(none.image).toMatchObject({ written: true, seal: [] })
  rig.tool('qemu-img', 'compare', rig.path('build/image.qcow2'), rig.store('chain', `${none.layers[0].key}.qcow2`))

  rig.write({ 'vlb.yaml': head })
  expect((await rig.json('build')).image.written).toBe(true)
  expect(files(rig).has('etc/ssh/ssh_host_rsa_key')).toBe(false)
})

rigTest('an overlay of --no-flatten is not sealed', async (rig) => {
  project(rig, used)
  const { image } = await rig.json('build', '--no-flatten')
  expect(image.seal).toEqual([])
  expect((await rig.json('status')).image.state).toBe('current')
  expect(rig.readFromImage(image.path, '/etc/machine-id')).toBe(`${id}\n`)
})

rigTest('an image in which there is nothing to seal is its snapshot, bit by bit', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
  const { image, layers } = await rig.json('build')
  expect(image.seal).toEqual(all.map((step) => ({ step, files: 0, bytes: 0 })))
  rig.tool('qemu-img', 'compare', image.path, rig.store('chain', `${layers[0].key}.qcow2`))
})

const sealed = [...Object.values(gone), ...Object.values(emptied)].flat().sort()
const folders = [...new Set(sealed.map((path) => dirname(path)))].filter((path) => path.includes('/'))
const tops = ['boot', 'home', 'root', 'var']
const up = (path: string) => '../'.repeat(path.split('/').length - 1)

/** What becomes a link, and where to. All that is to be sealed is there once more: in /srv/keep, and on the host. */
const symlinks: Record<string, [links: string[], to: (path: string, host: string) => string]> = {
  'files to files of the image': [sealed, (path) => `/srv/keep/${path}`],
  'files by way of ..': [sealed, (path) => `${up(path)}srv/keep/${path}`],
  'files to files of the host': [sealed, (path, host) => join(host, path)],
  'files to files of the host by way of ..': [sealed, (path, host) => `${'../'.repeat(30)}${join(host, path)}`],
  'folders to folders of the image': [folders, (path) => `/srv/keep/${path}`],
  'folders to folders of the host': [folders, (path, host) => join(host, path)],
  'folders to folders of the host by way of ..': [folders, (path, host) => `${'../'.repeat(30)}${join(host, path)}`],
  'folders to the root': [folders, () => '../'.repeat(30)],
  'folders to themselves': [folders, (path) => `/${path}`],
  'all above them to folders of the image': [tops, (path) => `/srv/keep/${path}`],
  'all above them to folders of the host': [tops, (path, host) => join(host, path)],
  'all above them to the root': [tops, () => '../../..'],
}

for (const [name, [links, to]] of Object.entries(symlinks)) {
  rigTest(`no symlink leads anywhere, in the image or out of it: ${name}`, async (rig) => {
    const host = join(rig.folder, 'host')
    for (const path of sealed) put(host, path, 'of the host')
    project(rig, (root) => {
      used(root)
      for (const path of sealed) put(root, `srv/keep/${path}`)
      for (const path of links) {
        const folder = dirname(join(root, path))
        // Behind a link of an earlier turn.
        if (!existsSync(folder) || realpathSync(folder) !== folder) continue
        rmSync(join(root, path), { recursive: true, force: true })
        symlinkSync(to(path, host), join(root, path))
      }
    })
    const ran = await rig.vlb(['build'])
    expect(ran.code, ran.all).toBe(0)
    for (const path of sealed) expect(readFileSync(join(host, path), 'utf8'), path).toBe('of the host')
    const before = files(rig, rig.path('tiny.raw'))
    const after = files(rig)
    for (const [path, what] of before) {
      // Folders of what is gone may go with it.
      if (what.startsWith('d') && !path.startsWith('srv/')) continue
      const touched = [...sealed, ...folders].some((one) => path === one || path.startsWith(`${one}/`))
      // The name of a history is enough: a home may be behind a link.
      if (!touched && !/_history$/.test(path)) expect(after.get(path), path).toBe(what)
    }
    expect(after.get('etc/machine-id')).toMatch(/^f (444|644) 0 /)
    if (/^folders.*root$|^(folders|all).*image$/.test(name))
      expect(ran.stderr).toContain('warning: seal: logs: /var/log is behind a symlink')
  })
}

rigTest('a file with another name in the image keeps its content there', async (rig) => {
  project(rig, (root) => {
    put(root, 'etc/precious', 'precious\n')
    for (const path of ['etc/machine-id', 'var/log/syslog', 'etc/ssh/ssh_host_rsa_key', 'root/.bash_history']) {
      mkdirSync(dirname(join(root, path)), { recursive: true })
      linkSync(join(root, 'etc/precious'), join(root, path))
    }
  })
  await rig.build()
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/etc/precious')).toBe('precious\n')
  expect(files(rig).get('etc/machine-id')).toMatch(/^f 444 0 /)
})

rigTest(
  'an image that wants to be taken for a new installation stays so; OpenRC gets no empty machine-id',
  async (rig) => {
    project(rig, (root) => put(root, 'etc/machine-id', 'uninitialized\n'))
    await rig.build()
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/etc/machine-id')).toBe('uninitialized\n')

    tinyDisk(rig.path('tiny.raw'), {
      prepare: (root) => {
        put(root, 'etc/machine-id', `${id}\n`)
        put(root, 'sbin/openrc-run', '#!/bin/sh\n', 0o755)
      },
    })
    await rig.build()
    expect(files(rig).has('etc/machine-id')).toBe(false)

    tinyDisk(rig.path('tiny.raw'), { prepare: (root) => put(root, 'usr/lib/systemd/systemd', '') })
    await rig.build()
    expect(files(rig).get('etc/machine-id')).toMatch(/^f 444 0 /)
  },
)

const unit = 'etc/systemd/system/vlb-ssh-host-keys.service'
const dropIn = (name: string) => `etc/systemd/system/${name}.service.d/vlb-host-keys.conf`

function withSshd(root: string): void {
  put(root, 'usr/sbin/sshd', '', 0o755)
  put(root, 'usr/bin/ssh-keygen', '', 0o755)
  put(root, 'etc/ssh/ssh_host_ed25519_key')
}

function withSystemd(root: string): void {
  withSshd(root)
  put(root, 'usr/lib/systemd/systemd', '', 0o755)
  symlinkSync('usr/lib', join(root, 'lib'))
}

rigTest('who starts sshd has keys made before, unless that is arranged for', async (rig) => {
  const service = 'usr/lib/systemd/system/ssh.service'
  const text = '[Service]\nExecStartPre=/usr/sbin/sshd -t\nExecStart=/usr/sbin/sshd -D\n'
  const withDebian = (root: string) => {
    withSystemd(root)
    put(root, service, text)
  }
  const cases: [string, (root: string) => void, added: string[], warning?: RegExp][] = [
    ['systemd, as Debian', withDebian, [unit, dropIn('ssh')]],
    [
      'systemd, with a socket, and another name for the service',
      (root) => {
        withDebian(root)
        put(root, 'usr/lib/systemd/system/ssh@.service', text)
        mkdirSync(join(root, 'etc/systemd/system'), { recursive: true })
        symlinkSync('/usr/lib/systemd/system/ssh.service', join(root, 'etc/systemd/system/sshd.service'))
      },
      [unit, dropIn('ssh'), dropIn('ssh@')],
    ],
    [
      'systemd, as Fedora',
      (root) => {
        withSystemd(root)
        put(root, 'usr/lib/systemd/system/sshd.service', `[Unit]\nWants=sshd-keygen.target\n${text}`)
      },
      [],
    ],
    [
      'systemd, a drop-in',
      (root) => {
        withDebian(root)
        put(root, 'etc/systemd/system/ssh.service.d/a.conf', '[Unit]\nWants=ssh-host-key@ed25519.service\n')
      },
      [],
    ],
    ['systemd, no service', withSystemd, [], /nothing known to git vlb starts sshd/],
    [
      'an init script that makes them',
      (root) => {
        withSshd(root)
        put(root, 'etc/init.d/sshd', '#!/sbin/openrc-run\nssh-keygen -A\n', 0o755)
      },
      [],
    ],
    [
      'the init script of Debian',
      (root) => {
        withSshd(root)
        put(root, 'etc/init.d/ssh', '#!/bin/sh\nif true; then\n    . /etc/default/ssh\nfi\n', 0o755)
      },
      ['etc/default/ssh'],
    ],
    ['no service at all', withSshd, [], /nothing known to git vlb starts sshd/],
    ['no sshd', (root) => put(root, 'etc/ssh/ssh_host_ed25519_key'), []],
    [
      'no ssh-keygen',
      (root) => {
        withDebian(root)
        rmSync(join(root, 'usr/bin/ssh-keygen'))
      },
      [],
      /no ssh-keygen/,
    ],
  ]
  rig.project({ '10_a': 'true' })
  rig.commit()
  for (const [name, prepare, added, warning] of cases) {
    tinyDisk(rig.path('tiny.raw'), { prepare })
    const ran = await rig.vlb(['build'])
    expect(ran.code, ran.all).toBe(0)
    const before = files(rig, rig.path('tiny.raw'))
    const after = files(rig)
    expect(after.has('etc/ssh/ssh_host_ed25519_key'), name).toBe(false)
    const news = [...after].filter(([path, what]) => !before.has(path) && what.startsWith('f')).map(([path]) => path)
    expect(news.filter((path) => path !== 'etc/machine-id').sort(), name).toEqual([...added].sort())
    if (warning) expect(ran.stderr, name).toMatch(warning)
    else expect(ran.stderr, name).not.toContain('warning')
  }
})

rigTest('keys arranged for once are not arranged for again', async (rig) => {
  project(rig, (root) => {
    withSystemd(root)
    put(root, 'usr/lib/systemd/system/ssh.service', '[Service]\nExecStart=/usr/sbin/sshd -D\n')
  })
  await rig.build()
  const first = files(rig)
  rig.tool('qemu-img', 'convert', '-O', 'raw', rig.path('build/image.qcow2'), rig.path('tiny.raw'))
  const { image } = await rig.json('build')
  expect(image.seal.every(({ files }: { files: number }) => files === 0)).toBe(true)
  expect(files(rig)).toEqual(first)
})

rigTest('xfs and btrfs are sealed like ext4', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  for (const fs of ['xfs', 'btrfs'] as const) {
    tinyDisk(rig.path('tiny.raw'), { fs, prepare: used })
    const { image } = await rig.json('build')
    for (const { step, files } of image.seal)
      expect(files, `${fs}: ${step}`).toBe([...(gone[step] ?? []), ...(emptied[step] ?? [])].length)
    rig.tool('qemu-img', 'convert', '-O', 'raw', image.path, rig.path('tiny.raw'))
    const again = await rig.json('build')
    expect(again.image.seal.every((step: { files: number }) => step.files === 0)).toBe(true)
  }
})

rigTest('a partition that the fstab names is sealed, too', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  const root = (folder: string) =>
    put(folder, 'etc/fstab', 'LABEL=root / ext4 defaults\nLABEL=log /var/log ext4 nodev\n')
  disk(rig.path('tiny.raw'), 'gpt', [
    { fs: 'ext4', mebibytes: 48, label: 'root', root: true, fill: root },
    { fs: 'ext4', mebibytes: 16, label: 'log', fill: (folder) => put(folder, 'syslog', 'of another machine') },
  ])
  const { image } = await rig.json('build')
  expect(image.seal.find((one: { step: string }) => one.step === 'logs')).toMatchObject({ files: 1, bytes: 18 })
  const raw = join(rig.folder, 'look.raw')
  rig.tool('qemu-img', 'convert', '-O', 'raw', image.path, raw)
  expect(rig.tool('debugfs', '-R', 'stat /syslog', `${raw}?offset=${49 * 2 ** 20}`)).toMatch(/Size: 0\b/)
})

rigTest('a file that cannot be changed ends the build with its step and place, and no image', async (rig) => {
  rig.project({ '10_a': 'mkdir -p /var/log; echo x > /var/log/audit.log' })
  rig.commit()
  await rig.build('--last', '10_a')
  // FS_IMMUTABLE_FL, set with debugfs on the base: busybox here has no chattr.
  tinyDisk(rig.path('tiny.raw'), { prepare: (root) => put(root, 'var/log/audit.log') })
  rig.tool(
    'debugfs',
    '-w',
    '-R',
    'set_inode_field /var/log/audit.log flags 0x80010',
    `${rig.path('tiny.raw')}?offset=1048576`,
  )
  rmSync(rig.path('build'), { recursive: true })
  rig.layer('10_a', 'true')
  const ran = await rig.vlb(['build'])
  expect([ran.code, ran.stderr]).toEqual([
    1,
    expect.stringMatching(/error: seal logs: cannot change all that is in \/var\/log/),
  ])
  expect(ran.stderr).toContain('hint: ')
  expect(existsSync(rig.path('build/image.qcow2'))).toBe(false)
})

rigTest('killed in the middle, it leaves nothing, and the next build works', async (rig) => {
  project(rig, used)
  await rig.ok('build', '--last', '10_a')
  for (const pause of [20, 60, 100, 140, 180, 240]) {
    rmSync(rig.path('build'), { recursive: true, force: true })
    const running = rig.start(['build', '--verbose'])
    // The plan is read, all is cached: next comes the seal.
    while (running.child.exitCode === null && !sealing(rig)) await delay(5)
    await delay(pause)
    running.kill('SIGKILL')
    await running.ended
    expect(await rig.leaks(), `after ${pause} ms`).toEqual([])
  }
  expect(await rig.build()).toEqual(['10_a cached'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/etc/machine-id')).toBe('')
  expect(files(rig).has('etc/ssh/ssh_host_rsa_key')).toBe(false)
})

function sealing(rig: Rig): boolean {
  return rig.processes(`${rig.store('tmp')}/`).length > 0
}
