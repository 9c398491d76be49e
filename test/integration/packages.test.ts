// The package list beside each snapshot: read from the image's own database, and from nowhere else.
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const dpkg = (name: string) =>
  `Package: ${name}\\nStatus: install ok installed\\nArchitecture: amd64\\nVersion: 1.0\\n\\n`
const install = (name: string) => `mkdir -p /var/lib/dpkg && printf '${dpkg(name)}' >> /var/lib/dpkg/status`

/** By layer: its list, and the file's inode. */
function lists(rig: Rig) {
  const found: Record<string, { list: { packages: { name: string }[]; [key: string]: unknown }; inode: number }> = {}
  for (const id of readdirSync(rig.store('snapshots'))) {
    const manifest = JSON.parse(readFileSync(rig.store('snapshots', id, 'manifest.json'), 'utf8'))
    const file = rig.store('snapshots', id, 'packages.json')
    const text = readFileSync(file)
    expect(manifest.packages.digest).toBe(createHash('sha256').update(text).digest('hex'))
    found[manifest.layer] = { list: JSON.parse(text.toString()), inode: statSync(file).ino }
  }
  return found
}
const names = (rig: Rig, layer: string) => lists(rig)[layer]?.list.packages.map((one) => one.name)

rigTest('each snapshot has its list, and shares the one of its parent when nothing was installed', async (rig) => {
  rig.project(
    { '10_none': 'true', '20_a': install('aa'), '30_same': 'echo x > /x', '40_b': install('bb') },
    'disk: { size: 64M }\n',
  )
  rig.commit()
  await rig.build()
  expect(lists(rig)['10_none']?.list).toEqual({ format: 1, manager: null, os: { id: 'tiny' }, packages: [] })
  expect(lists(rig)['20_a']?.list).toMatchObject({
    manager: 'dpkg',
    packages: [{ name: 'aa', version: '1.0', arch: 'amd64' }],
  })
  expect([names(rig, '30_same'), names(rig, '40_b')]).toEqual([['aa'], ['aa', 'bb']])
  const inodes = Object.fromEntries(Object.entries(lists(rig)).map(([layer, { inode }]) => [layer, inode]))
  expect(inodes['30_same']).toBe(inodes['20_a'])
  expect(inodes['40_b']).not.toBe(inodes['20_a'])
  rmSync(rig.store('snapshots'), { recursive: true })
  rig.layer('30_same', "sed -i 's/aa/cc/' /var/lib/dpkg/status; touch -d @1 /var/lib/dpkg/status")
  await rig.build()
  expect(names(rig, '30_same'), 'the same size, an old time').toEqual(['cc'])
})

rigTest('a base without a layer that runs in it has a list too', async (rig) => {
  rig.project({})
  rig.write({ '00_base/build-base': `#!/bin/sh\ncp ${rig.path('tiny.raw')} "$1"\n`, 'vlb.yaml': 'version: 1\n' })
  rig.commit()
  await rig.build()
  expect(lists(rig)['00_base']?.list).toMatchObject({ manager: null, os: { id: 'tiny' }, packages: [] })
})

rigTest('databases of apk, pacman and of images without a package manager', async (rig) => {
  rig.project({
    '10_apk':
      "mkdir -p /usr/lib/apk/db; printf 'P:musl\\nV:1.2-r0\\nA:x86_64\\no:musl\\n\\n' > /usr/lib/apk/db/installed",
    '20_pacman': `rm -r /usr/lib/apk
for n in zlib acl; do
  mkdir -p /var/lib/pacman/local/$n-1
  printf '%%NAME%%\\n'$n'\\n\\n%%VERSION%%\\n1-1\\n\\n%%ARCH%%\\nx86_64' > /var/lib/pacman/local/$n-1/desc
done`,
    '30_distroless': `rm -r /var/lib/pacman; mkdir -p /var/lib/dpkg/status.d
printf 'Package: base\\nVersion: 12' > /var/lib/dpkg/status.d/base
printf 'Package: tzdata\\nVersion: 2024a' > /var/lib/dpkg/status.d/tzdata
echo 'Package: no' > /var/lib/dpkg/status.d/base.md5sums`,
  })
  rig.commit()
  await rig.build()
  expect(lists(rig)['10_apk']?.list).toMatchObject({ manager: 'apk', packages: [{ name: 'musl', version: '1.2-r0' }] })
  expect(lists(rig)['20_pacman']?.list).toMatchObject({ manager: 'pacman' })
  expect([names(rig, '20_pacman'), names(rig, '30_distroless')]).toEqual([
    ['acl', 'zlib'],
    ['base', 'tzdata'],
  ])
})

rigTest("rpm's database is read by the image's own rpm, which changes nothing and sees no host", async (rig) => {
  const fake = `#!/bin/sh
echo asked >&2
touch /touched /etc/touched 2>/dev/null && echo 'rpm can write' >&2
ls / /mnt >&2; ip link >&2
[ "$1 $2 $3 $4" = "-qa --dbpath /mnt/db --qf" ] && [ "$(cat /mnt/db/rpmdb.sqlite /mnt/db/rpmdb.sqlite-wal)" = "$(echo data; echo more)" ] || exit 1
printf 'bash\\t1:5-1\\tx86_64\\tbash-5-1.src.rpm\\n'`
  rig.project({
    '10_database':
      'mkdir -p /usr/lib/sysimage/rpm /var/lib; ln -s ../../usr/lib/sysimage/rpm /var/lib/rpm; echo data > /var/lib/rpm/rpmdb.sqlite; echo more > /var/lib/rpm/rpmdb.sqlite-wal',
    '20_rpm': {
      'build-layer':
        '#!/bin/sh\ncp rpm /usr/bin/rpm; chmod 755 /usr/bin/rpm; echo >> /var/lib/rpm/rpmdb.sqlite-wal; echo more > /var/lib/rpm/rpmdb.sqlite-wal',
      rpm: fake,
    },
    '30_broken':
      'echo "exit 3" > /usr/bin/rpm.new; echo "#!/bin/sh" | cat - /usr/bin/rpm.new > /usr/bin/rpm; echo other > /var/lib/rpm/rpmdb.sqlite',
  })
  rig.commit()
  await rig.build()
  expect(lists(rig)['10_database']?.list).toMatchObject({
    manager: 'rpm',
    packages: [],
    problem: expect.stringContaining('no rpm to read it'),
  })
  expect(lists(rig)['20_rpm']?.list).toEqual({
    format: 1,
    manager: 'rpm',
    os: { id: 'tiny' },
    packages: [{ name: 'bash', version: '1:5-1', arch: 'x86_64' }],
  })
  const log = await rig.ok('log', '20_rpm')
  expect(log).toContain('asked')
  expect(log).not.toContain('rpm can write')
  expect(log).not.toMatch(/eth0|ens/)
  expect(lists(rig)['30_broken']?.list).toMatchObject({
    packages: [],
    problem: expect.stringContaining('could not read'),
  })
  for (const path of ['/touched', '/etc/touched'])
    expect(rig.debugfs(rig.path('build/image.qcow2'), `stat ${path}`)).toBe('')
})

rigTest('links and special files in an image lead nowhere', async (rig) => {
  const secret = `${rig.folder}/status`
  rig.write({ '../status': 'Package: of-the-host\nVersion: 1\nArchitecture: all\n' })
  rig.project({
    '10_link': `mkdir -p /var/lib/dpkg; ln -s ${secret} /var/lib/dpkg/status; ln -s ../../../../../../..${secret} /etc/os-release.new; mv /etc/os-release.new /etc/os-release`,
    '20_pipe': 'rm /var/lib/dpkg/status; mknod /var/lib/dpkg/status p; mkdir -p /lib/apk/db/installed',
    '30_loop': 'rm /var/lib/dpkg/status; ln -s status /var/lib/dpkg/status',
  })
  rig.commit()
  expect(existsSync(secret)).toBe(true)
  await rig.build()
  for (const layer of ['10_link', '20_pipe', '30_loop'])
    expect(lists(rig)[layer]?.list, layer).toEqual({ format: 1, manager: null, os: null, packages: [] })
})
