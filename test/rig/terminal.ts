// A real terminal for a command: a window of tmux, in a server of its own, whose keys the test presses and whose screen it
// reads.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Rig } from './rig.ts'

export class Terminal {
  readonly #rig: Rig
  readonly #socket: string

  /** Opens a window of that size and runs the shell commands in it; it stays open when they end. */
  constructor(rig: Rig, commands: string, { columns = 100, rows = 30 } = {}) {
    this.#rig = rig
    this.#socket = join(rig.folder, 'tmux')
    const size = ['-x', String(columns), '-y', String(rows)]
    this.#tmux('-f', '/dev/null', 'new-session', '-d', ...size, '-c', rig.repo, `${commands}\nexec sleep 10000`)
  }

  /** Presses keys, each as tmux names it: `C-d`, `Enter`. */
  press(...keys: string[]): void {
    this.#tmux('send-keys', ...keys)
  }

  /** Types a line, and Enter. */
  type(line: string): void {
    this.#tmux('send-keys', '-l', line)
    this.press('Enter')
  }

  resize(columns: number, rows: number): void {
    this.#tmux('resize-window', '-x', String(columns), '-y', String(rows))
  }

  /** What the window shows, with what has scrolled out of it. */
  get screen(): string {
    return this.#tmux('capture-pane', '-p', '-J', '-S', '-500')
  }

  /** Whether the cursor can be seen. */
  get cursorShown(): boolean {
    return this.#tmux('display-message', '-p', '#{cursor_flag}').trim() === '1'
  }

  /** Waits until the screen shows it. */
  async shows(text: RegExp, seconds: number): Promise<void> {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await delay(200)) if (text.test(this.screen)) return
    throw new Error(`the screen never showed ${text}; it shows:\n${this.screen}`)
  }

  /** Waits until a file below the rig's folder is there, and reads it. */
  async file(name: string, seconds: number): Promise<string> {
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await delay(200)) {
      try {
        return readFileSync(join(this.#rig.folder, name), 'utf8')
      } catch {}
    }
    throw new Error(`${name} was never written; the screen shows:\n${this.screen}`)
  }

  close(): void {
    this.#tmux('kill-server')
  }

  #tmux(...args: string[]): string {
    const env = { ...this.#rig.env, TERM: 'xterm-256color', SHELL: '/bin/sh' }
    return execFileSync('tmux', ['-S', this.#socket, ...args], { env, encoding: 'utf8' })
  }
}
