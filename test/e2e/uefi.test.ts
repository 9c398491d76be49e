// UEFI, seeds and what takes a boot of a real Debian: its firmware starts it, cloud-init finds in its seed who it is, and a
// picture of the screen is taken. No image is written: the chain itself is booted.
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Need } from '../rig/need.ts'
import { projectRoot, rigTest } from '../rig/rig.ts'
import { tinyGuest } from '../rig/tiny-guest.ts'
import { systemdBoot, uefiDisk } from '../rig/uefi-disk.ts'

const needs: Need[] = [
  ...(['root', 'fuse', 'loop', 'tool:mmdebstrap', 'tool:extlinux', 'tool:qemu-system-x86_64'] as const),
  ...(['tool:mformat', 'tool:debugfs', 'file:/usr/share/OVMF/OVMF_CODE_4M.fd', `file:${systemdBoot}`] as Need[]),
]

/** Said again and again: whether it or the prompt comes first, and whether on one line, is left to chance. */
const seen = 'printf "\\nseen: $(id alice), efi $(ls -d /sys/firmware/efi)\\n" >/dev/console'

const userData = `#cloud-config
hostname: web1
users:
  - default
  - name: alice
    shell: /bin/bash
runcmd:
  - [sh, -c, 'for i in $(seq 60); do ${seen}; sleep 2; done']
`

rigTest(
  'systemd-boot on an ESP boots by UEFI; host name and a user come from the seed; the screen shows the login prompt',
  async (rig) => {
    uefiDisk(rig.path('debian.raw'))
    rig.write({
      'vlb.yaml': 'version: 1\nbase: { path: debian.raw }\nboot: { firmware: uefi }\n',
      '.gitignore': '/build/\n/debian.raw\n/login.png\n',
      '10_a/build-layer': '#!/bin/sh\necho hello >/etc/motd\n',
      'cloud-init/user-data': userData,
    })
    rig.commit()
    const patterns = ['--expect', '^web1 login:', '--expect', '^seen: uid=\\d+\\(alice\\).* efi /sys/firmware/efi']
    const result = await rig.json(
      ...['test-boot', 'HEAD', '--no-flatten', ...patterns, '--timeout', '10m', '--screenshot', 'login.png', '--keep'],
    )
    expect(result, result.reason).toMatchObject({ ok: true, verdict: 'booted', firmware: 'uefi' })
    const picture = readFileSync(rig.path('login.png'))
    expect(picture.subarray(1, 4).toString()).toBe('PNG')
    // Blank, it has no more than some hundred bytes.
    expect(picture.length).toBeGreaterThan(1000)
    expect(rig.exists('build/image.qcow2'), 'an image was written').toBe(false)
    // What the guest wrote can be looked at.
    const changes = await rig.json('diff', 'HEAD', 'build/kept.qcow2', '/etc')
    expect(JSON.stringify(changes)).toContain('/etc/hostname')
    const artefacts = join(projectRoot, 'test/artefacts')
    mkdirSync(artefacts, { recursive: true })
    copyFileSync(rig.path('login.png'), join(artefacts, 'login.png'))
  },
  needs,
)

rigTest(
  'checks run on a machine with BIOS and one with UEFI, side by side, and each is what it is said to be',
  async (rig) => {
    rig.project(
      { '10_a': 'true' },
      'boot: { memory: 256M, machines: [{ cpus: 1 }, { cpus: 1, firmware: uefi }, { cpus: 2, firmware: uefi }] }\n',
    )
    tinyGuest(rig.path('tiny.raw'), undefined, { uefi: true })
    rig.write({ 'checks/10_firmware': '#!/bin/sh\n[ -d /sys/firmware/efi ] && echo uefi || echo bios\n' })
    const result = await rig.json('test-boot', '--check', '--accel', 'tcg', '--timeout', '10m')
    expect(result, result.reason).toMatchObject({ ok: true, verdict: 'booted' })
    // biome-ignore lint/suspicious/noExplicitAny: results as JSON
    const found = result.machines.map((one: any) => [one.name, one.firmware, one.checks.at(-1).output, one.ok])
    expect(found).toEqual([
      ['1 cpu, 256 MiB', 'bios', 'bios\n', true],
      ['1 cpu, 256 MiB, uefi', 'uefi', 'uefi\n', true],
      ['2 cpus, 256 MiB, uefi', 'uefi', 'uefi\n', true],
    ])
    expect((await rig.json('test-boot', '--check', '--accel', 'tcg')).remembered).toMatch(/^20/)
  },
  [...needs, 'tool:busybox'],
)
