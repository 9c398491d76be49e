// `git vlb test-boot --check` on a tiny guest that really boots: what checks say, how they end, what is remembered.
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect } from 'vitest'
import { againstSchema } from '../rig/junit.ts'
import type { Need } from '../rig/need.ts'
import { type Rig, rigTest } from '../rig/rig.ts'
import { tinyGuest } from '../rig/tiny-guest.ts'

const needs: Need[] = [
  'root',
  'fuse',
  'loop',
  'tool:qemu-img',
  'tool:qemu-storage-daemon',
  'tool:qemu-system-x86_64',
  'tool:mmdebstrap',
  'tool:extlinux',
  'tool:busybox',
  'tool:xmllint',
]

const shared = mkdtempSync(join(tmpdir(), 'vlb-tiny-guest-'))
let disk: string | undefined
afterAll(() => rmSync(shared, { recursive: true, force: true }))

/** A project whose image is the tiny guest. */
function guest(rig: Rig, checks: Record<string, string>, config = '', from?: string): void {
  if (!from) disk ??= tinyGuest(join(shared, 'guest.raw'))
  rig.project({ '10_app': 'echo hello >/app' }, config)
  rig.tool('cp', '--sparse=always', from ?? disk ?? '', rig.path('tiny.raw'))
  rig.write(Object.fromEntries(Object.entries(checks).map(([name, text]) => [`checks/${name}`, text])))
  rig.git('config', 'vlb.accel', 'tcg')
  rig.commit()
}

const sh = (...lines: string[]) => `#!/bin/sh\n${lines.join('\n')}\n`
const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
const check = ['test-boot', '--check', '--timeout', '90s']

rigTest(
  'checks run in the guest as root, in their order, with what lies beside them; the image stays as it is',
  async (rig) => {
    guest(rig, {
      '100_last': sh('cat /tmp/order; echo last >>/tmp/order; [ "$(cat /tmp/order)" = "first\nsecond\nlast" ]'),
      '20_second': sh('. ./lib.sh; remember second'),
      '10_first': sh('. ./lib.sh; echo "$VLB_CHECK as $(id -u)"; cat /app; remember first; exit 0'),
      'lib.sh': 'remember() { echo "$1" >>/tmp/order; }\n',
      '30_other': sh('echo not for this one; exit 77'),
    })
    await rig.build()
    const before = digest(rig.path('build/image.qcow2'))
    const result = await rig.json(...check)
    expect(result, JSON.stringify(result, null, 1)).toMatchObject({ ok: true, remembered: null })
    const [machine] = result.machines
    expect(machine.checks.map((one: { name: string; state: string }) => `${one.name} ${one.state}`)).toEqual([
      'boot-settled passed',
      'failed-units skipped',
      'root-space passed',
      'disk-size passed',
      'clock passed',
      '10_first passed',
      '20_second passed',
      '30_other skipped',
      '100_last passed',
    ])
    expect(machine.checks[5].output).toBe('10_first as 0\nhello\n')
    expect(digest(rig.path('build/image.qcow2'))).toBe(before)
    expect(rig.debugfs(rig.path('build/image.qcow2'), 'ls -p /')).not.toContain('vlb-checks')
  },
  needs,
)

interface Checked {
  name: string
  state: string
  output: string
  exitStatus: number | null
  cut: boolean
}

// biome-ignore lint/suspicious/noExplicitAny: results as JSON
const own = (result: any): Checked[] => result.machines[0].checks

rigTest(
  'a check that fails, one that hangs and one that floods are told apart, and those behind them still run',
  async (rig) => {
    guest(
      rig,
      {
        '10_fails': sh('echo the page is empty >&2', 'exit 3'),
        '20_hangs': sh('# vlb: timeout 2s', 'echo before', 'sleep 1000 &', 'sleep 1000'),
        '30_floods': sh('echo first', 'yes "the same again and again" | head -n 20000', 'echo last', 'exit 1'),
        // Whatever it writes to the line by itself, without the nonce, is nothing but noise.
        '40_fakes': sh(
          'echo "@vlb 0123 end 8 0" >/.vlb-checks/port',
          'printf "half a line" >/.vlb-checks/port',
          'kill -9 $$',
        ),
        '50_daemon': sh('sleep 1000 & echo left one behind'),
      },
      'boot: { builtin-checks: false }\n',
    )
    const result = await rig.json(...check)
    expect(own(result).map(({ name, state, exitStatus }) => [name, state, exitStatus])).toEqual([
      ['10_fails', 'failed', 3],
      ['20_hangs', 'timeout', null],
      ['30_floods', 'failed', 1],
      ['40_fakes', 'failed', 137],
      ['50_daemon', 'passed', 0],
    ])
    const [fails, hangs, floods, , daemon] = own(result)
    expect(fails?.output).toBe('the page is empty\n')
    expect(hangs?.output).toBe('before\n')
    expect(floods).toMatchObject({ cut: true })
    expect(floods?.output.startsWith('first\nthe same')).toBe(true)
    expect(floods?.output.length).toBeLessThan(40_000)
    expect(daemon?.output).toBe('left one behind\n')
    expect(result).toMatchObject({ ok: false })
    expect(result.reason).toMatch(/^4 of 5 checks failed: 10_fails, 20_hangs, 30_floods, 40_fakes\n[\s\S]*tiny login:/)
  },
  needs,
)

rigTest(
  'a system that mounts its folders late, after the checks were there',
  async (rig) => {
    const late = tinyGuest(join(rig.folder, 'late.raw'), (root) => {
      const inittab = join(root, 'etc/inittab')
      const lines = readFileSync(inittab, 'utf8').split('\n')
      const run = lines.findIndex((line) => line.includes('tmpfs run /run'))
      writeFileSync(inittab, lines.toSpliced(run, 0, '::sysinit:/bin/sleep 5').join('\n'))
    })
    guest(rig, { '10_quick': sh('# vlb: timeout 20s', 'true') }, 'boot: { builtin-checks: false }\n', late)
    await rig.build()
    const result = await rig.json(...check)
    expect(result, JSON.stringify(result, null, 1)).toMatchObject({ ok: true })
  },
  needs,
)

rigTest(
  'what passed is not booted again until the image, a check or the machine is another one; a failure is',
  async (rig) => {
    guest(rig, { '10_quick': sh('true') }, 'boot: { builtin-checks: false }\n')
    const run = async (...more: string[]) => {
      const ran = await rig.json(...check, ...more)
      expect(ran.ok, ran.reason).toBe(true)
      return ran.remembered === null ? 'booted' : 'remembered'
    }
    expect((await rig.json('status')).image.tested).toBe(null)
    expect(await run()).toBe('booted')
    expect((await rig.json('status')).image.tested).toMatch(/^20\d\d-/)
    expect(await run()).toBe('remembered')
    // The same image, wherever it was built from.
    expect(await run('HEAD')).toBe('remembered')
    expect(await run('--force')).toBe('booted')
    expect(await run('--memory', '512M')).toBe('booted')
    expect(await run()).toBe('remembered')
    const page = await rig.vlb(check)
    expect(page.stdout).toMatch(/^passed: this image passed these checks on /)

    rig.write({ 'checks/10_quick': sh('exit 1') })
    expect((await rig.json('status')).image.tested).toBe(null)
    const failed = await rig.vlb(check)
    expect(failed.code).toBe(1)
    expect(failed.stdout).toMatch(
      /failed +10_quick[\s\S]*10_quick status 1, and said nothing[\s\S]*1 of 1 check failed: 10_quick/,
    )
    expect((await rig.vlb(check)).code).toBe(1)
    rig.write({ 'checks/10_quick': sh('true') })
    expect(await run()).toBe('remembered')
    rig.layer('10_app', 'echo changed >/app')
    expect(await run()).toBe('booted')
  },
  needs,
)

rigTest(
  'several machines are checked each, side by side, and reported as JUnit and TAP',
  async (rig) => {
    const one = 'cpus=$(grep -c ^processor /proc/cpuinfo); echo "$cpus cpus"; [ "$cpus" = 1 ]'
    guest(
      rig,
      { '10_one': sh(one) },
      'boot: { memory: 256M, builtin-checks: { clock: false }, machines: [{ cpus: 1 }, { cpus: 2, memory: 300M }] }\n',
    )
    const ran = await rig.vlb([...check, '--tap', '--junit', 'reports/checks.xml'])
    expect(ran.code).toBe(1)
    const lines = ran.stdout.split('\n')
    expect(lines.slice(0, 2)).toEqual(['TAP version 13', '1..10'])
    expect(lines).toContain('ok 5 - 10_one (1 cpu, 256 MiB)')
    expect(lines).toContain('not ok 10 - 10_one (2 cpus, 300 MiB)')
    expect(lines).toContain('# 2 cpus')
    expect(ran.stdout).not.toContain('clock')
    const report = rig.read('reports/checks.xml')
    expect(report).toContain('tests="10" failures="1" errors="0"')
    expect(report.match(/<testsuite /g)).toHaveLength(2)
    expect(againstSchema(rig.path('reports/checks.xml'))).toBe('')
    expect((await rig.vlb(['test-boot', '--tap'])).stderr).toContain('--tap goes with --check')
    expect((await rig.vlb([...check, '--console'])).code).toBe(2)
  },
  needs,
)

rigTest(
  'a guest that does not come up fails with what its console said, and its checks as not run',
  async (rig) => {
    guest(rig, { '10_never': sh('true') }, 'boot: { builtin-checks: false, expect: "never this" }\n')
    const ran = await rig.vlb(['test-boot', '--check', '--timeout', '8s'])
    expect(ran.code).toBe(1)
    expect(ran.stdout).toMatch(/not run +10_never[\s\S]*failed: .*\/never this\/[\s\S]*tiny login:/)
    rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace(/^boot.*$/m, '') })
    rig.layer('20_off', 'rm /sbin/init /bin/init')
    const without = await rig.vlb(['test-boot', '--check'])
    expect(without.code).toBe(2)
    expect(without.stderr).toContain('the image has no /sbin/init')
    rig.write({ 'checks/20_bad': 'no script\n' })
    expect((await rig.vlb(['test-boot', '--check'])).stderr).toContain('checks/20_bad is no executable file')
  },
  needs,
)

rigTest(
  'a guest that powers off in the middle of its checks fails, with those behind as not run',
  async (rig) => {
    guest(rig, { '10_off': sh('poweroff -f'), '20_late': sh('true') }, 'boot: { builtin-checks: false }\n')
    const result = await rig.json(...check)
    expect(own(result).map(({ state }) => state)).toEqual(['not-run', 'not-run'])
    expect(result.reason).toContain('the guest ended before')
    rig.write({ 'checks/10_off': sh('true') })
    rig.commit('repaired')
    expect((await rig.json(...check)).ok).toBe(true)
    const { tests } = JSON.parse(rig.git('notes', '--ref=vlb', 'show', 'HEAD'))
    expect(tests).toMatchObject({
      checks: 2,
      machines: ['2 cpus, 1.0 GiB'],
      tree: rig.git('rev-parse', 'HEAD:checks').trim(),
    })
  },
  needs,
)

rigTest(
  'what the guest wrote is kept where it is asked for, and a failure says how',
  async (rig) => {
    guest(rig, { '10_writes': sh('echo "$(grep -c ^processor /proc/cpuinfo)" >/witness; exit 1') })
    const config = 'boot: { memory: 256M, cpus: 1, builtin-checks: false }\n'
    rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}${config}` })
    const without = await rig.vlb(check)
    expect(without.stdout).toContain('git vlb test-boot --check --keep\n')
    expect(rig.exists('build/kept.qcow2')).toBe(false)
    const ran = await rig.vlb([...check, '--keep'])
    expect(ran.code).toBe(1)
    expect(ran.stdout).toMatch(/failed: 1 of 1 check failed[\s\S]*\nkept build\/kept.qcow2; again: git vlb /)
    expect(ran.stdout).not.toContain('--check --keep')
    expect(await rig.ok('diff', 'build/image.qcow2', 'build/kept.qcow2', '/witness')).toContain('+1\n')

    rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace('cpus: 1', 'machines: [{ cpus: 1 }, { cpus: 2 }]') })
    const several = await rig.json(...check, '--keep')
    expect(several.machines.map(({ kept }: { kept: string }) => kept)).toEqual(
      [1, 2].map((number) => rig.path(`build/kept-${number}.qcow2`)),
    )
    for (const cpus of [1, 2])
      expect(rig.readFromImage(rig.path(`build/kept-${cpus}.qcow2`), '/witness')).toBe(`${cpus}\n`)
  },
  needs,
)
