// Everything at once, from several worktrees and a clone that share one store: each layer is built once, all end well, every
// image is right, and nothing is left. VLB_AT_ONCE_ROUNDS says for how many rounds.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { bootSector } from '../rig/boot-sector.ts'
import type { Need } from '../rig/need.ts'
import { type Ran, type Rig, type RunOptions, rigTest } from '../rig/rig.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:busybox', 'tool:mke2fs', 'tool:qemu-system-x86_64']

const rounds = Number(process.env['VLB_AT_ONCE_ROUNDS'] ?? 3)

/** Counts what scripts say, by line. */
async function counter(): Promise<{ line: (what: string) => string; counts: Map<string, number>; close: () => void }> {
  const counts = new Map<string, number>()
  const server = createServer((socket) => {
    let text = ''
    socket.on('error', () => {})
    socket.on('data', (chunk) => {
      text += chunk
      if (!text.endsWith('\n')) return
      counts.set(text.trim(), (counts.get(text.trim()) ?? 0) + 1)
      socket.end('ok\n')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  server.unref()
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  return { line: (what) => `echo ${what} | nc 127.0.0.1 ${port} >/dev/null`, counts, close: () => server.close() }
}

const branches = ['main', 'left', 'right', 'far'] as const

/** What the last layer of a branch writes in a round. */
const word = (branch: string, round: number) => `${branch}-${round}`

for (const [what, gc, once] of [
  ['gc of what is not needed', ['gc', '--prune'], true],
  ['gc of all that is not in use', ['gc', '--budget', '0'], false],
] as const)
  rigTest(
    `builds, prebuilds, rollups, shells, boots, diffs, changelogs and ${what}, at once`,
    async (rig) => {
      const { line, counts, close } = await counter()
      const script = (what: string) => `${line(what)}\necho ${what} >> /said`
      rig.project({ '10_a': script('a'), '20_b': script('b') })
      rig.layer('30_c', script(word('main', 0)))
      rig.commit('round 0')
      rig.git('config', 'vlb.store', rig.store())
      const folders: Record<string, string> = { main: rig.repo }
      for (const branch of branches.slice(1)) folders[branch] = await worktree(rig, branch)
      // One that knows the others only by the store.
      const clone = join(rig.folder, 'clone')
      rig.git('clone', '--quiet', rig.repo, clone)
      copyBase(rig, clone)
      git(rig, clone, 'config', 'vlb.store', rig.store())
      const roll = await worktree(rig, 'roll')
      const disk = join(rig.folder, 'disk.raw')
      writeFileSync(disk, Buffer.concat([bootSector('hello there\r\n', 'hang').sector, Buffer.alloc(2 ** 20)]))
      await rig.ok('build')

      for (let round = 1; round <= rounds; round++) {
        for (const branch of branches) commitRound(rig, folders[branch] ?? '', script(word(branch, round)), round)
        git(rig, clone, 'fetch', '--quiet', 'origin')
        const image = (name: string) => join(rig.folder, `${name}-${round}.qcow2`)
        const started: [what: string, ran: Promise<Ran>][] = []
        const start = (args: string[], options: RunOptions = {}) =>
          started.push([args.join(' '), rig.start(args, options).ended])
        for (const branch of branches) {
          start(['build', '-o', image(branch)], { cwd: folders[branch] ?? '' })
          start(['build', `origin/${branch}`, '-o', image(`clone-${branch}`)], { cwd: clone })
          start(['prebuild'], { cwd: folders[branch] ?? '' })
          start(['status', '--json'], { cwd: folders[branch] ?? '' })
        }
        start(['build', ...branches, '-j', '2', '--no-flatten'])
        start(['shell', '20_b'], { cwd: folders['left'] ?? '' })
        start(['shell', 'far'], { cwd: folders['right'] ?? '' })
        start(['diff', 'left', 'right', '--json'])
        start(['changelog', 'left..far', '--json'])
        // Of a layer that gc took there is none.
        if (once) start(['log', '10_a'])
        start(['test-boot', disk, '--expect', 'hello there', '--timeout', '5m'], { cwd: folders['far'] ?? '' })
        start(['rollup', '10..20', '--name', '10_ab'], { cwd: roll })
        for (const cwd of [clone, roll, rig.repo]) start([...gc], { cwd })
        for (const [what, ended] of started) {
          const ran = await ended
          expect(ran.code, `round ${round}: ${what}\n${ran.all}`).toBe(0)
        }
        git(rig, roll, 'reset', '--quiet', '--hard', 'HEAD~1')
        for (const branch of branches) {
          const said = `a\nb\n${word(branch, round)}\n`
          for (const name of [branch, `clone-${branch}`])
            expect(rig.readFromImage(image(name), '/said'), name).toBe(said)
        }
      }

      const built = ['a', 'b', word('main', 0), ...branches.flatMap((one) => range(rounds).map((n) => word(one, n)))]
      expect([...counts.keys()].sort()).toEqual(built.sort())
      // What gc took in between is built anew, and nothing else.
      if (once) expect([...counts].filter(([, times]) => times !== 1)).toEqual([])
      // A key that was built although it was there would have a pointer to the later one.
      expect(readdirSync(rig.store('keys'))).toEqual([])
      for (const id of readdirSync(rig.store('snapshots'))) {
        rig.tool('qemu-img', 'check', '-q', rig.store('chain', `${id}.qcow2`))
        expect(JSON.parse(readFileSync(rig.store('snapshots', id, 'manifest.json'), 'utf8')).id).toBe(id)
      }
      close()
    },
    needs,
  )

const range = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

function git(rig: Rig, folder: string, ...args: string[]): string {
  return execFileSync('git', ['-C', folder, ...args], { env: rig.env, encoding: 'utf8' })
}

function copyBase(rig: Rig, folder: string): void {
  // The same bytes under another path are the same base.
  rig.tool('cp', rig.path('tiny.raw'), folder)
}

async function worktree(rig: Rig, branch: string): Promise<string> {
  const folder = join(rig.folder, branch)
  rig.git('worktree', 'add', '--quiet', '-b', branch, folder)
  copyBase(rig, folder)
  return folder
}

function commitRound(rig: Rig, folder: string, script: string, round: number): void {
  writeFileSync(join(folder, '30_c/build-layer'), `#!/bin/sh\n${script}\n`)
  git(rig, folder, 'commit', '--quiet', '--all', '-m', `round ${round}`)
}
