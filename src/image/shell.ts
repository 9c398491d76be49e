// A root shell inside an image: the same sandbox as for a script, with the user's terminal in it.
import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Attach } from '../core/attach.ts'
import { type MemoryLimit, memoryArgument } from '../core/memory.ts'
import { asRoot } from '../host/privilege.ts'
import { run, spawnInteractive } from '../host/run.ts'
import { interpret, layerArguments, type RootPlace, runner, type ScriptRun } from './sandbox.ts'

export interface ShellOptions {
  attach: Attach
  memory: MemoryLimit
  signal: AbortSignal
  secrets: ReadonlyMap<string, Buffer>
  /** Standard input is a terminal; otherwise the shell reads its commands from it. */
  terminal: boolean
}

/** Opens a shell in the image `work`/layer.qcow2 and returns its exit status. */
export async function shellInImage(
  work: string,
  root: RootPlace,
  script: ScriptRun,
  options: ShellOptions,
): Promise<number> {
  options.signal.throwIfAborted()
  // The terminal takes standard input, so another pipe tells the runner that we are alive.
  const tether = join(work, 'tether')
  await run('mkfifo', ['-m', '0600', '--', tether])
  const command = await asRoot('bash', [
    runner,
    'enter',
    work,
    options.attach,
    memoryArgument(options.memory),
    'shell',
    ...layerArguments(root, script),
  ])
  const pipe = createWriteStream(tether, { flags: 'r+' })
  // A runner that opened it before us would find its end at once.
  await once(pipe, 'open')
  // What is still to be written when we stop is no error.
  pipe.on('error', () => {})
  for (const [id, value] of options.secrets) pipe.write(`${id} ${value.toString('base64')}\n`)
  pipe.write('go\n')
  const stop = () => pipe.destroy()
  options.signal.addEventListener('abort', stop, { once: true })
  // It may have fired while sudo was asked.
  if (options.signal.aborted) stop()
  try {
    const ended = await (options.terminal ? inTerminal(command) : spawnInteractive(command.tool, command.args))
    const answers = await readFile(join(work, 'answers'), 'utf8').catch(() => '')
    return interpret(answers.split('\n'), ended, options.signal)
  } finally {
    options.signal.removeEventListener('abort', stop)
    stop()
  }
}

/**
 * By way of script(1), which makes a terminal of its own for it: the shell can become that one's master without taking
 * ours from our user's shell, window sizes are passed on, and the settings come back afterwards.
 */
async function inTerminal({ tool, args }: { tool: string; args: readonly string[] }) {
  const quoted = [tool, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  return await spawnInteractive('script', ['--quiet', '--return', '--command', `exec ${quoted}`, '/dev/null'])
}
