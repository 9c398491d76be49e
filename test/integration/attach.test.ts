// How disks are attached: the choice between FUSE and nbd, and what is said where neither works. That nbd works is shown on
// a machine that has it, in test/e2e/nbd.test.ts.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { complains, refused } from '../rig/refused.ts'
import { type Ran, type Rig, type Running, rigTest } from '../rig/rig.ts'

/** Runs the program on a host that a script (sh) has changed before, in a mount namespace of its own. */
function onHost(rig: Rig, changes: string[], args: string[]): Ran {
  const [node = '', program = ''] = rig.command.split(' ')
  const script = ['set -e', ...changes, 'exec "$@"'].join('\n')
  const inside = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', node, program, ...args]
  const options = { cwd: rig.repo, env: rig.env, encoding: 'utf8' } as const
  const { status, signal, stdout, stderr } = spawnSync('unshare', inside, options)
  return { code: status, signal, stdout, stderr, all: stdout + stderr }
}

interface Devices {
  /** Of these, which are connected; by the process that says so. */
  busy?: string[]
  fuse?: boolean
}

/** A /dev with these nbd devices, nodes without a driver, and none of the host's. */
function devices(rig: Rig, names: string[], { busy = [], fuse = true }: Devices = {}): string {
  const dev = join(rig.folder, 'dev')
  const sys = join(rig.folder, 'sys')
  return `mkdir -p ${dev} ${sys}
mount -t tmpfs -o dev none ${dev}; cp -a $(ls -d /dev/* | grep -vE '/(nbd.*|pts|shm|mqueue|hugepages)$') ${dev}/
mount -t tmpfs none ${sys}; cp -a $(ls -d /sys/block/* | grep -v /nbd) ${sys}/
for name in ${names.join(' ')}; do mknod ${dev}/$name b 43 $((\${name#nbd} * 32)); mkdir ${sys}/$name; done
for name in ${busy.join(' ')}; do echo $$ >${sys}/$name/pid; done
${fuse ? '' : `rm ${dev}/fuse`}
mount --move ${sys} /sys/block; mount --move ${dev} /dev`
}

/** A script in place of a program, also for what runs as root. */
function instead(rig: Rig, name: string, script: string): string {
  const file = join(rig.folder, name)
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o755)
  return `mount --bind ${file} "$(command -v ${name})"`
}

const both = ['by FUSE: modprobe fuse', 'qemu-system-common', 'by nbd: modprobe nbd max_part=0', 'qemu-utils']

function project(rig: Rig): void {
  rig.project({ '10_a': 'echo a > /a' })
  rig.commit()
}

describe('settings', () => {
  rigTest('a way that there is not: the words that there are, and the nearest', async (rig) => {
    project(rig)
    rig.git('config', 'vlb.attach', 'ndb')
    await refused(rig, ['build'], {
      says: 'vlb.attach takes one of auto, fuse, nbd, not "ndb"',
      hint: 'vlb.attach nbd',
    })
    rig.git('config', 'vlb.attach', 'foo')
    await refused(rig, ['build'], { says: 'not "foo"', hint: 'vlb.attach auto' })
  })

  rigTest('--nbd with what is no nbd device, or for several builds at once', async (rig) => {
    project(rig)
    for (const device of ['/dev/sda', 'nbd0', '/dev/nbd0p1']) {
      for (const verb of ['build', 'shell'])
        await refused(rig, [verb, '--nbd', device], { says: `not "${device}"`, hint: 'vlb.attach nbd' })
    }
    const args = ['build', '--nbd', '/dev/nbd0', '-j', '2']
    await refused(rig, args, { says: ['-j 2 needs as many devices', '--nbd names one'], hint: 'vlb.attach nbd' })
  })
})

describe('a host', () => {
  rigTest('without FUSE and nbd: both ways to help oneself', async (rig) => {
    project(rig)
    const changes = [devices(rig, [], { fuse: false })]
    const says = ['neither by FUSE (there is no /dev/fuse) nor by nbd (there is no /dev/nbd0)']
    complains(onHost(rig, changes, ['build']), { status: 3, says, hint: both })
  })

  rigTest('without FUSE, which was asked for: nbd is not tried', async (rig) => {
    project(rig)
    rig.git('config', 'vlb.attach', 'fuse')
    const changes = [devices(rig, ['nbd0'], { fuse: false })]
    complains(onHost(rig, changes, ['build']), { status: 3, says: 'there is no /dev/fuse', hint: both })
  })

  rigTest(
    "whose qemu has no FUSE exports, and no nbd: what it said is not taken for the program's fault",
    async (rig) => {
      project(rig)
      const old = instead(rig, 'qemu-storage-daemon', 'echo "Invalid parameter \'fuse\'" >&2; exit 1')
      const ran = onHost(rig, [devices(rig, []), old], ['build'])
      complains(ran, { status: 3, says: ['did not export the disk', 'nor by nbd'], hint: both })
    },
  )

  rigTest('without the module nbd, which was asked for', async (rig) => {
    project(rig)
    rig.git('config', 'vlb.attach', 'nbd')
    const expected = { status: 3, says: ["the kernel's module nbd is not loaded"], hint: both }
    complains(onHost(rig, [devices(rig, [])], ['build']), expected)
    complains(onHost(rig, [devices(rig, [])], ['build', '--nbd', '/dev/nbd3']), expected)
  })

  rigTest('with devices: one that is not there, one in use, all in use, and one that does not work', async (rig) => {
    project(rig)
    rig.git('config', 'vlb.attach', 'nbd')
    const made = (busy: string[]) => devices(rig, ['nbd0', 'nbd1'], { busy })
    const run = (busy: string[], ...args: string[]) => onHost(rig, [made(busy)], ['build', ...args])

    const hint = ['qemu-nbd --disconnect', 'vlb.attach nbd']
    complains(run([], '--nbd', '/dev/nbd7'), { status: 3, says: 'no device /dev/nbd7, but /dev/nbd0 /dev/nbd1', hint })
    const used = run(['nbd1'], '--nbd', '/dev/nbd1')
    complains(used, { status: 3, says: '/dev/nbd1 is in use, by process ', hint })
    expect(used.stderr).toMatch(/by process \d+ \(node\)/)
    complains(run(['nbd0', 'nbd1']), { status: 3, says: 'all 2 nbd devices are in use', hint })

    // These are nodes without a driver.
    complains(run(['nbd0']), {
      status: 3,
      says: 'qemu-nbd cannot connect /dev/nbd1: qemu-nbd: Failed to open',
      hint: both,
    })
    const faster = instead(
      rig,
      'qemu-nbd',
      `echo "$*" >>${rig.folder}/asked; echo 'qemu-nbd: Failed to set NBD socket'; exit 1`,
    )
    complains(onHost(rig, [made([]), faster], ['build']), { status: 3, says: 'all 2 nbd devices are in use', hint })
    expect(rig.read('../asked')).toMatch(/--connect=\/dev\/nbd0 .*\n.*--connect=\/dev\/nbd1 /)
    expect(existsSync(rig.store('snapshots')) && rig.tool('ls', rig.store('snapshots'))).toBeFalsy()
  })
})

/** Where a program of the host finds the root file system of the layer that is being built. */
function rootInSandbox(program: Running): string {
  const apart = program
    .descendants()
    .find((pid) => readlinkSync(`/proc/${pid}/ns/mnt`) !== readlinkSync('/proc/self/ns/mnt'))
  const mounts = readFileSync(`/proc/${apart}/mounts`, 'utf8')
  return `/proc/${apart}/root${/ (\S+\/ns\/root) ext4 /.exec(mounts)?.[1]}`
}

rigTest('a program of the host that looks into a layer keeps it from ending: it is named', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `echo a > /a\n${hold.line}` })
  rig.commit()
  const building = rig.start(['build'])
  await hold.reached()
  const holder = spawn('sleep', ['600'], { cwd: rootInSandbox(building) })
  await once(holder, 'spawn')
  hold.release()
  const ran = await building.ended
  holder.kill()
  expect(ran.code, ran.all).toBe(1)
  expect(ran.stderr).toContain(
    `error: the image's file system at / stays busy, held by ${holder.pid} (sleep); end that`,
  )
  await once(holder, 'close')
  expect(await rig.build()).toEqual(['10_a built'])
})

describe('doctor', () => {
  const line = (ran: Ran, name: string) => ran.stdout.split('\n').find((text) => text.includes(` ${name} `)) ?? ''

  rigTest('without nbd: told, but not needed', async (rig) => {
    const ran = onHost(rig, [devices(rig, [])], ['doctor'])
    expect(ran.code, ran.all).toBe(0)
    expect(line(ran, '/dev/nbd0')).toMatch(/absent .* missing: modprobe nbd max_part=0 .*where FUSE does not work/)
  })

  rigTest('with nbd instead of FUSE: this host can build; with neither it cannot', async (rig) => {
    const instead = onHost(rig, [devices(rig, ['nbd0'], { fuse: false })], ['doctor'])
    expect(instead.code, instead.all).toBe(0)
    expect(line(instead, '/dev/fuse')).toMatch(/absent/)
    expect(line(instead, '/dev/nbd0')).toMatch(/ok .* there/)
    const neither = onHost(rig, [devices(rig, [], { fuse: false })], ['doctor'])
    expect(neither.code, neither.all).toBe(3)
    expect(line(neither, '/dev/fuse')).toMatch(/missing .* missing: modprobe fuse/)
  })
})
