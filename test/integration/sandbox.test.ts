// What a script sees, what it cannot reach, and what is left of its surroundings afterwards.
import { chmodSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

/** Builds a layer whose script prints `== NAME` before each part; returns the parts. */
async function parts(rig: Rig, scripts: Record<string, string>, env: Record<string, string> = {}) {
  const body = Object.entries(scripts).map(([name, script]) => `echo "== ${name}"\n${script}`)
  rig.project({
    '10_see': { 'build-layer': `#!/bin/sh\n${body.join('\n')}\ntrue\n`, data: 'x', 'sub/tool': '#!/bin/sh\n' },
  })
  symlinkSync('data', rig.path('10_see/link'))
  rig.commit()
  const ran = await rig.vlb(['build'], { env })
  expect(ran.code, ran.all).toBe(0)
  const found = (await rig.ok('log', '10_see')).split(/^== /m).slice(1)
  return Object.fromEntries(
    found.map((part) => [part.slice(0, part.indexOf('\n')), part.slice(part.indexOf('\n') + 1)]),
  )
}

const lines = (text: string | undefined): string[] => (text ?? '').split('\n').filter(Boolean)

/** Below /proc; which of them there are is up to the kernel. */
const protectedFiles = [
  ...['sys', 'sysrq-trigger', 'irq', 'bus', 'fs', 'acpi', 'scsi', 'mtrr', 'asound', 'driver', 'dynamic_debug'],
  ...['kcore', 'keys', 'key-users', 'kmsg', 'kpagecgroup', 'kpagecount', 'kpageflags', 'sched_debug'],
  ...['timer_list', 'vmallocinfo', 'slabinfo'],
]

rigTest('folder, standard input, environment, devices and kernel files are exactly those promised', async (rig) => {
  const see = await parts(
    rig,
    {
      cwd: 'pwd',
      files: 'find . | sort | while read -r f; do stat -c "%a %u:%g %n" "$f"; done; readlink link',
      stdin: 'wc -c; readlink /proc/self/fd/0',
      env: 'env | sort',
      dev: 'find /dev | sort',
      proc: 'ls /proc | grep "^[0-9]" | sort -n',
      fds: 'ls -l /proc/*/fd 2>/dev/null | sed -n "s/.* -> //p" | sed "s/[0-9][0-9]*]/N]/" | sort -u',
      'writes /sys':
        'echo 1 > /sys/kernel/x; mkdir /sys/x; echo 0 > /proc/sys/kernel/panic; echo s > /proc/sysrq-trigger',
      tmpfs: 'stat -f -c "%T %n" /run /tmp /dev/shm; stat -c "%a %n" /run /tmp /run/lock /dev/shm; ls -A /tmp',
      name: 'hostname',
      mounts: 'cat /proc/self/mountinfo',
      umask: 'umask',
      'output by name': 'echo out > /dev/stdout; echo error > /dev/stderr; echo own > /proc/self/fd/2',
    },
    { HTTP_PROXY: 'http://proxy.example:3128', SECRET: 'no', GIT_DIR: '/x', VLB_STORE: 'no', LD_PRELOAD: '' },
  )
  expect(see['cwd']).toBe('/mnt\n')
  expect(lines(see['files'])).toEqual([
    '755 0:0 .',
    '755 0:0 ./build-layer',
    '644 0:0 ./data',
    '777 0:0 ./link',
    '755 0:0 ./sub',
    '755 0:0 ./sub/tool',
    'data',
  ])
  expect(see['stdin']).toBe('0\n/dev/null\n')
  expect(lines(see['env'])).toEqual([
    'DEBIAN_FRONTEND=noninteractive',
    'HOME=/root',
    'HTTP_PROXY=http://proxy.example:3128',
    'LANG=C.UTF-8',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    // Of busybox's own shell.
    'PWD=/mnt',
    'SHLVL=1',
    'SYSTEMD_OFFLINE=1',
    'VLB_LAYER=10_see',
  ])
  const nodes = [
    'fd',
    'full',
    'null',
    'ptmx',
    'pts',
    'pts/ptmx',
    'random',
    'shm',
    'stderr',
    'stdin',
    'stdout',
    'tty',
    'urandom',
    'zero',
  ]
  expect(lines(see['dev'])).toEqual(['/dev', ...nodes.map((name) => `/dev/${name}`)])
  // Process 1, the script, and what this line itself is made of.
  expect(lines(see['proc']).length).toBeLessThanOrEqual(5)
  expect(lines(see['proc'])[0]).toBe('1')
  expect(Math.max(...lines(see['proc']).map(Number)), 'a PID namespace of its own').toBeLessThan(300)
  for (const target of lines(see['fds']))
    expect(target).toMatch(/^(\/dev\/null|pipe:\[N\]|\/mnt\/build-layer|\/proc\/\d+\/fd|.*runner\.sh)$/)
  expect(
    lines(see['writes /sys']).filter((line) => /Read-only|not permitted|can't create|can't/.test(line)),
  ).toHaveLength(4)
  expect(lines(see['tmpfs'])).toEqual([
    'tmpfs /run',
    'tmpfs /tmp',
    'tmpfs /dev/shm',
    '755 /run',
    '1777 /tmp',
    '1777 /run/lock',
    '1777 /dev/shm',
  ])
  expect(see['name']).toBe('localhost\n')
  expect(hostname()).not.toBe('localhost')
  expect(see['umask']).toBe('0022\n')
  expect(see['output by name']).toBe('out\nerror\nown\n')
  const mounts = lines(see['mounts']).map((line) => line.split(' ')[4])
  expect(mounts.sort()).toEqual(
    [
      '/',
      '/dev',
      '/dev/full',
      '/dev/null',
      '/dev/pts',
      '/dev/random',
      '/dev/shm',
      '/dev/tty',
      '/dev/urandom',
      '/dev/zero',
      '/mnt',
      '/proc',
      ...protectedFiles.map((name) => `/proc/${name}`),
      '/run',
      '/run/lock',
      '/run/secrets',
      '/run/vlb',
      '/sys',
      '/tmp',
    ]
      .filter((path) => !/^\/proc\/./.test(path) || mounts.includes(path))
      .sort(),
  )
  expect(mounts).toContain('/proc/sys')
})

rigTest('the host cannot be reached', async (rig) => {
  writeFileSync(join(rig.folder, 'host-file'), 'of the host')
  const see = await parts(rig, {
    'by process': `for at in root cwd; do for p in 1 self 2; do cat /proc/$p/$at${rig.folder}/host-file; done; done`,
    'by descriptor': `for fd in /proc/[0-9]*/fd/*; do cat "$fd/../../../../..${rig.folder}/host-file"; cat "$fd/host-file"; done`,
    'out of a chroot': `mkdir /jail; cat > /tmp/x <<'END'
cd ..; cd ..; cd ..; cd ..; cd ..; cd ..
cat ./${rig.folder}/host-file
END
../bin/busybox chroot /jail /bin/sh; busybox chroot . true; cat ../../../../..${rig.folder}/host-file`,
    'by a device': `busybox mknod /root/n c 1 5; busybox mknod /mnt/n c 1 5; busybox mknod /tmp/n c 1 5; busybox mknod /dev/n c 1 5; busybox mknod /run/n c 1 5
for n in /root/n /mnt/n /tmp/n /dev/n /run/n; do dd if=$n of=/dev/null bs=1 count=1 2>/dev/null && echo "$n works"; done`,
    'by setuid': 'cp /bin/busybox /mnt/s; chmod 4755 /mnt/s; busybox grep " /mnt " /proc/self/mountinfo',
  })
  for (const name of ['by process', 'by descriptor', 'out of a chroot']) expect(see[name]).not.toContain('of the host')
  expect(see['by a device']).not.toContain('works')
  expect(see['by setuid']).toMatch(/nosuid,nodev/)
})

rigTest('what a script leaves running is gone when the layer ends, and holds nothing up', async (rig) => {
  const marker = `vlb-daemon-${process.pid}-${Date.now()}`
  const daemon = `(busybox setsid busybox sh -c 'trap "" TERM HUP INT; cd /; while :; do busybox sleep 1000; done # ${marker}' &)`
  rig.project({
    '10_a': `${daemon}\n(busybox setsid sh -c 'exec > /held; echo held; cd /var; sleep 1000 # ${marker}' &)\nwhile [ ! -s /held ]; do :; done\necho a > /a`,
    '20_b': 'busybox ps > /ps; cat /held > /b',
  })
  rig.commit()
  const started = Date.now()
  await rig.build()
  expect(Date.now() - started).toBeLessThan(30_000)
  expect(rig.processes(marker)).toEqual([])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('held\n')
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/ps')).not.toContain('sleep 1000')
})

const hostConf = readFileSync('/etc/resolv.conf', 'utf8')
const hostLine = hostConf.split('\n').find((line) => line.startsWith('nameserver')) ?? ''

interface DnsCase {
  /** Of /etc in the base, before the layer. */
  prepare?: (root: string) => void
  script?: string
  /** What debugfs tells of /etc/resolv.conf afterwards. */
  content: string
  mode?: string
  link?: string
}

const dns: Record<string, DnsCase> = {
  'a file': {
    prepare: (root) => {
      writeFileSync(join(root, 'etc/resolv.conf'), 'nameserver 192.0.2.9\n')
      chmodSync(join(root, 'etc/resolv.conf'), 0o640)
    },
    content: 'nameserver 192.0.2.9\n',
    mode: '0640',
  },
  'a link into /run that leads nowhere': {
    prepare: (root) => {
      rmSync(join(root, 'etc/resolv.conf'))
      symlinkSync('../run/systemd/resolve/stub-resolv.conf', join(root, 'etc/resolv.conf'))
    },
    content: '',
    link: '../run/systemd/resolve/stub-resolv.conf',
  },
  'an absolute link out of /run that leads nowhere': {
    prepare: (root) => {
      rmSync(join(root, 'etc/resolv.conf'))
      symlinkSync('/var/lib/resolv.conf', join(root, 'etc/resolv.conf'))
    },
    content: '',
    link: '/var/lib/resolv.conf',
  },
  'not there': { prepare: (root) => rmSync(join(root, 'etc/resolv.conf')), content: '' },
  'replaced by the script': {
    script: 'echo "nameserver 192.0.2.7" > /etc/new; mv /etc/new /etc/resolv.conf',
    content: 'nameserver 192.0.2.7\n',
  },
  'written by the script': {
    script: 'echo "nameserver 192.0.2.8" > /etc/resolv.conf',
    content: 'nameserver 192.0.2.8\n',
  },
  'appended to by the script': {
    script: 'echo "options edns0" >> /etc/resolv.conf',
    content: 'nameserver 192.0.2.1\noptions edns0\n',
  },
  'deleted by the script': { script: 'rm /etc/resolv.conf', content: '' },
}

for (const [name, { prepare, script = '', content, mode = '0644', link }] of Object.entries(dns)) {
  rigTest(`resolv.conf, ${name}: the host's while the script runs, no trace of it afterwards`, async (rig) => {
    rig.project({ '10_a': `cat /etc/resolv.conf\n${script}` })
    if (prepare) tinyDisk(rig.path('tiny.raw'), { prepare })
    rig.commit()
    await rig.build('--format', 'raw')
    const image = rig.path('build/image.raw')
    expect(await rig.ok('log', '10_a')).toBe(hostConf)
    expect(rig.readFromImage(image, '/etc/resolv.conf')).toBe(content)
    const stat = rig.debugfs(image, 'stat /etc/resolv.conf')
    if (link) expect(stat).toContain(`Fast link dest: "${link}"`)
    else if (content) expect(stat).toMatch(new RegExp(`Type: regular +Mode: +${mode}`))
    else expect(stat).toBe('')
    expect(hostLine).not.toBe('')
    expect(readFileSync(image).includes(hostLine), "the host's name server in the image").toBe(false)
    expect(rig.debugfs(image, 'ls -p /run').match(/\/[a-z]+\//g)).toBeNull()
  })
}

rigTest('an immutable resolv.conf stays as it is, and the layer is built', async (rig) => {
  rig.project({ '10_a': 'cat /etc/resolv.conf' })
  rig.tool(
    'debugfs',
    '-w',
    '-R',
    'set_inode_field /etc/resolv.conf flags 0x80010',
    `${rig.path('tiny.raw')}?offset=${2 ** 20}`,
  )
  rig.commit()
  await rig.build()
  expect(await rig.ok('log', '10_a')).toBe(hostConf)
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/etc/resolv.conf')).toBe('nameserver 192.0.2.1\n')
  expect(rig.debugfs(image, 'stat /etc/resolv.conf')).toMatch(/Flags: 0x80010/)
})

rigTest('services do not start: policy-rc.d is there meanwhile, and an own one is kept', async (rig) => {
  rig.project({
    '10_a': 'ls /usr/sbin; echo > /usr/sbin/invoke-rc.d',
    '20_b': '/usr/sbin/policy-rc.d; echo "status $?"; stat -c %a /usr/sbin/policy-rc.d',
    '30_c': 'printf "#!/bin/sh\\nexit 0\\n" > /usr/sbin/policy-rc.d',
    '40_d': 'cat /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d',
  })
  rig.commit()
  await rig.build('--last', '20_b')
  expect(await rig.ok('log', '10_a'), 'only where packages know it').toBe('')
  expect(await rig.ok('log', '20_b')).toBe('status 101\n755\n')
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/usr/sbin/policy-rc.d')).toBe('')
  await rig.build()
  expect(await rig.ok('log', '40_d')).toBe('#!/bin/sh\nexit 0\n')
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/usr/sbin/policy-rc.d')).toBe('#!/bin/sh\nexit 0\n')
})

rigTest('folders that are mounted on are made where they lack, and taken away again', async (rig) => {
  rig.project({ '10_a': 'ls -d /mnt /run /tmp /sys /proc /dev; echo kept > /srv-file; echo lost > /tmp/lost' })
  tinyDisk(rig.path('tiny.raw'), {
    prepare: (root) => {
      for (const name of ['mnt', 'run', 'tmp', 'sys']) rmSync(join(root, name), { recursive: true })
    },
  })
  rig.commit()
  await rig.build()
  const names = rig.debugfs(rig.path('build/image.qcow2'), 'ls -p /').match(/[^/]+(?=\/[^/]*\/$)/gm)
  expect(names?.sort()).toEqual([
    '.',
    '..',
    'bin',
    'dev',
    'etc',
    'lost+found',
    'proc',
    'root',
    'srv-file',
    'usr',
    'var',
  ])
})

rigTest('a link in the image where something is to be mounted is refused', async (rig) => {
  for (const name of ['tmp', 'mnt', 'dev']) {
    rig.project({ '10_a': 'true' })
    tinyDisk(rig.path('tiny.raw'), {
      prepare: (root) => {
        rmSync(join(root, name), { recursive: true })
        symlinkSync('/etc', join(root, name))
      },
    })
    rig.commit()
    const ran = await rig.vlb(['build'])
    expect([ran.code, ran.stderr], name).toEqual([
      2,
      expect.stringContaining(`/${name} in the image is no plain directory`),
    ])
  }
})

rigTest('network none, and a host name of its own', async (rig) => {
  rig.project({
    '10_a':
      '# vlb: network none\n# vlb: hostname build.example.com\nip -o link | sed "s/^[0-9]*: \\([^:@]*\\).*/\\1/"; ip -o -4 addr show lo | grep -c 127.0.0.1; hostname',
    '20_b': 'ip -o link | wc -l; hostname',
  })
  rig.commit()
  await rig.build()
  const own = lines(await rig.ok('log', '10_a'))
  expect(own.slice(-2)).toEqual(['1', 'build.example.com'])
  expect(own.slice(0, -2).filter((line) => !/lo|sit0|tunl0|ip6|gre|erspan/.test(line))).toEqual([])
  expect(lines(await rig.ok('log', '20_b')).at(-1)).toBe('localhost')
})

rigTest('a timeout ends the whole layer', async (rig) => {
  const marker = `vlb-late-${process.pid}-${Date.now()}`
  const hold = await rig.hold()
  rig.project({
    '10_a': `# vlb: timeout 1500ms\n(busybox setsid sh -c 'trap "" TERM; sleep 1000 # ${marker}' &)\ntrap "" TERM\necho begun\n${hold.line}`,
  })
  rig.commit()
  const started = Date.now()
  const ran = await rig.vlb(['build'])
  expect(ran.code).toBe(1)
  expect(ran.stderr).toContain('10_a/build-layer was ended after its timeout of 1.5 s')
  expect(Date.now() - started).toBeLessThan(10_000)
  expect(rig.processes(marker)).toEqual([])
  expect(await rig.ok('log', '10_a')).toContain('begun')
})

rigTest(
  'a failing script: status 1, its last words, log and overlay kept, layers below too; the fix builds',
  async (rig) => {
    rig.project({
      '10_a': 'echo a > /a',
      '20_b': 'for i in $(seq 30); do echo "line $i"; done; echo left > /left; sync; exit 3',
      '30_c': 'true',
    })
    rig.commit()
    const ran = await rig.vlb(['build'])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('error: 20_b/build-layer ended with status 3')
    expect(ran.stderr).toMatch(/last lines of 20_b:\n {2}\| line 11\n/)
    expect(ran.stderr).toContain('git vlb log 20_b')
    const log = await rig.ok('log')
    expect(lines(log)).toHaveLength(30)
    expect(await rig.ok('log', '20')).toBe(log)
    const { error } = await rig.json('build')
    expect(error).toMatchObject({ code: 'VLB_LAYER_FAILED', layer: '20_b' })
    const overlay = join(error.log, '../layer.qcow2')
    rig.tool('qemu-img', 'check', '-q', overlay)
    expect(rig.readFromImage(overlay, '/left')).toBe('left\n')
    expect(rig.exists('build/image.qcow2')).toBe(false)
    rig.layer('20_b', 'echo mended > /b')
    expect(await rig.build()).toEqual(['10_a cached', '20_b built', '30_c built'])
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/b')).toBe('mended\n')
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/left')).toBe('')
  },
)

rigTest('a script killed by a signal, and one that lacks its interpreter', async (rig) => {
  rig.project({ '10_a': 'kill -9 $$' })
  rig.commit()
  const killed = await rig.vlb(['build'])
  expect([killed.code, killed.stderr]).toEqual([1, expect.stringContaining('was killed by signal 9')])
  rig.layer('10_a', 'exit 255')
  expect((await rig.vlb(['build'])).stderr).toContain('10_a/build-layer ended with status 255')
  rig.write({ '10_a/build-layer': '#!/usr/bin/perl\n' })
  const lacking = await rig.vlb(['build'])
  expect([lacking.code, lacking.stderr]).toEqual([2, expect.stringContaining('wants /usr/bin/perl as its interpreter')])
  // A path of the host that the image does not have.
  rig.write({ '10_a/build-layer': `#!${process.execPath}\n` })
  expect((await rig.vlb(['build'])).stderr).toContain('which is not in the image')
})

rigTest('a full disk in the image: a hint, and no snapshot', async (rig) => {
  rig.project({ '10_a': 'dd if=/dev/zero of=/big bs=1048576 count=100 || exit 1' })
  rig.commit()
  const ran = await rig.vlb(['build'])
  expect([ran.code, ran.stderr]).toEqual([1, expect.stringContaining("the image's disk is full: raise disk.size")])
  rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}disk: { size: 200M }\n` })
  expect(await rig.build()).toEqual(['disk built', '10_a built'])
})

rigTest(
  'output of any kind comes through: escapes are harmless, long lines bounded, the log is as written',
  async (rig) => {
    rig.project({
      '10_a': [
        'printf "\\033[2J\\033]0;title\\007red\\033[31m\\n"',
        "busybox tr '\\0' x < /dev/zero | head -c 1048576; echo",
        'printf "10%%\\r20%%\\r100%%\\n"',
        'printf "gr\\303\\274n\\n"',
        'printf "\\377\\376 no text\\n"',
        'printf "no line end"',
      ].join('\n'),
    })
    rig.commit()
    const ran = await rig.vlb(['build', '-v'])
    expect(ran.code, ran.all.slice(0, 2000)).toBe(0)
    expect(ran.stderr).not.toMatch(/[\x1b\x07\r]/)
    expect(ran.stderr).toContain('10_a | 100%\n')
    expect(ran.stderr).toContain('10_a | grün\n')
    expect(ran.stderr).toContain('10_a | no line end\n')
    for (const line of lines(ran.stderr)) expect(line.length).toBeLessThan(12_000)
    const log = readFileSync(rig.store('snapshots', (await rig.json('build')).layers[0].key, 'build.log'))
    expect(log.length).toBeGreaterThan(1_048_576)
    expect(log.includes('\x1b[2J\x1b]0;title\x07red')).toBe(true)
  },
)

/** A project whose base is made by a script on the host. */
function withBuildBase(rig: Rig, script: string): void {
  rig.project({ '00_base': { 'build-base': `#!/bin/sh\n${script}\n` }, '10_a': 'echo a > /a' })
  rig.write({ 'vlb.yaml': 'version: 1\n' })
  rig.commit()
}

rigTest('build-base: raw or qcow2, in a folder and with a TMPDIR of its own that are gone afterwards', async (rig) => {
  const seen = join(rig.folder, 'seen')
  withBuildBase(
    rig,
    `{ echo "$TMPDIR"; pwd; ls -A; env | cut -d= -f1 | sort | paste -sd,; } > ${seen}; echo x > "$TMPDIR/x"; mkdir -p "$TMPDIR/d/e"
cp ${rig.path('tiny.raw')} "$1"`,
  )
  expect(await rig.build()).toEqual(['00_base built', '10_a built'])
  const [temporary, cwd, files, names] = lines(readFileSync(seen, 'utf8'))
  expect([temporary, cwd].every((path) => path?.startsWith(rig.store('tmp')))).toBe(true)
  expect(files).toBe('build-base')
  expect(names).toBe('DEBIAN_FRONTEND,HOME,LANG,PATH,PWD,SYSTEMD_OFFLINE,TMPDIR,VLB_LAYER')
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
  rig.write({ '00_base/build-base': `#!/bin/sh\nqemu-img convert -O qcow2 ${rig.path('tiny.raw')} "$1"\n` })
  expect(await rig.build()).toEqual(['00_base built', '10_a built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
})

rigTest('build-base: no disk, half a disk, a link, or one that names other files is refused', async (rig) => {
  const raw = rig.path('tiny.raw')
  const cases: [script: string, said: string][] = [
    ['true', 'wrote no disk'],
    [`ln -s ${raw} "$1"`, 'wrote no disk'],
    [`qemu-img create -q -f qcow2 -b ${raw} -F raw "$1"`, 'names a backing file'],
    [
      'qemu-img create -q -f qcow2 -o data_file=/etc/shadow,data_file_raw=on "$1" 1M 2>/dev/null; test -e "$1" || qemu-img create -q -f qcow2 -o data_file="$TMPDIR/d" "$1" 1M',
      'names a data file',
    ],
    ['echo nonsense > "$1"', 'is not a disk image'],
    ['truncate -s 1M "$1"', 'no partition and no file system'],
  ]
  for (const [script, said] of cases) {
    withBuildBase(rig, script)
    const ran = await rig.vlb(['build'])
    expect([ran.code, ran.stderr], script).toEqual([2, expect.stringContaining(said)])
    expect((await rig.json('build', '--dry-run')).layers[0].result).toBe('skipped')
  }
  withBuildBase(rig, 'echo failing >&2; exit 4')
  const failing = await rig.vlb(['build'])
  expect([failing.code, failing.stderr]).toEqual([1, expect.stringContaining('00_base/build-base ended with status 4')])
  expect(await rig.ok('log')).toBe('failing\n')
})
