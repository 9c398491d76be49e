// Layers that mean harm to the host: whatever their scripts try, it is as it was afterwards, and nothing hangs.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { leavesHostAlone } from '../rig/host-state.ts'
import { projectRoot, type Rig, rigTest } from '../rig/rig.ts'

/** A test of one script; the host is looked at before and after. */
function hostile(name: string, body: (rig: Rig) => Promise<void>): void {
  rigTest(name, async (rig) => await leavesHostAlone(async () => await body(rig)))
}

/** Builds one layer, which must succeed; returns its log. */
async function logOf(rig: Rig, script: string): Promise<string> {
  rig.project({ '10_a': script })
  rig.commit()
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(0)
  return await rig.ok('log', '10_a')
}

/** Lines of sh that say so if they succeed. `busybox` is started by its name, since the image lacks most links to it. */
const tries = (commands: readonly string[]): string =>
  commands.map((command, i) => `( ${command} ) >/dev/null 2>&1 && echo "DONE ${i}"`).join('\n')

async function allFail(rig: Rig, commands: readonly string[], before = ''): Promise<void> {
  const log = await logOf(rig, `${before}\n${tries(commands)}\necho END`)
  const done = [...log.matchAll(/^DONE (\d+)$/gm)].map((match) => commands[Number(match[1])])
  expect(done).toEqual([])
  expect(log).toContain('END')
}

/** busybox fails without a status. */
const setClock = 'busybox date -s @86400; [ $(date +%s) -lt 100000 ]'

/** A kernel setting is written with the value that it has: should that ever succeed, it does no harm. */
const rewrite = (file: string) => `v=$(cat ${file}) && echo "$v" > ${file}`

hostile('mounts: nothing can be mounted, mounted otherwise, or unmounted', async (rig) => {
  await allFail(
    rig,
    [
      ...['/proc/sys', '/sys', '/run/vlb'].map((path) => `mount -o remount,rw ${path} && touch ${path}/x`),
      ...['/', '/mnt', '/tmp', '/run'].map((path) => `mount -o remount,dev,suid ${path}`),
      ...['proc', 'sysfs', 'tmpfs', 'devtmpfs', 'devpts', 'cgroup', 'cgroup2', 'debugfs', 'securityfs'].map(
        (type) => `mount -t ${type} none /x`,
      ),
      'mount --bind /dev /x',
      'mount --move /tmp /x',
      'busybox umount /proc/sys',
      'busybox umount -l /proc',
      'busybox umount /dev/null',
      'busybox pivot_root /x /x',
      'busybox unshare -m true',
      'busybox nsenter -t 1 -m true',
      'busybox swapon /swap',
      'busybox losetup /dev/loop0 /bin/busybox',
    ],
    'mkdir /x; dd if=/dev/zero of=/swap bs=1024 count=1024 2>/dev/null; busybox mkswap /swap >/dev/null',
  )
})

hostile('the running kernel: clock, settings, modules, network, power, priorities', async (rig) => {
  await allFail(rig, [
    setClock,
    'busybox adjtimex -t 10000',
    'busybox hwclock -w',
    'busybox hostname evil',
    'busybox sysctl -w kernel.hostname=evil',
    ...['kernel/core_pattern', 'kernel/modprobe', 'vm/swappiness', 'kernel/panic', 'net/ipv4/ip_forward'].map((name) =>
      rewrite(`/proc/sys/${name}`),
    ),
    'echo h > /proc/sysrq-trigger',
    rewrite('/proc/irq/default_smp_affinity'),
    'echo 1 > /sys/kernel/mm/ksm/run',
    'busybox insmod /mnt/build-layer',
    'busybox modprobe dummy',
    'ip link add vlbtest type dummy',
    'ip addr add 192.0.2.77/32 dev lo',
    'ip route add 192.0.2.78/32 dev lo',
    'busybox arping -c 1 -I lo 127.0.0.1',
    'busybox ping -c 1 -W 1 -I lo 127.0.0.1 && busybox grep -q 0000000000002000 /proc/self/status',
    'busybox reboot -f',
    'busybox poweroff -f',
    'busybox renice -n -5 $$',
    'busybox chrt -f 10 true',
    'busybox devmem 0',
    'echo -1000 > /proc/self/oom_score_adj',
    'cat /proc/kcore | head -c 1 | grep -q .',
    'cat /proc/keys | grep -q .',
  ])
})

hostile('capabilities: exactly those that packages need', async (rig) => {
  const log = await logOf(rig, 'busybox grep Cap /proc/self/status')
  // chown dac_override fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service sys_chroot mknod
  // audit_write setfcap, by their numbers (capability.h); what the host itself lacks is lacking here, too.
  const kept = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 18, 27, 29, 31].reduce((sum, n) => sum | (1n << BigInt(n)), 0n)
  const ours = BigInt(`0x${/CapBnd:\s*(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]}`)
  const sets = Object.fromEntries(
    [...log.matchAll(/Cap(\w+):\s*(\w+)/g)].map(([, name, hex]) => [name, BigInt(`0x${hex}`)]),
  )
  expect(sets).toEqual({ Inh: 0n, Prm: kept & ours, Eff: kept & ours, Bnd: kept & ours, Amb: 0n })
})

hostile('device nodes can be made, and opened nowhere', async (rig) => {
  const places = [
    '/root',
    '/mnt',
    '/tmp',
    '/run',
    '/dev',
    '/dev/shm',
    '/run/vlb',
    '/run/secrets',
    '/run/lock',
    '/dev/pts',
  ]
  const log = await logOf(
    rig,
    `for at in ${places.join(' ')}; do
  busybox mknod $at/node c 1 5 && echo "made $at"; dd if=$at/node of=/dev/null bs=1 count=1 2>/dev/null && echo "OPENED $at"
done; true`,
  )
  expect(log).toContain('made /root')
  expect(log).not.toContain('OPENED')
})

hostile('in a user namespace, where it is root of its own, it gets no further', async (rig) => {
  const inner = [
    'mount -o remount,rw /proc/sys',
    rewrite('/proc/sys/vm/swappiness'),
    'busybox umount /proc/sys',
    'busybox umount /proc/keys',
    'mount -t proc none /x && echo h > /x/sysrq-trigger',
    'mount -t tmpfs none /x && busybox mknod /x/zero c 1 5 && dd if=/x/zero bs=1 count=1',
    'mount -o remount,dev / && dd if=/zero bs=1 count=1',
    'busybox hostname evil',
    setClock,
  ]
  await allFail(
    rig,
    inner.map((command) => `busybox unshare -U -r -m sh -c '${command.replaceAll("'", "'\\''")}'`),
    'mkdir /x; busybox mknod /zero c 1 5',
  )
})

hostile('process 1, which still has files of the host open, cannot be looked into', async (rig) => {
  writeFileSync(join(rig.folder, 'host-file'), 'of the host')
  await allFail(rig, [
    ...['exe', 'root/', 'cwd/', 'environ', 'maps', 'mem', 'fd/0', 'fd/255'].map(
      (name) => `dd if=/proc/1/${name} bs=1 count=1`,
    ),
    'echo "# written by a script" >> /proc/1/fd/255',
    'for fd in /proc/1/fd/*; do echo "# written by a script" >> $fd && exit; done; false',
    'for fd in /proc/[0-9]*/fd/*; do busybox readlink $fd | grep -q runner && exit; done; false',
    `ls /proc/1/root${rig.folder}`,
    `for map in /proc/[0-9]*/map_files/*; do echo x >> $map && exit; done; false`,
    'busybox strace -p 1',
  ])
})

hostile(
  'values that would have a program of the host load a file reach the script, and nothing before it',
  async (rig) => {
    const marker = join(rig.folder, 'marker')
    const file = join(rig.folder, 'loaded')
    writeFileSync(file, `touch ${marker}\n`)
    const values = {
      BASH_ENV: file,
      ENV: file,
      LD_PRELOAD: file,
      LD_LIBRARY_PATH: rig.folder,
      PS4: `$(touch ${marker})`,
      PROMPT_COMMAND: `touch ${marker}`,
      IFS: '/',
      UID: '1234',
      PATH2: 'a b\tc',
      // As variables of ours might be called.
      ...{ script: 'other', variable: 'v', in: '1', out: '2', REPLY: 'left' },
    }
    const names = Object.keys(values)
    rig.project({
      '10_a': `${names.map((name) => `# vlb: env ${name}`).join('\n')}\nbusybox tr '\\0' '\\n' < /proc/self/environ > /dev/null; busybox env`,
    })
    rig.commit()
    const given = Object.entries(values).flatMap(([name, value]) => ['--env', `${name}=${value}`])
    const ran = await rig.vlb(['build', ...given])
    expect(ran.code, ran.all).toBe(0)
    const log = await rig.ok('log', '10_a', ...given)
    for (const [name, value] of Object.entries(values)) if (name !== 'IFS') expect(log).toContain(`${name}=${value}\n`)
    expect(ran.all + log).not.toMatch(/cannot be preloaded.*\n.*cannot be preloaded.*\n.*setpriv/)
    expect(existsSync(marker)).toBe(false)
  },
)

const trap = (rig: Rig) => {
  const folder = join(rig.folder, 'trap')
  mkdirSync(folder)
  writeFileSync(join(folder, 'secret'), 'a secret of the host\n')
  symlinkSync('/run/vlb/resolv.conf', join(folder, 'resolv.conf'))
  writeFileSync(join(folder, 'policy-rc.d'), '#!/bin/sh\n# No service starts while an image is built.\nexit 101\n')
  return folder
}
const listing = (folder: string) =>
  readdirSync(folder).map((name) => `${name} ${statSync(join(folder, name), { throwIfNoEntry: false })?.size}`)

const ruses: Record<string, (trap: string) => string> = {
  'its name servers are a link to a file of the host': (at) =>
    `rm /run/vlb/resolv.conf; ln -s ${at}/secret /run/vlb/resolv.conf`,
  'its name servers are a fifo': () => 'rm /run/vlb/resolv.conf; busybox mkfifo /run/vlb/resolv.conf',
  'its name servers are a folder': () => 'rm /run/vlb/resolv.conf; mkdir /run/vlb/resolv.conf',
  'its name servers are a device': () => 'rm /run/vlb/resolv.conf; busybox mknod /run/vlb/resolv.conf c 1 5',
  'its name servers have no end': () => 'busybox truncate -s 100G /run/vlb/resolv.conf',
  '/etc leads to a folder of the host': (at) => `mv /etc /e; ln -s ${at} /etc`,
  '/etc leads out by dots': (at) => `mv /etc /e; ln -s ../../../../../../../../../..${at} /etc`,
  '/etc leads to itself': () => 'mv /etc /e; ln -s etc /etc',
  '/etc is gone': () => 'rm -r /etc',
  '/usr/sbin leads to a folder of the host': (at) => `rm -r /usr/sbin; ln -s ${at} /usr/sbin`,
  'policy-rc.d is a fifo': () => 'rm /usr/sbin/policy-rc.d; busybox mkfifo /usr/sbin/policy-rc.d',
  'policy-rc.d has no end': () => 'busybox truncate -s 1T /usr/sbin/policy-rc.d',
  '/etc/fstab is a link to a file of the host': (at) => `ln -s ${at}/secret /etc/fstab`,
  '/etc/fstab is a fifo': () => 'busybox mkfifo /etc/fstab',
  '/etc/fstab has no end': () => 'busybox truncate -s 1T /etc/fstab',
  'what is installed is a fifo, a device, and has no end': () =>
    'mkdir -p /var/lib/dpkg /lib/apk/db /var/lib/rpm; busybox mkfifo /var/lib/dpkg/status; busybox mknod /lib/apk/db/installed c 1 5; busybox truncate -s 1T /var/lib/rpm/Packages; rm /etc/os-release; busybox mkfifo /etc/os-release',
  'places that were mounted on lead elsewhere': (at) =>
    `for name in srv opt; do rm -rf /$name; ln -s ${at} /$name; done; busybox mkfifo /mnt/fifo; ln -s ${at} /mnt/link`,
}

for (const [what, ruse] of Object.entries(ruses)) {
  hostile(`what it leaves behind: ${what}`, async (rig) => {
    const folder = trap(rig)
    const before = listing(folder)
    rig.project({ '10_a': 'mkdir -p /srv /opt; echo > /usr/sbin/invoke-rc.d', '20_b': ruse(folder) })
    rig.commit()
    const ran = await rig.vlb(['build', '--format', 'raw'])
    // A name that is refused is as good as one that does no harm.
    expect([0, 1, 2], ran.all).toContain(ran.code)
    expect(ran.stderr).not.toMatch(/internal error|please report/)
    expect(listing(folder)).toEqual(before)
    expect(readFileSync(join(folder, 'secret'), 'utf8')).toBe('a secret of the host\n')
    if (ran.code === 0) {
      const image = rig.path('build/image.raw')
      for (const path of ['/etc/resolv.conf', '/e/resolv.conf', '/etc/fstab'])
        expect(rig.debugfs(image, `cat ${path}`)).not.toContain('secret')
    }
  })
}

hostile('files that are immutable in its folder do not stay on the host', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `touch /mnt/stays; mkdir /mnt/folder\n${hold.line}` })
  rig.commit()
  const building = rig.start(['build'])
  await hold.reached()
  const [file] = rig.tool('find', rig.store('tmp'), '-name', 'stays').split('\n')
  expect(file).toBeTruthy()
  // chattr(1) is not in the tiny image; a script has the power for it.
  rig.tool('chattr', '+i', file ?? '', join(file ?? '', '../folder'))
  hold.release()
  const ran = await building.ended
  expect(ran.code, ran.all).toBe(0)
})

const space = readlinkSync('/proc/self/ns/pid').replace(/\D/g, '')

/** The control groups of runners that are gone. */
const deadGroups = (): string[] =>
  execFileSync('find', ['/sys/fs/cgroup', '-maxdepth', '6', '-type', 'd', '-name', `git-vlb-${space}-*`], {
    encoding: 'utf8',
  })
    .split('\n')
    .filter((path) => path !== '' && !existsSync(`/proc/${path.split('-').at(-1)}`))

hostile('it forks without end: it may not, and is ended with all it started', async (rig) => {
  const name = `1000${process.pid}${Date.now() % 100_000}`
  rig.project({
    '10_a': `# vlb: timeout 60s\ni=0; while [ $i -lt 6000 ]; do busybox sleep ${name} & i=$((i + 1)); done 2>/dev/null; exit 5`,
  })
  rig.commit()
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all.slice(-2000)).toBe(1)
  expect(await rig.ok('log')).toContain('the script may run 4096 processes at once, and wanted more')
  expect(ran.stderr).toContain('it started more processes than a script may have')
  expect(rig.processes(name)).toEqual([])
})

hostile('it fills memory: it is ended, and told why', async (rig) => {
  rig.git('config', 'vlb.memory', '64M')
  rig.project({ '10_a': 'dd if=/dev/zero of=/dev/null bs=300M count=1' })
  rig.commit()
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(1)
  expect(ran.stderr).toContain('hint: it ran out of memory: raise vlb.memory')
  expect(await rig.ok('log')).toContain('git vlb: memory ran out')
  // Files in memory count as well.
  rig.layer('10_a', 'dd if=/dev/zero of=/tmp/x bs=1M count=300; echo "status $?"; rm /tmp/x; true')
  await rig.vlb(['build'])
  expect(await rig.ok('log', '10_a')).toContain('git vlb: memory ran out')
  rig.layer('10_a', 'dd if=/dev/zero of=/big bs=1M count=20 && echo enough for files on the disk')
  expect(await rig.build()).toEqual(['10_a built'])
  rig.git('config', 'vlb.memory', 'none')
  rig.layer('10_a', 'dd if=/dev/zero of=/dev/null bs=100M count=1')
  expect(await rig.build()).toEqual(['10_a built'])
  rig.git('config', 'vlb.memory', 'much')
  expect((await rig.vlb(['build'])).stderr).toContain('vlb.memory takes a size')
})

hostile('its control groups go with it; one that a kill left goes with the next', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `cat /proc/self/cgroup\n${hold.line}` })
  rig.commit()
  const building = rig.start(['build'])
  await hold.reached()
  const supervised = rig.processes(`enter ${rig.store('tmp')}`)
  expect(supervised.length).toBeGreaterThan(0)
  for (const pid of supervised) process.kill(Number(pid), 'SIGKILL')
  await building.ended
  hold.release()
  expect(await rig.build()).toEqual(['10_a built'])
  for (let i = 0; i < 100 && deadGroups().length > 0; i++) await delay(50)
  expect(deadGroups()).toEqual([])
  for (const line of (await rig.ok('log', '10_a')).split('\n').filter((text) => /memory|pids/.test(text)))
    expect(line.split(':').at(-1)).toBe('/')
})

hostile('of another container, control groups go when they are old', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  const runner = join(projectRoot, 'dist/runner.sh')
  const [parent = ''] = execFileSync('bash', [runner, 'show_parents'], { encoding: 'utf8' }).split('\n')
  const [old, young] = [1, 2].map((n) => join(parent, `git-vlb-1-${process.pid}${n}`)) as [string, string]
  for (const group of [old, young]) mkdirSync(group)
  try {
    const before = new Date(Date.now() - 3_600_000)
    utimesSync(old, before, before)
    expect(await rig.build()).toEqual(['10_a built'])
    expect([existsSync(old), existsSync(young)]).toEqual([false, true])
  } finally {
    for (const group of [old, young].filter((path) => existsSync(path))) rmdirSync(group)
  }
})

hostile('where memory cannot be limited, that is an error if it was asked for, and doctor says so', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  const without = (...args: string[]) =>
    spawnSync(
      'unshare',
      ['--mount', 'sh', '-c', `umount -R /sys/fs/cgroup && exec ${rig.command} "$@"`, 'sh', ...args],
      { cwd: rig.repo, env: rig.env, encoding: 'utf8' },
    )
  expect(without('build').status).toBe(0)
  expect(without('doctor').stdout).toMatch(/control groups +.*(missing|none)/i)
  rig.git('config', 'vlb.memory', '1G')
  rig.layer('10_a', 'echo again')
  const refused = without('build')
  expect(refused.status, refused.stderr).toBe(3)
  expect(refused.stderr).toContain('vlb.memory cannot be obeyed here')
})

hostile('it prints without end: the log keeps its beginning and its end, and says so', async (rig) => {
  rig.project({
    '10_a': "echo first; busybox yes 'the same line again' | head -c 90000000; echo; echo the last words; exit 3",
  })
  rig.commit()
  const ran = await rig.vlb(['build', '-q'])
  expect(ran.code).toBe(1)
  expect(ran.stderr).toContain('| the last words')
  const { error } = await rig.json('build')
  const size = statSync(error.log).size
  expect(size).toBeGreaterThan(64 * 2 ** 20)
  expect(size).toBeLessThan(64 * 2 ** 20 + 70_000)
  const log = readFileSync(error.log, 'latin1')
  expect(log.slice(0, 6)).toBe('first\n')
  expect(log.slice(-16)).toBe('the last words\n'.padStart(16, '\n'))
  expect(log).toMatch(/\ngit vlb: \d+ bytes are left out here, since a log has at most 64 MiB\n/)
})

hostile(
  'its output cannot move the cursor or set a title, live or in `log`; a program that reads the log gets it as it is',
  async (rig) => {
    rig.project({
      '10_a':
        "printf '\\033[2J\\033]0;title\\007\\033[31mred\\033[8m hidden\\n\\033P+q\\033\\\\\\302\\233H10%%\\r100%%\\n'; exit 1",
    })
    rig.commit()
    const terminal = (...args: string[]) =>
      spawnSync('script', ['--quiet', '--return', '--command', `${rig.command} ${args.join(' ')}`, '/dev/null'], {
        cwd: rig.repo,
        env: { ...rig.env, TERM: 'xterm' },
        encoding: 'latin1',
        input: '',
      }).stdout
    const live = terminal('build')
    expect(live).toContain('red')
    for (const evil of ['\x1b[2J', '\x1b]0;', '\x1b[8m', '\x1bP', '\x9bH', '\x07']) expect(live).not.toContain(evil)
    // The cursor shows again, whatever was before.
    const shown = terminal('log', '10_a').replaceAll('\x1b[?25h', '')
    expect(shown).toContain('red hidden')
    expect(shown).toContain('100%')
    expect(shown).not.toMatch(/[\x1b\x9b\x07]/)
    expect(await rig.ok('log', '10_a')).toContain('\x1b]0;title\x07')
  },
)

hostile(
  "a shell in what failed does not obey the log's last lines, nor follow what is left in place of what was typed",
  async (rig) => {
    rig.project({ '10_a': "printf '\\033[2J\\033]0;title\\007last words\\n'; exit 1" })
    rig.commit()
    await rig.vlb(['build', '--keep-failed'])
    writeFileSync(join(rig.folder, 'host-file'), '0\0secret of the host\0')
    const opened = (commands: string, ...args: string[]) =>
      spawnSync('sh', ['-c', `${rig.command} shell ${args.join(' ')}`], {
        cwd: rig.repo,
        env: rig.env,
        encoding: 'latin1',
        input: commands,
      })
    const failed = opened('exit\n', '--failed')
    expect(failed.stderr).toContain('| last words')
    expect(failed.stderr).not.toMatch(/[\x1b\x07]/)
    rig.layer(
      '10_a',
      'printf "#!/bin/sh\\nrm -f /run/vlb-record/typed; ln -s $HOST /run/vlb-record/typed\\n" > /bin/bash; chmod 755 /bin/bash'.replace(
        '$HOST',
        join(rig.folder, 'host-file'),
      ),
    )
    await rig.build()
    const recorded = opened('', '10_a', '--record', 'typed')
    expect(recorded.status, recorded.stderr).toBe(0)
    expect(existsSync(rig.path('20_typed'))).toBe(false)
    rig.layer(
      '10_a',
      'printf "#!/bin/sh\\nrm -f /run/vlb-record/typed; busybox mkfifo /run/vlb-record/typed\\n" > /bin/bash; chmod 755 /bin/bash',
    )
    await rig.build()
    expect(opened('', '10_a', '--record', 'typed').status).toBe(0)
  },
)
