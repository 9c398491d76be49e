// The gate before a release: the Debian demo image passes the built-in checks and one of the project's, and does not pass
// when something in it is broken.
import { expect } from 'vitest'
import { againstSchema } from '../rig/junit.ts'
import { rigTest } from '../rig/rig.ts'

const needs = [
  'root',
  'fuse',
  'loop',
  'tool:mmdebstrap',
  'tool:extlinux',
  'tool:qemu-system-x86_64',
  'tool:xmllint',
] as const

rigTest(
  'a Debian image passes its checks once; with a broken service it does not, and the report says why',
  async (rig) => {
    await rig.ok('init', '--template', 'debian', '.')
    rig.write({
      'checks/10_page': '#!/bin/sh\n# vlb: timeout 1m\ncurl -fsS http://localhost/\n',
    })
    rig.commit('a web server, and a check of it')
    await rig.ok('build')
    const good = await rig.json('test-boot', '--check', '--timeout', '20m', '--junit', 'build/checks.xml')
    expect(good, JSON.stringify(good)).toMatchObject({ ok: true, remembered: null })
    const [machine] = good.machines
    const states = machine.checks.map((check: { name: string; state: string }) => `${check.name} ${check.state}`)
    const builtin = ['boot-settled', 'failed-units', 'root-space', 'disk-size', 'clock']
    expect(states).toEqual([...builtin, '10_page'].map((name) => `${name} passed`))
    expect(machine.checks[0].output).toContain('systemd says: running')
    expect(machine.checks[5].output).toContain('<html')
    expect(rig.read('build/checks.xml')).toContain('<testcase name="10_page"')
    expect(againstSchema(rig.path('build/checks.xml'))).toBe('')
    expect(await rig.ok('test-boot', '--check')).toContain('passed these checks on')
    expect(await rig.ok('status')).toContain('current, tested')

    rig.layer(
      '40_broken',
      [
        'printf "[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \\"echo the disk is upside down; exit 3\\"\\n" >/etc/systemd/system/upside.service',
        'mkdir -p /etc/systemd/system/multi-user.target.wants',
        'ln -s ../upside.service /etc/systemd/system/multi-user.target.wants/upside.service',
        'echo "<html>" >/etc/nginx/conf.d/broken.conf',
      ].join('\n'),
    )
    const bad = await rig.vlb(['test-boot', '--check', '--timeout', '20m', '--junit', 'build/bad.xml'])
    expect(bad.code, bad.all).toBe(1)
    expect(bad.stdout).toMatch(/failed +failed-units/)
    expect(bad.stdout).toMatch(/failed +10_page/)
    expect(bad.stdout).toMatch(/journal of upside\.service:[\s\S]*the disk is upside down/)
    expect(againstSchema(rig.path('build/bad.xml'))).toBe('')
    expect(bad.stdout).toMatch(/2 of 6 checks failed: failed-units, 10_page/)
    expect(await rig.ok('status')).not.toContain('tested')
  },
  needs,
)
