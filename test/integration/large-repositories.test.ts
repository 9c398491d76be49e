// Repositories with much in them: the same keys as in a small one, and little memory.
import { type ExecFileSyncOptions, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const files = {
  'vlb.yaml': 'version: 1\nbase: { path: base.qcow2 }\n',
  '.gitignore': '/build/\n/base.qcow2\n',
  '10_a/build-layer': '#!/bin/sh\ncp motd /motd\n',
  '10_a/motd': 'hello\n',
  '20_b/build-layer': '#!/bin/sh\necho b > /b\n',
}

interface Ran {
  // biome-ignore lint/suspicious/noExplicitAny: results of several verbs
  result: any
  /** Highest resident memory of the program in bytes (proc(5), VmHWM). */
  memory: number
}

async function measure(rig: Rig, cwd: string, ...args: string[]): Promise<Ran> {
  const [probe, note] = [join(rig.folder, 'probe.cjs'), join(rig.folder, 'peak')]
  const write = `require('fs').writeFileSync(${JSON.stringify(note)}, require('fs').readFileSync('/proc/self/status'))`
  // Helpers of the program are node, too, and end before it.
  writeFileSync(probe, `process.on('exit', () => ${write})`)
  const ran = await rig.vlb([...args, '--json'], { cwd, env: { NODE_OPTIONS: `--require ${probe}` } })
  expect(ran.code, ran.all).toBe(0)
  const memory = 1024 * Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(note, 'utf8'))?.[1])
  return { result: JSON.parse(ran.stdout), memory }
}

const keys = ({ result }: Ran): string[] => result.layers.map(({ key }: { key: string }) => key)

const file = (path: string, content: string | Buffer) => [
  `M ${content.toString('latin1', 0, 2).startsWith('#!') ? '100755' : '100644'} inline ${path}\n`,
  `data ${Buffer.byteLength(content)}\n`,
  content,
  '\n',
]

const commitLine = (number: number, previous = '') =>
  `commit refs/heads/main\ncommitter A <a@example.com> ${1_600_000_000 + number} +0000\ndata 1\nx\n${previous}`

/** Feeds `git fast-import` (its manual: "INPUT FORMAT"). */
async function importInto(rig: Rig, repo: string, chunks: Iterable<string | Buffer>): Promise<void> {
  const options: ExecFileSyncOptions = { cwd: rig.folder, env: rig.env }
  execFileSync('git', ['init', '--quiet', '--initial-branch=main', repo], options)
  const settings = ['core.compression=0', 'core.bigFileThreshold=1m', 'fastimport.unpackLimit=0']
  const args = [...settings.flatMap((setting) => ['-c', setting]), 'fast-import', '--quiet']
  const git = spawn('git', args, { cwd: repo, env: rig.env, stdio: ['pipe', 'ignore', 'inherit'] })
  for (const chunk of chunks) if (!git.stdin.write(chunk)) await once(git.stdin, 'drain')
  git.stdin.end()
  expect(await once(git, 'close')).toEqual([0, null])
  execFileSync('git', ['reset', '--quiet'], { ...options, cwd: repo })
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(repo, name, '..'), { recursive: true })
    writeFileSync(join(repo, name), content, { mode: content.startsWith('#!') ? 0o755 : 0o644 })
  }
  base(rig, repo)
}

function base(rig: Rig, repo: string): void {
  rig.tool('qemu-img', 'convert', '-c', '-O', 'qcow2', inject('tinyDisk'), join(repo, 'base.qcow2'))
}

/** The keys that these files have in a repository of one commit. */
async function plainKeys(rig: Rig): Promise<string[]> {
  rig.write(files)
  base(rig, rig.repo)
  rig.commit()
  return keys(await measure(rig, rig.repo, 'status'))
}

rigTest('5 000 commits and 200 branches, in many small objects: no more memory than for one commit', async (rig) => {
  const expected = await plainKeys(rig)
  const { memory } = await measure(rig, rig.repo, 'status')
  const repo = join(rig.folder, 'long')
  await importInto(
    rig,
    repo,
    (function* () {
      for (let i = 1; i <= 5000; i++) {
        yield commitLine(i)
        if (i === 1) for (const [name, content] of Object.entries(files)) yield* file(name, content)
        for (let n = 0; n < 10; n++) yield* file(`src/d${i % 100}/f${n}`, `${i} ${n}\n`)
        if (i % 25 === 0) yield `reset refs/heads/branch-${i}\nfrom refs/heads/main\n\n`
      }
    })(),
  )
  for (const args of [[], ['HEAD'], ['branch-25']]) {
    const ran = await measure(rig, repo, 'status', ...args)
    expect(keys(ran), args[0]).toEqual(expected)
    expect(ran.memory, args[0]).toBeLessThan(memory + 15e6)
  }
})

rigTest('a pack of 1 GB: right keys, a build, and less than 200 MB of memory', async (rig) => {
  const expected = await plainKeys(rig)
  const repo = join(rig.folder, 'heavy')
  // Not compressed: it need not be noise to be large.
  const large = Buffer.alloc(2 ** 26, 'large ')
  const script = '#!/bin/sh\nwc -c < large > /size\n'
  await importInto(
    rig,
    repo,
    (function* () {
      yield commitLine(1)
      for (const [name, content] of Object.entries(files)) yield* file(name, content)
      yield* file('30_big/build-layer', script)
      for (let i = 0; i < 16; i++) {
        large.writeUInt32LE(i)
        yield* file(i === 0 ? '30_big/large' : `assets/${i}`, Buffer.from(large))
      }
    })(),
  )
  expect(
    Number(/size-pack: (\d+)/.exec(execFileSync('git', ['count-objects', '-v'], { cwd: repo }).toString())?.[1]),
  ).toBeGreaterThan(2 ** 20)
  const image = join(rig.folder, 'out.qcow2')
  const status = await measure(rig, repo, 'status', 'HEAD')
  expect(keys(status).slice(0, 2)).toEqual(expected)
  const built = await measure(rig, repo, 'build', 'HEAD', '-o', image)
  expect(keys(built)).toEqual(keys(status))
  expect(rig.readFromImage(image, '/size').trim()).toBe(String(2 ** 26))
  writeFileSync(join(repo, '10_a/motd'), 'changed\n')
  const dirty = await measure(rig, repo, 'status')
  expect(keys(dirty)[0]).not.toBe(expected[0])
  expect(Math.max(status.memory, built.memory, dirty.memory)).toBeLessThan(200e6)
})
