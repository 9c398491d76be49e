// Terminals and pipes that end, stop or come back in the middle: what was at work goes on or is cleared up, the exit status
// says which, and the terminal is left as it was found.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { bootSector } from '../rig/boot-sector.ts'
import type { Need } from '../rig/need.ts'
import { type Hold, type Rig, rigTest } from '../rig/rig.ts'
import { Terminal } from '../rig/terminal.ts'

const needs: Need[] = ['root', 'fuse', 'loop', 'tool:tmux', 'tool:qemu-img', 'tool:qemu-storage-daemon', 'tool:busybox']

/** A build that stands still in its first layer. */
async function held(rig: Rig, more = ''): Promise<Hold> {
  const hold = await rig.hold()
  rig.project({ '10_a': `echo one; echo two; ${hold.line}\n${more}\necho a > /a`, '20_b': 'echo b > /b' })
  rig.commit()
  return hold
}

/** In a window: the settings of the terminal before a command, and its exit status, beside the repository. */
const watched = (command: string) => `trap : INT QUIT; stty -g >../before; tty >../tty; ${command}; echo $? >../status`

/** After the program was killed, those who put the settings back take a moment longer. */
async function sameTerminal(rig: Rig, window: Terminal): Promise<string> {
  const status = await window.file('status', 60)
  const read = (name: string) => readFileSync(join(rig.folder, name), 'utf8')
  const settings = () => rig.tool('stty', '-F', read('tty').trim(), '-g')
  for (let i = 0; i < 200 && !(settings() === read('before') && window.cursorShown); i++) await delay(50)
  expect(settings()).toBe(read('before'))
  expect(window.cursorShown, 'the cursor').toBe(true)
  return status.trim()
}

/** Waits for the program in the window, and returns its process id. */
async function pidOf(rig: Rig, words: string): Promise<number> {
  for (let i = 0; i < 300; i++, await delay(50)) {
    // tmux and the shell have the words in their command lines, too.
    const own = rig
      .processes(`${rig.command} ${words}`)
      .filter((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim() !== 'tmux: server')
    const pid = own.find((one) => readFileSync(`/proc/${one}/cmdline`, 'utf8').startsWith(process.execPath))
    if (pid) return Number(pid)
  }
  throw new Error('the program never started')
}

for (const [what, end, status] of [
  ['Ctrl-C', async (window: Terminal) => window.press('C-c'), '130'],
  ['Ctrl-\\', async (window: Terminal) => window.press('C-\\'), '131'],
  ['SIGTERM', async (_: Terminal, pid: number) => process.kill(pid, 'SIGTERM'), '143'],
  ['SIGKILL', async (_: Terminal, pid: number) => process.kill(pid, 'SIGKILL'), '137'],
] as const) {
  rigTest(
    `a build on a terminal is ended by ${what}: its settings and its cursor are as before, and nothing is left`,
    async (rig) => {
      const hold = await held(rig)
      const window = new Terminal(rig, watched(`${rig.command} build`))
      try {
        await hold.reached()
        await window.shows(/10_a {2}[\d.]+ s/, 30)
        await end(window, await pidOf(rig, 'build'))
        expect(await sameTerminal(rig, window)).toBe(status)
        hold.release()
      } finally {
        window.close()
      }
    },
    needs,
  )
}

rigTest(
  'a build that is stopped by Ctrl-Z works on; after fg it is shown again, and what the shell said in between stays',
  async (rig) => {
    const [first, second] = [await rig.hold(), await rig.hold()]
    rig.project({ '10_a': `${first.line}\n${second.line}`, '20_b': 'echo b > /b' })
    rig.commit()
    const window = new Terminal(rig, 'exec bash --norc --noprofile -i')
    try {
      window.type("PS1='ready> '; set -m")
      window.type(`${rig.command} build; echo "status $?"`)
      await first.reached()
      await window.shows(/10_a {2}[\d.]+ s/, 30)
      window.press('C-z')
      await window.shows(/Stopped/, 30)
      expect(window.cursorShown).toBe(true)
      // What was live is gone, and nothing is drawn while we are stopped.
      expect(window.screen.split('\n').filter((line) => /10_a {2}[\d.]+ s/.test(line))).toEqual([])
      first.release()
      await second.reached()
      window.type('echo in between')
      await window.shows(/^in between$/m, 30)
      window.type('fg')
      await window.shows(/10_a {2}[\d.]+ s/, 30)
      second.release()
      await window.shows(/20_b {2}built in/, 60)
      await window.shows(/ready> $/m, 60)
      expect(window.screen).toMatch(/Stopped[\s\S]*\nin between\n[\s\S]*fg\n[\s\S]*✓ 10_a {2}built/)
      expect(window.screen.split('\n').filter((line) => /10_a {2}[\d.]+ s/.test(line))).toEqual([])
      expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
    } finally {
      window.close()
    }
  },
  needs,
)

rigTest(
  'a build whose window is closed ends as a hangup says, and nothing is left',
  async (rig) => {
    const hold = await held(rig)
    // Of the shells, only the one that tells the status lives on.
    const window = new Terminal(rig, `(trap '' HUP; ${rig.command} build; echo $? >../gone; mv ../gone ../status)`)
    await hold.reached()
    window.close()
    for (let i = 0; i < 600 && !existsSync(join(rig.folder, 'status')); i++) await delay(50)
    expect(readFileSync(join(rig.folder, 'status'), 'utf8')).toBe('129\n')
    hold.release()
  },
  needs,
)

rigTest(
  'a shell in a layer: the program is killed, and the terminal is as before',
  async (rig) => {
    rig.project({ '10_a': 'echo a > /a' })
    rig.commit()
    await rig.build()
    for (const [signal, status] of [
      ['SIGKILL', '137'],
      ['SIGTERM', '143'],
      ['SIGHUP', '129'],
    ] as const) {
      const window = new Terminal(rig, `rm -f ../status; ${watched(`${rig.command} shell 10_a`)}`)
      try {
        await window.shows(/# $/m, 60)
        // An editor that has switched the terminal to raw mode.
        window.type('stty raw -echo; echo "in $(cat /a)"')
        await window.shows(/in a/, 30)
        process.kill(await pidOf(rig, 'shell'), signal)
        expect(await sameTerminal(rig, window), signal).toBe(status)
      } finally {
        window.close()
      }
      expect(await rig.leaks(), signal).toEqual([])
    }
  },
  [...needs, 'tool:script'],
)

rigTest(
  'a guest on the terminal: the program is killed, and the terminal is as before',
  async (rig) => {
    rig.project({ '10_a': 'true' })
    rig.commit()
    writeFileSync(
      join(rig.folder, 'disk.raw'),
      Buffer.concat([bootSector('\x1b[?25lhello there\r\n', 'hang').sector, Buffer.alloc(2 ** 20)]),
    )
    for (const [signal, status] of [
      ['SIGKILL', '137'],
      ['SIGTERM', '143'],
      ['SIGQUIT', '131'],
    ] as const) {
      const command = `${rig.command} test-boot ../disk.raw --console`
      const window = new Terminal(rig, `rm -f ../status; ${watched(`git config vlb.accel tcg; ${command}`)}`)
      try {
        await window.shows(/hello there/, 120)
        process.kill(await pidOf(rig, 'test-boot'), signal)
        expect(await sameTerminal(rig, window), signal).toBe(status)
      } finally {
        window.close()
      }
      expect(await rig.leaks(), signal).toEqual([])
    }
  },
  [...needs, 'tool:qemu-system-x86_64'],
)

rigTest('nobody reads what is printed: it ends without a word, by the status of what was done', async (rig) => {
  rig.project({ '10_a': 'seq 100000', '20_b': 'exit 3' })
  rig.commit()
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: for bash
  const sh = (line: string) => {
    const script = `cd "$1"; shift; ${line}`
    return execFileSync('bash', ['-c', script, 'bash', rig.repo, ...rig.command.split(' ')], {
      env: rig.env,
      encoding: 'utf8',
    })
  }
  // It has failed, whether or not somebody reads that.
  expect(sh('"$@" build --json 2>../said | true; echo "${PIPESTATUS[0]}"')).toBe('1\n')
  expect(sh('"$@" log 10_a 2>../said | head -n 1; echo "${PIPESTATUS[0]}"')).toBe('1\n0\n')
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: for bash
  expect(readFileSync(join(rig.folder, 'said'), 'utf8')).toBe('')
  expect(sh('"$@" log 10_a >&- 2>../said; echo $?')).toBe('0\n')
  expect(sh('"$@" log 10_a >/dev/full 2>../said; echo $?')).toBe('3\n')
  expect(readFileSync(join(rig.folder, 'said'), 'utf8')).toMatch(/^error: cannot write to standard output: ENOSPC.*\n$/)
  expect(sh('"$@" status --json 2>../said >/dev/full; echo $?')).toBe('3\n')
})

rigTest('nobody reads progress and messages: the work is done all the same', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': `seq 1000\n${hold.line}\nseq 1000`, '20_b': 'seq 1000' })
  rig.commit()
  const running = rig.start(['build', '-v'])
  await hold.reached()
  running.child.stderr?.destroy()
  hold.release()
  const ran = await running.ended
  expect([ran.code, ran.signal, ran.stdout]).toEqual([0, null, expect.stringMatching(/20_b +built/)])
  const closed = execFileSync(
    'bash',
    ['-c', 'cd "$1"; shift; "$@" build --rebuild 20_b 2>&-', 'bash', rig.repo, ...rig.command.split(' ')],
    { env: rig.env, encoding: 'utf8' },
  )
  expect(closed).toMatch(/20_b +built/)
})
