// gc cut off at any moment: what is left is whole, and the next command goes on.
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { type Rig, type Running, rigTest } from '../rig/rig.ts'

const layers = Array.from({ length: 8 }, (_, i) => `${i + 1}0_layer`)

/** A chain, another one beside it, and a copy of the store to begin from again. */
async function project(rig: Rig): Promise<() => void> {
  rig.project(Object.fromEntries(layers.map((name) => [name, `echo ${name} >> /list`])))
  rig.commit()
  await rig.ok('build')
  rig.layer('20_layer', 'echo other > /list')
  await rig.ok('build')
  rig.git('checkout', '--quiet', '.')
  const copy = join(rig.folder, 'copy')
  const keep = { recursive: true, preserveTimestamps: true, verbatimSymlinks: true }
  cpSync(rig.store(), copy, keep)
  return () => {
    rmSync(rig.store(), { recursive: true })
    cpSync(copy, rig.store(), keep)
  }
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

async function soundAfter(rig: Rig, what: string): Promise<number> {
  const verified = await rig.vlb(['cache', 'verify', '--quick'])
  expect([verified.code, verified.all], what).toEqual([0, expect.stringContaining('all sound')])
  const left = readdirSync(rig.store('snapshots')).length
  // A look at the working tree finds what is there, and takes no half for a whole.
  const { layers: states } = await rig.json('status')
  const cached = states.map(({ state }: { state: string }) => state)
  expect(cached.lastIndexOf('cached') < cached.indexOf('missing') || !cached.includes('missing'), what).toBe(true)
  return left
}

rigTest('killed at random moments, most of them while it removes, alone or with all its children', async (rig) => {
  const restore = await project(rig)
  const whole = readdirSync(rig.store('snapshots')).length
  const seen = new Set<number>()
  for (let i = 0; i < 30; i++) {
    restore()
    const running = rig.start(['gc', '--budget', '0'])
    while (running.child.exitCode === null && !existsSync(rig.store('sweeping')))
      await new Promise((resolve) => setImmediate(resolve))
    const pause = i % 3 === 0 ? Math.random() * 100 : Math.random() * 25
    await delay(pause)
    killAll(running, i % 2 === 0)
    await running.ended
    const what = `round ${i}, after ${Math.round(pause)} ms`
    seen.add(await soundAfter(rig, what))
    if (i % 10 === 9) {
      const result = await rig.json('build')
      expect(result.ok, what).toBe(true)
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/list'), what).toBe(`${layers.join('\n')}\n`)
    }
    const again = await rig.vlb(['gc', '--budget', '0'])
    expect(again.code, `${what}\n${again.all}`).toBe(0)
    for (const folder of ['snapshots', 'chain', 'used', 'graves', 'leases'])
      expect(readdirSync(rig.store(folder)), `${what}: ${folder}`).toEqual([])
    expect(existsSync(rig.store('sweeping')), what).toBe(false)
  }
  expect(seen.size, [...seen].join()).toBeGreaterThan(1)
  expect([...seen].every((left) => left <= whole)).toBe(true)
})

rigTest('a mark that a killed gc left keeps no build waiting', async (rig) => {
  const restore = await project(rig)
  restore()
  rig.tool('touch', rig.store('sweeping'))
  rig.layer('90_more', 'true')
  expect((await rig.build()).at(-1)).toBe('90_more built')
  expect(existsSync(rig.store('sweeping'))).toBe(false)
})

rigTest('gc over and over beside builds: none of them loses what it stands on', async (rig) => {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b', '30_c': 'echo c > /c' })
  rig.commit()
  await rig.ok('build')
  let done = false
  const collect = async () => {
    let rounds = 0
    for (; !done; rounds++) {
      const ran = await rig.vlb(['gc', '--budget', '0'])
      expect(ran.code, ran.all).toBe(0)
    }
    return rounds
  }
  const collecting = collect()
  try {
    for (let i = 0; i < 8; i++) {
      rig.layer('40_d', `echo ${i} > /d`)
      const ran = await rig.vlb(['build'])
      expect(ran.code, ran.all).toBe(0)
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/d')).toBe(`${i}\n`)
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
    }
  } finally {
    done = true
  }
  expect(await collecting).toBeGreaterThan(1)
})
