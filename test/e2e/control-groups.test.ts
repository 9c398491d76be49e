// Limits for scripts by control groups of the second version, in a guest that has only those, as most hosts do: with a session in
// a slice, as systemd makes them. The first version is what other tests may find on the host.
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import { projectRoot, rigTest } from '../rig/rig.ts'
import { tinyGuest } from '../rig/tiny-guest.ts'

const needs = ['root', 'loop', 'tool:mmdebstrap', 'tool:extlinux', 'tool:busybox', 'tool:qemu-system-x86_64'] as const

/** As runner.sh has it around. */
const script = `
die() { echo "died $*"; exit 70; }
tell() { echo "told $1"; }
groups=() lacking=''
. /limits.sh
show_parents
stale=/sys/fs/cgroup/user.slice/git-vlb-$(readlink /proc/self/ns/pid | tr -dc 0-9)-99999
mkdir $stale
make_groups 50000000
echo "groups \${groups[*]}, lacking '$lacking'"
echo "limits $(cat "$groups/memory.max" "$groups/memory.swap.max" "$groups/pids.max" 2>/dev/null | tr '\\n' ' ')"
echo "stale $(ls -d $stale 2>/dev/null)"
limited busybox sh -c 'echo "in $(cat /proc/self/cgroup)"'
limited busybox dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null; echo "small $?"
limited busybox dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo "large $?"
tell_limits
remove_groups
echo "left $(ls -d /sys/fs/cgroup/user.slice/git-vlb-* 2>/dev/null)"
echo "-memory" >/sys/fs/cgroup/user.slice/cgroup.subtree_control
echo "-memory" >/sys/fs/cgroup/cgroup.subtree_control
groups=() && make_groups '~50000000' && echo "without: \${#groups[@]} '$lacking'"
groups=() && make_groups 50000000 && echo "without, asked: \${#groups[@]} '$lacking'"
`

const init = `#!/bin/sh
exec >/dev/console 2>&1
busybox mount -t proc proc /proc; busybox mount -t sysfs sysfs /sys; busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd /sys/fs/cgroup && echo "+memory +pids" >cgroup.subtree_control
mkdir user.slice && echo "+memory +pids" >user.slice/cgroup.subtree_control
mkdir user.slice/session-1.scope
(echo 0 >user.slice/session-1.scope/cgroup.procs; exec /bin/bash /limits-test)
echo "all done"
while :; do busybox sleep 1000; done
`

/** bash and its libraries, where this host has them. */
function copyBash(root: string): void {
  const libraries = execFileSync('ldd', ['/bin/bash'], { encoding: 'utf8' }).match(/\/\S+/g) ?? []
  for (const path of ['/bin/bash', ...libraries]) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    copyFileSync(path, join(root, path))
  }
}

rigTest(
  'a script of a session is limited in a group beside it, which goes again; without controllers it is said',
  async (rig) => {
    rig.project({ '10_a': 'true' })
    const disk = tinyGuest(join(rig.folder, 'guest.raw'), (root) => {
      copyBash(root)
      symlinkSync('busybox', join(root, 'bin/rmdir'))
      copyFileSync(join(projectRoot, 'src/image/runner/limits.sh'), join(root, 'limits.sh'))
      writeFileSync(join(root, 'limits-test'), script)
      rmSync(join(root, 'sbin/init'))
      writeFileSync(join(root, 'sbin/init'), init, { mode: 0o755 })
    })
    const ran = await rig.vlb(['test-boot', disk, '--expect', '^all done', '--timeout', '5m'])
    expect(ran.code, ran.all).toBe(0)
    const said = ran.stderr.replaceAll('\r', '')
    expect(said).toContain('/sys/fs/cgroup/user.slice\n')
    expect(said).toMatch(/^groups \/sys\/fs\/cgroup\/user\.slice\/git-vlb-\d+-\d+, lacking ''$/m)
    expect(said).toMatch(/^limits 49999872 (0 )?4096 $/m)
    expect(said).toMatch(/^stale $/m)
    expect(said).toMatch(/^in 0::\/user\.slice\/git-vlb-\d+-\d+$/m)
    expect(said).toMatch(/^small 0$/m)
    expect(said).toMatch(/^large 137$/m)
    expect(said).toMatch(/^told limit memory$/m)
    expect(said).toMatch(/^left $/m)
    expect(said).toMatch(/^without: 0 ''$/m)
    expect(said).toMatch(/^without, asked: 0 'memory'$/m)
  },
  needs,
)
