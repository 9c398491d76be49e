// A rollup that is cut off, at any moment and however: repository and store are as before or as after.
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect } from 'vitest'
import { type Rig, type Running, rigTest } from '../rig/rig.ts'

const before = ['10_a cached', '20_b cached', '30_old cached', '40_d cached']
const after = ['10_x cached', '40_d cached']
const rollup = ['rollup', '10..30', '--name', 'x']

/** A project with all built, a rolled-up layer in the range among them, and a copy of it to begin from again. */
async function project(rig: Rig): Promise<() => void> {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b', '40_d': 'cat /a /b > /d' })
  rig.layer('30_old/layers/10_c', 'echo c > /c')
  rig.layer('30_old/layers/20_c', 'echo c >> /c')
  rig.commit()
  await rig.ok('build')
  const copy = join(rig.folder, 'copy')
  cpSync(rig.repo, copy, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
  return () => {
    rmSync(rig.repo, { recursive: true })
    cpSync(copy, rig.repo, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    rig.git('update-index', '-q', '--refresh')
  }
}

/** Until the last step has come to its end by itself. Before it has written its journal, only its process tells of it. */
async function switched(rig: Rig): Promise<void> {
  for (let i = 0; i < 100 && processesIn(rig.repo); i++) await delay(50)
}

function processesIn(folder: string): boolean {
  return readdirSync('/proc').some((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)
    } catch {
      // It ended meanwhile.
      return false
    }
  })
}

/** Says which of the two it is, and throws for anything else. `look` is the first git vlb command that comes along. */
async function soundAfter(rig: Rig, what: string, look: 'status' | 'none' = 'status'): Promise<'before' | 'after'> {
  if (look === 'status') await rig.ok('status')
  const changes = rig.git('status', '--porcelain', '--untracked-files=all')
  expect(changes, what).toBe('')
  rig.git('fsck', '--strict', '--no-dangling')
  const names = readdirSync(rig.path()).filter((name) => /^\d\d_|^\.vlb/.test(name))
  const moved = names.includes('10_x')
  expect(names, what).toEqual((moved ? after : before).map((layer) => layer.split(' ')[0]))
  expect(rig.git('log', '-1', '--format=%s').startsWith('Roll up'), what).toBe(moved)
  expect(await rig.build(), what).toEqual(moved ? after : before)
  // By now at the latest: that was a git vlb command.
  expect(
    readdirSync(rig.path('.git')).filter((name) => /^vlb-rollup(\.new)?$|index\.lock/.test(name)),
    what,
  ).toEqual([])
  expect(await rig.leaks(), what).toEqual([])
  return moved ? 'after' : 'before'
}

async function runsAgain(rig: Rig, what: string): Promise<void> {
  const ran = await rig.vlb(rollup)
  expect(ran.code, `${what}\n${ran.all}`).toBe(0)
  expect(await soundAfter(rig, `${what}, and run again`)).toBe('after')
}

function killAll(running: Running, children: boolean): void {
  const pids = children ? running.descendants() : []
  running.kill('SIGKILL')
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ended meanwhile.
    }
  }
}

rigTest('killed at random moments, alone or with all its children', async (rig) => {
  const restore = await project(rig)
  const started = Date.now()
  await rig.ok(...rollup)
  const whole = Date.now() - started
  const seen: string[] = []
  for (let i = 0; i < 20; i++) {
    restore()
    const running = rig.start(rollup)
    const late = i % 2 === 1
    // Half of them in the last step, which takes milliseconds.
    while (late && running.child.exitCode === null && !existsSync(rig.path('.git/vlb-rollup/ready')))
      await new Promise((resolve) => setImmediate(resolve))
    const pause = Math.random() * (late ? 40 : whole)
    await delay(pause)
    const children = i % 4 < 2
    const what = `${late ? 'late, ' : ''}after ${Math.round(pause)} ms${children ? ', with children' : ''}`
    killAll(running, children)
    await running.ended
    // Left alone, the last step comes to its end without us.
    if (!children) await switched(rig)
    const state = await soundAfter(rig, what, children ? 'status' : 'none')
    seen.push(state)
    if (state === 'before') await runsAgain(rig, what)
  }
  expect(new Set(seen), seen.join(' ')).toEqual(new Set(['before', 'after']))
})

/** Stand-ins for tools that kill who called them at one call, before or after they did their work; and maybe the program. */
function deadly(rig: Rig, call: number, when: 'before' | 'after', program: boolean): Record<string, string> {
  const folder = join(rig.folder, 'shims')
  const count = join(rig.folder, 'count')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  writeFileSync(count, '')
  for (const tool of ['cp', 'ln', 'mv', 'mkdir', 'rmdir', 'rm', 'git']) {
    const real = rig.tool('sh', '-c', `command -v ${tool}`).trim()
    const kill = `kill -9 $PPID${program ? ` $(cat ${rig.folder}/pid)` : ''}`
    // Only what the last step calls, from its shell.
    const lines = [
      `case "$(cat /proc/$PPID/cmdline | tr '\\0' ' ')" in *git-vlb-switch*switch*) ;; *) exec ${real} "$@" ;; esac`,
      `echo ${tool} >>${count}`,
      `[ "$(wc -l <${count})" = ${call} ] || exec ${real} "$@"`,
      ...(when === 'after' ? [`${real} "$@"`] : []),
      kill,
    ]
    writeFileSync(join(folder, tool), `#!/bin/sh\n${lines.join('\n')}\n`)
    chmodSync(join(folder, tool), 0o755)
  }
  return { PATH: `${folder}:${process.env['PATH']}` }
}

const afterCall = (call: number) => ({ call, when: 'after' as const })

describe('the last step, killed at each of its calls', () => {
  for (const [name, program] of [
    ['alone: the program undoes or ends it', false],
    ['with the program: the next command does', true],
  ] as const) {
    rigTest(name, async (rig) => {
      const restore = await project(rig)
      const seen: string[] = []
      // After one call is before the next.
      const moments = [{ call: 1, when: 'before' as const }, ...Array.from({ length: 20 }, (_, i) => afterCall(i + 1))]
      for (const { call, when } of moments) {
        const what = `${when} call ${call}`
        restore()
        const running = rig.start(rollup, { env: deadly(rig, call, when, program) })
        writeFileSync(join(rig.folder, 'pid'), String(running.child.pid))
        const ran = await running.ended
        const made = readFileSync(join(rig.folder, 'count'), 'utf8').split('\n').filter(Boolean)
        // What it called last is the end of it.
        if (made.length < call) {
          expect(ran.code, ran.all).toBe(0)
          break
        }
        const state = await soundAfter(rig, what, program ? 'status' : 'none')
        seen.push(`${made.at(-1)} ${state}`)
        if (!program) expect(ran.code, `${what}: ${ran.all}`).toBe(state === 'after' ? 0 : 1)
      }
      expect(seen.slice(0, 2)).toEqual(['rm before', 'rm before'])
      expect(seen).toContain('cp before')
      expect(seen).toContain('mv before')
      expect(seen).toContain('git after')
      expect(seen.at(-1)).toBe('rm after')
      expect(seen.length).toBeGreaterThan(14)
      restore()
      await runsAgain(rig, 'in the end')
    })
  }
})

rigTest('a HEAD that moves meanwhile, a hook that forbids the ref, a folder in the way: all as before', async (rig) => {
  const restore = await project(rig)
  const hook = rig.path('.git/hooks/reference-transaction')
  writeFileSync(hook, '#!/bin/sh\n[ "$1" != prepared ]\n', { mode: 0o755 })
  const forbidden = await rig.vlb(rollup)
  rmSync(hook)
  expect(forbidden.code).toBe(2)
  expect(forbidden.stderr).toContain('git did not move HEAD')
  expect(await soundAfter(rig, 'a hook', 'none')).toBe('before')
  restore()
  writeFileSync(hook, '#!/bin/sh\nexit 0\n', { mode: 0o755 })
  const shims = join(rig.folder, 'late')
  mkdirSync(shims)
  const real = rig.tool('sh', '-c', 'command -v qemu-img').trim()
  // Somebody commits while the snapshots are being compared.
  const commit = `case "$1" in compare) git -C ${rig.repo} -c user.name=x -c user.email=x commit -q --allow-empty -m other ;; esac`
  writeFileSync(join(shims, 'qemu-img'), `#!/bin/sh\n${commit}\nexec ${real} "$@"\n`, { mode: 0o755 })
  const moved = await rig.vlb(rollup, { env: { PATH: `${shims}:${process.env['PATH']}` } })
  expect(moved.code, moved.all).toBe(2)
  expect(moved.stderr).toContain('git did not move HEAD')
  expect(await soundAfter(rig, 'another commit', 'none')).toBe('before')
  restore()
  const folder = `case "$1" in compare) mkdir -p ${rig.path('10_x/mine')} ;; esac`
  writeFileSync(join(shims, 'qemu-img'), `#!/bin/sh\n${folder}\nexec ${real} "$@"\n`, { mode: 0o755 })
  const inTheWay = await rig.vlb(rollup, { env: { PATH: `${shims}:${process.env['PATH']}` } })
  expect(inTheWay.code, inTheWay.all).toBe(2)
  expect(inTheWay.stderr).toContain('10_x is there already')
  rmSync(rig.path('10_x'), { recursive: true })
  expect(await soundAfter(rig, 'a folder in the way', 'none')).toBe('before')
  await runsAgain(rig, 'after that')
})
