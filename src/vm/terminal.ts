// The user's terminal, which qemu switches to raw mode: its settings are put back however qemu, or we, end.
import { ordinary } from '../core/terminal.ts'
import { spawn } from '../host/run.ts'

// Waits until its standard input ends, when we close it or die. A session of its own, and deaf to what a terminal sends.
const guardScript = `trap '' INT TERM HUP QUIT
cat >/dev/null
printf %s "$3" >"$1"
exec stty -F "$1" "$2"`

/** Remembers the settings of the terminal on standard input; the result puts them back. Without a terminal: nothing. */
export async function saveTerminal(): Promise<() => Promise<void>> {
  const settings = await ask('stty', ['-g'])
  const name = await ask('tty', [])
  if (!settings || !name) return async () => {}
  const guard = spawn('sh', ['-c', guardScript, 'git-vlb-terminal', name, settings, ordinary], { tether: false })
  return async () => {
    guard.stdin?.end()
    await guard.ended
    // Once more without its name, for a terminal that somebody else owns (su) cannot be opened.
    await ask('stty', [settings])
  }
}

/** What a program prints that looks at our standard input; undefined if it fails. */
async function ask(tool: string, args: readonly string[]): Promise<string | undefined> {
  const child = spawn(tool, args, { terminal: true })
  let text = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  child.stderr?.resume()
  const { exitCode } = await child.ended
  return exitCode === 0 ? text.trim() : undefined
}
