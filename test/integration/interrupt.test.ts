// Whatever is killed, in whatever phase: nothing is left on the host, and the next build is right.
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { runOnHost } from '../../src/image/sandbox.ts'
import { type Hold, type Ran, type Rig, type Running, rigTest } from '../rig/rig.ts'

/** A build that stands still at one point. */
interface Held {
  running: Running
  /** Lets it, and all that follow, go on. */
  release: () => void
}

type Phase = (rig: Rig) => Promise<() => Promise<Held>>

/** `seq 400`, as the layer writes it to /a and, after the hold, to /b. */
const content = Array.from({ length: 400 }, (_, i) => `${i + 1}\n`).join('')

const onHost = (hold: Hold): string => hold.line.replace('| nc', '| busybox nc')

function project(rig: Rig, first: string): void {
  rig.project({
    '10_a': `seq 400 > /a\nsync\n${first}\ncat /a > /b`,
    '20_b': { 'build-layer': '#!/bin/sh\ncp data /c\n', data: 'c' },
  })
  rig.commit()
}

/** The same in bash alone: a stand-in for a tool has no children either. */
const inBash = (hold: Hold): string =>
  `exec 3<>/dev/tcp/127.0.0.1/${/127\.0\.0\.1 (\d+)/.exec(hold.line)?.[1]}; echo waiting >&3; read -r <&3; exec 3>&-`

/** A folder for PATH with `tool` in it, which runs `before` and then the real one. */
function shim(rig: Rig, tool: string, before: string): Record<string, string> {
  const folder = join(rig.folder, 'shims')
  mkdirSync(folder, { recursive: true })
  const real = rig.tool('sh', '-c', `command -v ${tool}`).trim()
  writeFileSync(join(folder, tool), `#!/bin/bash\n${before}\nexec ${real} "$@"\n`)
  chmodSync(join(folder, tool), 0o755)
  return { PATH: `${folder}:${process.env['PATH']}` }
}

/** Starts a build again and again, each time held anew. */
function holding(rig: Rig, hold: Hold, env: Record<string, string> = {}, args: string[] = []) {
  return async (): Promise<Held> => {
    hold.close()
    const running = rig.start(['build', ...args], { env })
    await Promise.race([hold.reached(), running.ended.then((ran) => Promise.reject(new Error(ran.all)))])
    return { running, release: () => hold.release() }
  }
}

const phases: Record<string, Phase> = {
  'a layer script': async (rig) => {
    const hold = await rig.hold()
    project(rig, hold.line)
    return holding(rig, hold)
  },
  'a build-base script': async (rig) => {
    const hold = await rig.hold()
    project(rig, '')
    rig.layer('00_base', {
      'build-base': `#!/bin/sh\ntouch "$TMPDIR/x"\ncp ${rig.path('tiny.raw')} "$1"\n${onHost(hold)}\n`,
    })
    rig.write({ 'vlb.yaml': 'version: 1\n' })
    rig.commit()
    return holding(rig, hold)
  },
  'writing the image': async (rig) => {
    const hold = await rig.hold()
    project(rig, '')
    const before = `if [ "$1" = convert ]; then for last; do :; done; echo partial > "$last"; ${inBash(hold)}; fi`
    return holding(rig, hold, shim(rig, 'qemu-img', before))
  },
  'writing the layers’ files': async (rig) => {
    const hold = await rig.hold()
    project(rig, '')
    return holding(rig, hold, shim(rig, 'git', `case " $* " in *" cat-file "*) ${inBash(hold)} ;; esac`))
  },
  'a download': async (rig) => {
    project(rig, '')
    const bytes = readFileSync(rig.path('tiny.raw'))
    const digest = createHash('sha256').update(bytes).digest('hex')
    let stalling: (() => void) | undefined
    let open = false
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-length': bytes.length })
      if (open) return void response.end(bytes)
      response.write(bytes.subarray(0, 100_000), () => stalling?.())
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    server.unref()
    const { port } = server.address() as AddressInfo
    rig.write({ 'vlb.yaml': `version: 1\nbase: { url: "http://127.0.0.1:${port}/base", sha256: ${digest} }\n` })
    rig.commit()
    return async () => {
      open = false
      rmSync(rig.store('bases'), { recursive: true, force: true })
      const stalled = new Promise<void>((resolve) => {
        stalling = resolve
      })
      const running = rig.start(['build'])
      await stalled
      return {
        running,
        release: () => {
          open = true
          server.closeAllConnections()
        },
      }
    }
  },
  'waiting for a lock': async (rig) => {
    const hold = await rig.hold()
    project(rig, hold.line)
    let first: Held | undefined
    return async () => {
      if (first?.running.child.exitCode !== null) first = await holding(rig, hold)()
      const holder = first
      const running = rig.start(['build', '-o', rig.path('build/second.qcow2')])
      await running.says(`waiting for pid ${holder.running.child.pid}`)
      return {
        running,
        release: () => holder.release(),
      }
    }
  },
}

/** After whatever happened: nothing left, and a build gives the right disk. */
async function soundAfter(rig: Rig, what: string): Promise<void> {
  expect(await rig.leaks(), `left behind after ${what}`).toEqual([])
  const image = rig.path('build/check.raw')
  const ran = await rig.vlb(['build', '--format', 'raw', '-o', image])
  expect(ran.code, `${what}\n${ran.all}`).toBe(0)
  expect(rig.readFromImage(image, '/a') === content, what).toBe(true)
  expect(rig.readFromImage(image, '/b') === content, what).toBe(true)
  expect(rig.readFromImage(image, '/c'), what).toBe('c')
  rig.tool('e2fsck', '-f', '-n', `${image}?offset=${2 ** 20}`)
}

/** Waits for the end, but not for ever. */
async function endOf({ running }: Held, what: string): Promise<Ran> {
  const ran = await Promise.race([running.ended, delay(20_000, undefined, { ref: false })])
  if (ran) return ran
  throw new Error(`${what}: still running: ${running.descendants().map(nameOf).join(', ')}\n${running.stderr}`)
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 120)
  } catch {
    return 'gone'
  }
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // A subshell that was about to end anyway.
  }
}

const signals: [name: string, send: (running: Running) => Promise<void>, code: number | null][] = [
  ['SIGINT', async (running) => running.kill('SIGINT'), 130],
  ['SIGTERM', async (running) => running.kill('SIGTERM'), 143],
  ['SIGHUP', async (running) => running.kill('SIGHUP'), 129],
  ['SIGQUIT', async (running) => running.kill('SIGQUIT'), 131],
  [
    'SIGINT twice',
    async (running) => {
      running.kill('SIGINT')
      running.kill('SIGINT')
    },
    130,
  ],
  ['SIGKILL', async (running) => running.kill('SIGKILL'), null],
]

for (const [phase, prepare] of Object.entries(phases)) {
  rigTest(`${phase}: interrupted, ended, hung up or killed`, async (rig) => {
    const start = await prepare(rig)
    for (const [name, send, code] of signals) {
      const held = await start()
      await send(held.running)
      const ran = await endOf(held, name)
      expect([name, ran.code, ran.signal], ran.all).toEqual([name, code, code === null ? 'SIGKILL' : null])
      if (name === 'SIGINT') expect(ran.stderr).toContain('interrupted')
      expect(ran.stderr).not.toContain('bug in git vlb')
      if (phase !== 'waiting for a lock') expect(await rig.leaks(), `left behind after ${name}`).toEqual([])
      if (name === 'SIGKILL') held.release()
    }
    await rig.idle()
    await soundAfter(rig, phase)
  })

  rigTest(`${phase}: each of its processes killed in turn`, async (rig) => {
    const start = await prepare(rig)
    for (let turn = 0; ; turn++) {
      const held = await start()
      const victims = held.running.descendants()
      const victim = victims[turn]
      const what = `${phase}: kill -9 of ${victim ? nameOf(victim) : 'nothing'}`
      if (victim) killNow(victim)
      held.release()
      const ran = await endOf(held, what)
      expect(ran.stderr, what).not.toContain('bug in git vlb')
      await rig.idle()
      await soundAfter(rig, what)
      if (victim === undefined) {
        expect(ran.code, ran.all).toBe(0)
        break
      }
      rig.forget()
    }
  })
}

rigTest('a snapshot that is not whole is dropped with a word, and built again', async (rig) => {
  project(rig, '')
  const first = await rig.json('build')
  const folders = first.layers.map((l: { key: string }) => rig.store('snapshots', l.key))
  const damages: [name: string, damage: (folder: string) => void][] = [
    ['its manifest is unreadable', (folder) => truncateSync(join(folder, 'manifest.json'), 40)],
    ['its manifest is unreadable', (folder) => writeFileSync(join(folder, 'manifest.json'), '')],
    ['its overlay has', (folder) => truncateSync(join(folder, 'layer.qcow2'), 4096)],
    ['its overlay is missing', (folder) => rmSync(join(folder, 'layer.qcow2'))],
  ]
  for (const [said, damage] of damages) {
    damage(folders[1])
    const ran = await rig.vlb(['build'])
    expect(ran.code, ran.all).toBe(0)
    expect(ran.stderr.split('\n').filter((line) => line.startsWith('warning:'))).toEqual([
      expect.stringContaining(said),
    ])
    expect(ran.stdout).toMatch(/10_a +cached/)
    expect(ran.stdout).toMatch(/20_b +built/)
    await soundAfter(rig, said)
  }
  // Without a manifest there is nothing to say of it: half a folder never gets its final name.
  rmSync(join(folders[1], 'manifest.json'))
  await soundAfter(rig, 'no manifest')
})

rigTest('what stood on a snapshot that was lost is not taken for what stands on its successor', async (rig) => {
  // Another build of the same key, block by block another disk.
  rig.project({ '10_a': 'cat /proc/sys/kernel/random/uuid > /a', '20_b': 'cat /a > /b' })
  rig.commit()
  rig.git('branch', 'other')
  const { layers } = await rig.json('build', 'other')
  const losses: [lose: (folder: string) => void, said: RegExp, later: RegExp][] = [
    [(folder) => rmSync(folder, { recursive: true }), /^(?!.*damaged)/s, /is not the one it was built on/],
    // What is found damaged takes with it what stands on it.
    [(folder) => truncateSync(join(folder, 'layer.qcow2'), 4096), /dropped with 1 that stood on it/, /^(?!.*damaged)/s],
  ]
  for (const [lose, said, later] of losses) {
    lose(rig.store('snapshots', layers[0].key))
    // Only the lower one: the upper one is not looked at.
    const lower = await rig.vlb(['build', '--last', '10_a'])
    expect([lower.code, lower.stdout], lower.all).toEqual([0, expect.stringMatching(/10_a +built/)])
    expect(lower.stderr).toMatch(said)
    const ran = await rig.vlb(['build', 'other'])
    expect(ran.code, ran.all).toBe(0)
    expect(ran.stderr).toMatch(later)
    const image = rig.path('build/image-other.qcow2')
    expect(rig.readFromImage(image, '/b')).toBe(rig.readFromImage(image, '/a'))
    rig.tool('qemu-img', 'check', '-q', image)
  }
})

rigTest('a base that is cut short in the store is fetched again, and all layers stay', async (rig) => {
  project(rig, '')
  await rig.build()
  const [base = ''] = readdirSync(rig.store('bases'))
  const file = rig.store('bases', base, 'disk.raw')
  truncateSync(file, 2 ** 20)
  const ran = await rig.vlb(['build', '--format', 'raw'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).toContain('in the store is damaged: it has 1048576 bytes')
  expect(ran.stdout).toMatch(/10_a +cached/)
  await soundAfter(rig, 'a damaged base')
})

rigTest('a key that was built again, and both of them lost, is built once', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  await rig.build()
  await rig.build('--rebuild', '10_a')
  rmSync(rig.store('snapshots'), { recursive: true })
  expect(await rig.build()).toEqual(['10_a built'])
  expect(await rig.build()).toEqual(['10_a cached'])
})

rigTest('what a power loss left in tmp/ is swept up by the next build', async (rig) => {
  project(rig, '')
  // A process id that was given to another since: the start time tells.
  for (const name of ['4194303-1-aaaa', `${process.pid}-1-bbbb`]) {
    mkdirSync(rig.store('tmp', name, 'ns'), { recursive: true })
    writeFileSync(rig.store('tmp', name, 'layer.qcow2'), 'half')
  }
  await rig.build()
  expect(readdirSync(rig.store('tmp'))).toEqual([])
})

rigTest('an interrupt while it is looked whether root can be had ends what is started then', async (rig) => {
  const work = join(rig.folder, 'work')
  for (const name of ['ns', 'src']) mkdirSync(join(work, name), { recursive: true })
  writeFileSync(join(work, 'src/script'), '#!/bin/sh\nsleep 20\n', { mode: 0o755 })
  const controller = new AbortController()
  const options = { attach: 'auto' as const, signal: controller.signal, onOutput: () => {} }
  const start = Date.now()
  const running = runOnHost(work, 'script', { PATH: rig.env['PATH'] ?? '' }, options)
  controller.abort(new Error('interrupted'))
  await expect(running).rejects.toThrow('interrupted')
  expect(Date.now() - start).toBeLessThan(15_000)
})
