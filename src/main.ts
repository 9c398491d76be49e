#!/usr/bin/env node
// Entry: the command line to a verb, its result to standard output, its errors to an exit status. The only catch and
// the only exit.
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'
import { isatty } from 'node:tty'
import { Command, CommanderError } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { addOptions, addVerbs } from './commands/parser.ts'
import { type Options, overview, type Verb, verbs } from './commands/table.ts'
import { bisectStatus, stopBisect } from './core/bisect.ts'
import { Interrupted, VlbError } from './core/errors.ts'
import type { CommandResult } from './core/results.ts'
import type { Reporter } from './report/lines.ts'
import { makeReporter } from './report/reporter.ts'
import { makeStyle } from './report/style.ts'

const outStyle = makeStyle(process.stdout, process.env)
const errorStyle = makeStyle(process.stderr, process.env)

/** The exit status is a verdict on a commit: nothing else may look like one. */
const bisecting = process.argv.includes('--bisect')
let verdict: number | undefined
if (bisecting) {
  process.once('exit', () => {
    // Where even our own catch is not reached, node ends with 1.
    process.exitCode = verdict ?? stopBisect
  })
}

function endWith(status: number): void {
  verdict = status
  process.exitCode = status
}

/** The first signal ends what runs and clears up; a second one leaves at once, and the kernel clears up. */
function listenForSignals(controller: AbortController): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) {
    process.on(signal, () => {
      const interrupted = new Interrupted(signal)
      if (controller.signal.aborted) process.exit(interrupted.exitStatus)
      controller.abort(interrupted)
    })
  }
}

/**
 * ^Z: what is live is taken away, and shown again when we go on. What we started has sessions of its own and works on
 * meanwhile. The kernel decides whether we stop: a process that no shell could wake up again does not (setpgid(2)).
 */
function listenForStops(reporter: Reporter): void {
  let stopped = false
  const goOn = () => {
    stopped = false
    reporter.resume()
  }
  const stop = () => {
    reporter.pause()
    stopped = true
    process.kill(process.pid, 'SIGTSTP')
    // Where we did not stop, nothing tells us to go on.
    setTimeout(() => {
      process.once('SIGTSTP', stop)
      if (stopped) goOn()
    }, 20)
  }
  process.once('SIGTSTP', stop)
  process.on('SIGCONT', goOn)
}

async function start(verb: Verb, operands: string[], options: Options): Promise<void> {
  const controller = new AbortController()
  listenForSignals(controller)
  const json = options['json'] === true
  const reporter = await makeReporter({
    stream: process.stderr,
    style: errorStyle,
    quiet: options['quiet'] === true,
    verbose: options['verbose'] === true,
  })
  listenForStops(reporter)
  const cwd = typeof options['C'] === 'string' ? resolve(options['C']) : process.cwd()
  try {
    const command = await verb.load()
    const result = await command({ cwd, emit: reporter.emit, signal: controller.signal, json }, operands, options)
    reporter.end()
    await print(result, json, { cwd, verbose: options['verbose'] === true })
  } catch (error) {
    await report(controller.signal.aborted ? controller.signal.reason : error, reporter, json, verb)
  }
}

async function print(result: CommandResult, json: boolean, shown: { cwd: string; verbose: boolean }): Promise<void> {
  // First, for whoever reads what is printed may leave in the middle.
  if ('exitStatus' in result.data) endWith(result.data.exitStatus)
  else if (result.kind === 'doctor' && !result.data.ok) endWith(3)
  if (json) {
    process.stdout.write(`${JSON.stringify(await jsonForm(result), null, 2)}\n`)
  } else {
    const { resultText } = await import('./report/text.ts')
    await show(resultText(result, { style: outStyle, terminal: process.stdout.isTTY, ...shown }), result, shown.cwd)
    if ((result.kind === 'build' || result.kind === 'prebuild') && result.data.error) {
      const { buildErrorText } = await import('./report/error.ts')
      process.stderr.write(buildErrorText(result.data.error, errorStyle))
    }
  }
}

async function jsonForm(result: CommandResult): Promise<unknown> {
  if (result.kind === 'diff') return (await import('./report/diff.ts')).diffJson(result.data)
  const { exitStatus: _, ...data } = { exitStatus: 0, ...result.data }
  return data
}

/** On a terminal, what may be long goes through the user's pager. */
async function show(text: string, { kind }: CommandResult, cwd: string): Promise<void> {
  const { openPager } = kind === 'diff' && process.stdout.isTTY ? await import('./commands/pager.ts') : {}
  const pager = text === '' ? undefined : await openPager?.(cwd)
  if (!pager) return void process.stdout.write(text)
  pager.input.end(text)
  await pager.ended
}

async function report(error: unknown, reporter: Reporter | undefined, json: boolean, verb: Verb): Promise<void> {
  reporter?.end()
  endWith(bisecting ? bisectStatus(error) : exitStatus(error))
  if (json) {
    const { message, code, hint } = error as Partial<VlbError>
    const told = {
      code: code ?? (error instanceof Interrupted ? 'VLB_INTERRUPTED' : 'VLB_BUG'),
      message,
      ...(hint ? { hint } : {}),
    }
    const shape = verb.name === 'build' ? { layers: [], image: null, images: [] } : {}
    process.stdout.write(`${JSON.stringify({ ok: false, ...shape, error: told }, null, 2)}\n`)
    if (error instanceof VlbError || error instanceof Interrupted) return
  }
  const { errorText } = await import('./report/error.ts')
  process.stderr.write(errorText(error, errorStyle))
}

function exitStatus(error: unknown): number {
  return error instanceof VlbError || error instanceof Interrupted ? error.exitStatus : 70
}

function makeProgram(): Command {
  const program = new Command('git vlb')
  program
    .version(packageJson.version)
    .exitOverride()
    .enablePositionalOptions()
    .showHelpAfterError('(git vlb -h shows the verbs; man git-vlb the whole page)')
  program.description('VM images from layers, with git as the database').usage('<verb> [options]')
  addOptions(program, overview)
  addVerbs(program, verbs, overview, start)
  return program
}

// `git vlb log | head` closes our output early, and a terminal that is closed takes both: that is the reader's choice and no
// error. What was done stays done, and the status tells of it.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (!gone(error)) {
    endWith(bisecting ? stopBisect : 3)
    process.stderr.write(`${errorStyle('red', 'error')}: cannot write to standard output: ${error.message}\n`)
  }
  process.exit(process.exitCode ?? 0)
})
process.stderr.on('error', () => {})

// When it ends, node gives terminals the settings back that it found, and aborts where one is gone.
const terminals = [0, 1, 2].filter((fd) => isatty(fd))
process.once('exit', () => {
  for (const fd of terminals) if (!isatty(fd)) closeSync(fd)
})

function gone(error: NodeJS.ErrnoException): boolean {
  return error.code === 'EPIPE' || error.code === 'EIO'
}

try {
  await makeProgram().parseAsync()
} catch (error) {
  if (!(error instanceof CommanderError)) throw error
  // Asking for help is no mistake; everything else commander complains of is one in the command line.
  const asked = ['commander.helpDisplayed', 'commander.version', 'commander.help'].includes(error.code)
  endWith(asked && error.exitCode === 0 ? 0 : bisecting ? stopBisect : 2)
}
