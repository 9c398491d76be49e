// Guests that come to nothing, each in its own way: told apart, in time, and qemu never outlives them or us.
import { chmodSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyGuest } from '../rig/tiny-guest.ts'

const needs = ['root', 'loop', 'tool:mmdebstrap', 'tool:extlinux', 'tool:busybox', 'tool:qemu-system-x86_64'] as const

const line = 'the same line again and again, as fast as the serial line takes it, for ever and ever'

/** What boots a guest whose init is these lines of sh, and what became of it. */
async function verdictOn(rig: Rig, init: string, timeout: number) {
  rig.project({ '10_a': 'true' })
  rig.git('config', 'vlb.accel', 'tcg')
  const disk = tinyGuest(join(rig.folder, 'guest.raw'), (root) => {
    const path = join(root, 'sbin/init')
    rmSync(path)
    writeFileSync(path, `#!/bin/sh\nexec >/dev/console 2>&1\necho "init is here"\n${init}\n`)
    chmodSync(path, 0o755)
  })
  const started = Date.now()
  const patterns = ['--expect', '^init is here', '--expect', 'login:']
  const running = rig.start(['test-boot', disk, ...patterns, '--timeout', `${timeout}s`, '--json'])
  const ended = await running.ended
  // Reading the project, and ending qemu, take a moment.
  expect((Date.now() - started) / 1000).toBeLessThan(timeout + 15)
  expect(rig.processes(disk)).toEqual([])
  const result = JSON.parse(ended.stdout)
  expect(result, ended.stderr).toMatchObject({ ok: false, expect: 'login:', matched: null })
  expect(ended.code).toBe(1)
  return { verdict: result.verdict, reason: result.reason as string, console: ended.stderr }
}

const tests: [name: string, init: string, timeout: number, verdict: string, reason: RegExp][] = [
  [
    'a kernel that panics, and then restarts, is told with its reason at once',
    'exit 3',
    240,
    'panicked',
    /^the guest's kernel panicked \(Attempted to kill init! exitcode=0x00000300/,
  ],
  [
    'a guest that hangs is known by its silence',
    'while :; do sleep 1000; done',
    60,
    'hung',
    /^the console did not say \/login:\/ within .*; the guest hangs: silent for [\s\S]*init is here/,
  ],
  [
    'a guest that restarts for ever is stopped at the third time',
    'mount -t proc proc /proc; reboot -f',
    240,
    'restarts',
    /^the guest kept restarting, 3 times after /,
  ],
  [
    'a guest that floods its serial line is known by what it says, most of which is not shown',
    `exec yes '${line}'`,
    60,
    'flood',
    /; the guest floods its console: [\d.]+ MiB so far/,
  ],
  [
    'a guest that powers off before it said what was expected has ended',
    'mount -t proc proc /proc; poweroff -f',
    240,
    'ended',
    /^the guest ended after .*, and the console had not said \/login:\//,
  ],
]

for (const [name, init, timeout, verdict, reason] of tests) {
  rigTest(
    name,
    async (rig) => {
      const found = await verdictOn(rig, init, timeout)
      expect(found.verdict, found.reason).toBe(verdict)
      expect(found.reason).toMatch(reason)
      expect(found.reason.length).toBeLessThan(4000)
      expect(found.console.length).toBeLessThan(5 * 2 ** 20)
    },
    needs,
  )
}
