// Attaching by the kernel's nbd, on a machine that has it: a Debian guest without FUSE exports, in which the built program
// builds layers. The guest works through a script and tells on its console what came of each step.
import { cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject } from 'vitest'
import { debianBase } from '../rig/debian-base.ts'
import { projectRoot, rigTest } from '../rig/rig.ts'

const needs = ['root', 'fuse', 'loop', 'tool:mmdebstrap', 'tool:extlinux', 'tool:qemu-system-x86_64'] as const

const tools = `set -eu
apt-get update
apt-get install -y --no-install-recommends git qemu-utils attr
apt-get clean
rm -rf /var/lib/apt/lists/*
touch /etc/cloud/cloud-init.disabled
systemctl mask serial-getty@ttyS0.service systemd-networkd-wait-online.service ssh.service
cat >/etc/systemd/system/prove.service <<'END'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
ExecStart=/opt/prove
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
END
systemctl enable prove.service`

/** From the host: node, which is new enough, the built program, a tiny disk. */
const bring = `#!/bin/sh
set -eu
mkdir root
mount -t ext4 "$VLB_PARTITION_1" root
cp -L ${process.execPath} root/opt/node
cp -R ${join(projectRoot, 'dist')} root/opt/dist
cp ${inject('tinyDisk')} root/opt/tiny.raw
cp prove root/opt/prove
chmod 755 root/opt/prove root/opt/node
umount root
`

/** Each step prints one line; what a failing one said comes before it. */
const prove = `#!/bin/bash
set -u
export HOME=/root LC_ALL=C.UTF-8 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
printf '#!/bin/sh\\nexec /opt/node /opt/dist/main.mjs "$@"\\n' >/usr/local/bin/vlb
chmod 755 /usr/local/bin/vlb
step() { # NAME COMMAND...
  if "\${@:2}" >/tmp/said 2>&1; then echo "prove: $1: yes"; else cat /tmp/said; echo "prove: $1: no"; fi
}
refused() { # STATUS PATTERN COMMAND...
  local status
  "\${@:3}" >/tmp/refused 2>&1
  status=$?
  cat /tmp/refused
  [ "$status" = "$1" ] && grep -q -- "$2" /tmp/refused
}
# Nothing of a build is left: connected devices but those named, sizes, loop devices, processes.
idle() { # DEVICE...
  local path
  for _ in {1..100}; do
    left=$(losetup --list --noheadings; pgrep -a 'qemu-nbd|unshare' | grep -v 'busy')
    for path in /sys/block/nbd*; do
      [[ " $* " == *" \${path##*/} "* ]] && continue
      [ ! -e "$path/pid" ] && [ "$(<"$path/size")" = 0 ] || left+=" \${path##*/}"
    done
    [ -n "$left" ] || return 0
    sleep 0.1
  done
  echo "left: $left"
  mount | grep vlb
  return 1
}
layer() { # NAME SCRIPT
  mkdir -p "$1"
  printf '#!/bin/sh\\nset -eu\\n%s\\n' "$2" >"$1/build-layer"
  chmod 755 "$1/build-layer"
}
by='for at in /sys/block/nbd*/pid; do echo "by $at"; done'
built() { vlb log "$1" | tee /dev/stderr | grep -q "$2"; }
hold() { # DEVICE: starts a build and waits until its script runs; sets job
  layer 30_held "echo held >/held; sleep 1000$RANDOM"
  vlb build >/tmp/held 2>&1 &
  job=$!
  for _ in {1..1200}; do
    pgrep -f 'sleep 1000' >/dev/null && [ -e "/sys/block/$1/pid" ] && return
    kill -0 $job || break
    sleep 0.1
  done
  cat /tmp/held
  return 1
}

cd /root && git init -q project && cd project
cp /opt/tiny.raw .
printf 'version: 1\\nbase: { path: tiny.raw }\\ndisk: { size: 64M }\\n' >vlb.yaml
printf '/build/\\n/tiny.raw\\n' >.gitignore
layer 10_a 'echo a >/a'
layer 20_b "cat /a; $by"

step 'neither way: refused' refused 3 'by FUSE: .*modprobe nbd max_part=0' vlb build
git config vlb.attach nbd
step 'no module: refused' refused 3 'modprobe nbd max_part=0' vlb build
modprobe nbd max_part=0 nbds_max=4
step 'doctor: this host can build' vlb doctor
step 'a build by nbd' vlb build
step 'its script ran on nbd0' built 20_b 'by /sys/block/nbd0/pid'
step 'idle' idle
step 'the image is sound' qemu-img check build/image.qcow2

git config --unset vlb.attach
layer 20_b "cat /a; echo x; $by"
step 'auto takes nbd where FUSE does not work' vlb build
step 'idle again' idle
step 'a build on a device by name' vlb build --nbd /dev/nbd3 --rebuild 20_b
step 'its script ran on nbd3' built 20_b 'by /sys/block/nbd3/pid'
step 'a shell on a device by name' bash -c "echo 'cat /a; ls /sys/block/nbd3/pid' | vlb shell --nbd /dev/nbd3 | grep nbd3"
step 'idle after that' idle

mkdir 30_disk
printf '%s\\n' '#!/bin/sh' 'set -eux' 'qemu-img create -f qcow2 -o compat=0.10 -b "$1" "$2" 200M' \
  'qemu-nbd --connect="$3" "$2"' 'growpart "$3" 1' 'e2fsck -y -f "\${3}p1"; resize2fs "\${3}p1"' \
  'mkdir m; mount -t ext4 "$VLB_PARTITION_1" m; echo disk >m/disk; umount m' 'qemu-nbd --disconnect "$3"' >30_disk/modify-disk
chmod 755 30_disk/modify-disk
layer 40_c 'cat /disk; stat -f -c "%b %S" /'
step 'a modify-disk layer that grows the disk' vlb build
vlb log 30_disk
step 'what it wrote' built 40_c disk
step 'the size that it has' bash -c "vlb log 40_c | awk '\\$1 * \\$2 > 180 * 2 ^ 20 { found = 1 } END { exit !found }'"
step 'and no more' bash -c "qemu-img info build/image.qcow2 | grep -F '(209715200 bytes)'"
step 'sound' qemu-img check build/image.qcow2
step 'two disks side by side' refused 1 '^A.*disk' vlb diff --name-status --exit-code 20_b 40_c
step 'idle after those' idle
rm -r 30_disk 40_c

truncate -s 1M /tmp/busy.raw
qemu-nbd --connect=/dev/nbd0 --fork --format=raw /tmp/busy.raw
for _ in {1..600}; do [ ! -e /sys/block/nbd0/pid ] || break; sleep 0.1; done
pid=$(pgrep qemu-nbd)
step 'a busy device: refused' refused 3 "/dev/nbd0 is in use, by process [0-9]* (qemu-nbd)" vlb build --nbd /dev/nbd0 --rebuild 20_b
step 'the process it names' grep -q "process $pid " /tmp/refused
step 'a device that is not there: refused' refused 3 'there is no device /dev/nbd9' vlb build --nbd /dev/nbd9 --rebuild 20_b
step 'a free device is found' vlb build --rebuild 20_b
step 'its script ran on nbd1' built 20_b 'by /sys/block/nbd1/pid'
step 'idle but for that one' idle nbd0

git add . && git commit -qm one
layer 20_b 'echo two'
git add . && git commit -qm two
layer 20_b 'echo three'
git add . && git commit -qm three
step 'two builds at once' vlb build -j 2 HEAD HEAD~1 --rebuild 10_a
step 'idle after both' idle nbd0

step 'held in mid-layer' hold nbd1
kill -KILL $job
wait $job
step 'git vlb killed: idle' idle nbd0
step 'held again' hold nbd1
kill -KILL $(pgrep -f 'runner.sh supervise' | head -n 1)
step 'the runner killed: an error' refused 1 'the sandbox ended' bash -c "tail --pid=$job -f /dev/null; cat /tmp/held; exit 1"
step 'the runner killed: idle' idle nbd0
step 'held once more' hold nbd1
kill -KILL $(pgrep -f 'connect=/dev/nbd1')
kill $(pgrep -f 'sleep 1000')
step 'qemu-nbd killed: an error' refused 1 'error:' bash -c "tail --pid=$job -f /dev/null; cat /tmp/held; exit 1"
step 'qemu-nbd killed: idle' idle nbd0

rm -r 30_held
qemu-nbd --disconnect /dev/nbd0
step 'idle in the end' idle
step 'builds as if nothing had been' vlb build
step 'the kernel was content' bash -c "! dmesg | grep -E 'BUG:|Oops|hung_task|blocked for more'"
echo 'prove: all done'
`

rigTest(
  'a host without FUSE exports builds by nbd: a free device, one by name, none that is busy, nothing left after kills',
  async (rig) => {
    rig.write({
      'vlb.yaml': `version: 1\nbase: { path: ${debianBase()} }\nseal: false\n`,
      '.gitignore': '/build/\n',
      '20_program/modify-disk': bring,
      '20_program/prove': prove,
    })
    rig.layer('10_tools', tools)
    rig.commit('a host for nbd')
    await rig.build()
    const guest = await rig.vlb(['test-boot', '--memory', '2G', '--expect', 'prove: all done', '--timeout', '25m'])
    if (process.env['VLB_TEST_KEEP'] === '1') {
      mkdirSync(join(rig.folder, 'kept'), { recursive: true })
      cpSync(rig.path('build/image.qcow2'), join(rig.folder, 'kept/image.qcow2'))
    }
    expect(guest.code, guest.all).toBe(0)
    const steps = [...guest.all.matchAll(/prove: (.*): (yes|no)/g)].map(([, name, answer]) => `${name}: ${answer}`)
    expect(
      steps.filter((step) => step.endsWith(': no')),
      guest.all,
    ).toEqual([])
    expect(steps).toHaveLength([...prove.matchAll(/^step '/gm)].length)
  },
  needs,
)
