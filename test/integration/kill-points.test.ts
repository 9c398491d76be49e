// SIGKILL at every system call of ours that changes a file's name, flushes or removes: whatever it was, nothing is left
// behind, and the next build gives the image that it would have given.
//
// strace kills the program as it enters the N-th call of a kind (inject, strace(1)). It counts by thread, so that all of
// node's file work is given one thread (UV_THREADPOOL_SIZE), and follows threads but not the programs that we start (-b
// execve): killing those is tested in interrupt.test.ts. How many calls there are, a first run tells. Every rename, link and
// flush is a point to be killed at; of the many folders, removals and writes, some, evenly spread.
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import { contents } from '../rig/contents.ts'
import { Rig, Running, rigTest } from '../rig/rig.ts'

/** Kinds of calls, and how many of each are tried at most. */
const kinds: readonly [calls: string, most: number][] = [
  ['rename,renameat,renameat2', 100],
  ['link,linkat,symlink,symlinkat', 100],
  ['fsync,fdatasync', 100],
  ['mkdir,mkdirat', 8],
  ['unlink,unlinkat,rmdir', 8],
  ['write,pwrite64', 8],
]

const needs = [
  'root',
  'fuse',
  'loop',
  'tool:qemu-img',
  'tool:qemu-storage-daemon',
  'tool:busybox',
  'tool:strace',
] as const

function project(rig: Rig): void {
  rig.project({ '10_a': 'seq 400 > /a', '20_b': 'cat /a > /b; mkdir /c; ln -s b /c/d' }, 'seal: false\n')
  rig.commit()
}

/** A build under strace. */
function traced(rig: Rig, options: readonly string[], args: readonly string[] = []): Running {
  const command = ['-f', '-b', 'execve', '-qq', ...options, ...rig.command.split(' '), 'build', ...args]
  return new Running('strace', command, { cwd: rig.repo, env: { ...rig.env, UV_THREADPOOL_SIZE: '1' } })
}

/** How often the busiest thread makes each of these calls, in a build from an empty store. */
async function countCalls(rig: Rig, calls: string): Promise<number> {
  const log = join(rig.folder, 'strace')
  const ran = await traced(rig, ['-o', log, '-e', 'signal=none', '-e', `trace=${calls}`]).ended
  expect(ran.code, ran.all).toBe(0)
  const counts = new Map<string, number>()
  for (const [, thread, name] of readFileSync(log, 'utf8').matchAll(/^(\d+) +(\w+)\(/gm)) {
    const key = `${thread} ${name}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  rig.forget()
  return Math.max(...counts.values())
}

function spread(count: number, most: number): number[] {
  if (count <= most) return Array.from({ length: count }, (_, i) => i + 1)
  return Array.from({ length: most }, (_, i) => 1 + Math.round((i * (count - 1)) / (most - 1)))
}

rigTest(
  'killed at each call that changes the store: nothing is left, and the next build is right',
  async (rig) => {
    project(rig)
    const points: [calls: string, at: number][] = []
    for (const [calls, most] of kinds)
      points.push(...spread(await countCalls(rig, calls), most).map((at): [string, number] => [calls, at]))
    await rig.build()
    const right = contents(rig, rig.path('build/image.qcow2'))
    const killed = new Map<string, number>()
    const other = new Rig()
    try {
      project(other)
      const worker = async (one: Rig) => {
        for (let point = points.shift(); point; point = points.shift()) {
          const [calls, at] = point
          const what = `killed at call ${at} of ${calls}`
          one.forget()
          const ran = await traced(one, [
            '-o',
            '/dev/null',
            '-e',
            `trace=${calls}`,
            '-e',
            `inject=${calls}:signal=KILL:when=${at}`,
          ]).ended
          if (ran.signal === 'SIGKILL') killed.set(calls, (killed.get(calls) ?? 0) + 1)
          // What is killed may be a helper without which the layer fails.
          else expect([0, 1], `${what}\n${ran.all}`).toContain(ran.code)
          expect(await one.leaks(), what).toEqual([])
          const status = await one.vlb(['status', '--json'])
          expect(status.code, `${what}\n${status.all}`).toBe(0)
          const next = await one.vlb(['build'])
          expect([next.code, /damaged|bug in git vlb/.test(next.stderr)], `${what}\n${next.all}`).toEqual([0, false])
          const [image, layers] = [one.path('build/image.qcow2'), JSON.parse(status.stdout).layers]
          one.tool('qemu-img', 'compare', '-q', image, one.store('chain', `${layers.at(-1).key}.qcow2`))
          expect(contents(one, image) === right, what).toBe(true)
          expect(await one.build(), what).toEqual(['10_a cached', '20_b cached'])
        }
      }
      await Promise.all([worker(rig), worker(other)])
      expect(await other.leaks()).toEqual([])
    } finally {
      await other.end()
    }
    // Without this, a strace that kills nothing would pass for a build that survives.
    for (const [calls] of kinds) expect(killed.get(calls) ?? 0, `kills at ${calls}`).toBeGreaterThan(1)
    const all = [...killed.values()].reduce((a, b) => a + b, 0)
    expect(all).toBeGreaterThan(50)
    console.log(`killed ${all} times: ${[...killed].map(([calls, n]) => `${calls} ${n}`).join('; ')}`)
  },
  needs,
  600_000,
)

/** What a traced run flushed and renamed, in order: ['fsync', path] or ['rename', from, to]. */
function parseTrace(text: string): string[][] {
  const events: string[][] = []
  for (const line of text.split('\n')) {
    const flushed = /^\d+ +(?:fsync|fdatasync)\(\d+<([^>]*)>/.exec(line)
    if (flushed) events.push(['fsync', flushed[1] ?? ''])
    const renamed =
      /^\d+ +(?:rename\("([^"]*)", "([^"]*)"|renameat2?\(AT_FDCWD[^"]*"([^"]*)", AT_FDCWD[^"]*"([^"]*)")/.exec(line)
    if (renamed) events.push(['rename', renamed[1] ?? renamed[3] ?? '', renamed[2] ?? renamed[4] ?? ''])
  }
  return events
}

rigTest(
  'a power loss: all that gets its last name is on disk before, and the name itself right after',
  async (rig) => {
    project(rig)
    rig.git('config', 'vlb.fsync', 'true')
    const log = join(rig.folder, 'strace')
    const ran = await traced(rig, [
      '-y',
      '-o',
      log,
      '-e',
      'signal=none',
      '-e',
      'trace=fsync,fdatasync,rename,renameat,renameat2',
    ]).ended
    expect(ran.code, ran.all).toBe(0)
    const events = parseTrace(readFileSync(log, 'utf8'))
    const flushedBefore = (path: string, at: number) =>
      events.slice(0, at).some(([what, p]) => what === 'fsync' && p === path)
    const flushedAfter = (path: string, at: number) =>
      events.slice(at).some(([what, p]) => what === 'fsync' && p === path)
    const kept: string[] = []
    for (const [at, [what, from = '', to = '']] of events.entries()) {
      // Moves within tmp/ are of what is not complete yet; what goes to it, of what is on its way out; a link has no content.
      if (what !== 'rename' || dirname(to).startsWith(rig.store('tmp')) || dirname(to) === rig.store('chain')) continue
      const place = to.replace(`${rig.store()}/`, '').replace(/[0-9a-f]{40,}/, 'ID')
      kept.push(place.startsWith('/') ? to.slice(rig.repo.length + 1) : place)
      expect(flushedBefore(from, at), `${from} is flushed before it is ${to}`).toBe(true)
      expect(flushedAfter(dirname(to), at), `${dirname(to)} is flushed after ${to} got its name`).toBe(true)
      const inside = to.includes('/snapshots/')
        ? ['layer.qcow2', 'manifest.json', 'build.log', 'packages.json']
        : to.includes('/bases/')
          ? ['disk.raw', 'base.json']
          : []
      for (const name of inside)
        expect(flushedBefore(join(from, name), at), `${name} is flushed before ${to}`).toBe(true)
    }
    // What a first build keeps.
    expect([...new Set(kept)].sort()).toEqual(
      expect.arrayContaining([
        'bases/sha256-ID',
        'build/image.qcow2',
        'digests/ID',
        'format',
        'images/ID.json',
        'records/ID',
        'snapshots/ID',
      ]),
    )
    expect(kept.filter((place) => place === 'snapshots/ID')).toHaveLength(2)
  },
  needs,
)
