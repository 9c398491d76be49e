// `test-boot --ssh` on a real Debian that knows neither key nor user: a command, and a shell on a real terminal.
import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { debianBase } from '../rig/debian-base.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { Terminal } from '../rig/terminal.ts'

const needs = [
  ...(['root', 'fuse', 'loop', 'tool:mmdebstrap', 'tool:extlinux', 'tool:qemu-system-x86_64'] as const),
  ...(['tool:xorriso', 'tool:ssh', 'tool:ssh-keygen'] as const),
]

function debian(rig: Rig): void {
  copyFileSync(debianBase(), rig.path('debian.raw'))
  rig.write({
    'vlb.yaml': 'version: 1\nbase: { path: debian.raw }\n',
    '.gitignore': '/build/\n/debian.raw\n',
    '10_a/build-layer': '#!/bin/sh\necho hello >/etc/motd\n',
  })
}

const boot = ['test-boot', '--no-flatten', '--timeout', '10m', '--ssh']

rigTest(
  '--ssh runs a command as root, and ends with its status',
  async (rig) => {
    debian(rig)
    const ran = await rig.vlb([...boot, 'id -un; cat /etc/motd; exit 7'])
    expect(ran.stdout, ran.all).toContain('root\nhello\n')
    expect(ran.code).toBe(7)
  },
  needs,
)

rigTest(
  '--ssh opens a shell on the terminal: with its size, with Ctrl-C for the guest, until ^D, and all is as before',
  async (rig) => {
    debian(rig)
    const command = `${rig.command} ${boot.join(' ')}`
    const window = new Terminal(
      rig,
      `stty -g >../before; ${command}; echo $? >../status; stty -g >../after; mv ../after ../then`,
      { columns: 100, rows: 30 },
    )
    try {
      await window.shows(/root@\S+:~# $/m, 600)
      window.type('stty size')
      await window.shows(/^30 100$/m, 30)
      window.resize(120, 40)
      window.type('stty size')
      await window.shows(/^40 120$/m, 30)
      window.type('echo started; sleep 10000')
      await window.shows(/^started$/m, 30)
      window.press('C-c')
      window.type('echo "still $(id -un)"; (exit 7)')
      await window.shows(/^still root$/m, 30)
      window.press('C-d')
      const after = await window.file('then', 60)
      expect(readFileSync(join(rig.folder, 'status'), 'utf8'), window.screen).toBe('7\n')
      expect(after).toBe(readFileSync(join(rig.folder, 'before'), 'utf8'))
    } finally {
      window.close()
    }
  },
  [...needs, 'tool:tmux'],
)
