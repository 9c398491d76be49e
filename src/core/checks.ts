// Checks that run inside a booted guest: what a project's folder `checks` may hold, the built-in ones, and what their
// verdicts come to. Pure.
import { printable, VlbError } from './errors.ts'
import { compareLayerNames, readScript, type TreeEntry } from './layer.ts'
import { nearest } from './nearest.ts'
import { parseDuration } from './units.ts'

/** The folder beside vlb.yaml. Whatever else is in it is there for the checks to use. */
export const checksFolder = 'checks'

/** In the order in which they run, before those of the project. Each is a function of the agent, `vm/agent.sh`. */
export const builtinChecks = ['boot-settled', 'failed-units', 'root-space', 'disk-size', 'clock'] as const
export type BuiltinCheck = (typeof builtinChecks)[number]

export interface Check {
  name: string
  builtin: boolean
  /** Seconds. */
  timeout: number
  needsNetwork: boolean
}

/** `not-run`: the guest or the time came to an end before. */
export type CheckState = 'passed' | 'failed' | 'timeout' | 'skipped' | 'not-run'

export interface CheckResult {
  name: string
  builtin: boolean
  state: CheckState
  /** 128 + n for signal n; null if it did not end by itself. */
  exitStatus: number | null
  seconds: number
  /** Standard output and error, as UTF-8, the beginning of it where it was much. */
  output: string
  /** There was more output. */
  cut: boolean
}

/** The status by which a check says that it does not apply, as in Automake's tests. */
export const skipStatus = 77

/** Seconds, where the check does not say. */
export const defaultTimeout = 120

const checkName = /^[0-9]{2,}_[A-Za-z0-9._-]+$/

/** The checks among what is in the folder, in order. `read` gives a file's content. Throws for one that cannot run. */
export async function findChecks(
  entries: readonly TreeEntry[],
  read: (entry: TreeEntry) => Promise<Buffer>,
): Promise<Check[]> {
  const found: Check[] = []
  for (const entry of entries) {
    if (!/^[0-9]+_/.test(entry.name)) continue
    const path = `${checksFolder}/${printable(entry.name)}`
    if (!checkName.test(entry.name)) {
      throw new VlbError('VLB_CHECK', `${path} looks like a check, but its name is not NN_name`, {
        hint: 'use at least two digits, "_", then letters, digits, ".", "_" or "-"',
      })
    }
    if (entry.mode !== '100755') {
      throw new VlbError('VLB_CHECK', `${path} is no executable file`, {
        hint: `git add --chmod=+x ${path} && chmod +x ${path}; what is no check has a name without a number`,
      })
    }
    found.push({ name: entry.name, builtin: false, ...checkDirectives(await read(entry), path) })
  }
  return found.sort((a, b) => compareLayerNames(a.name, b.name))
}

const directives = ['timeout', 'needs-network']

function checkDirectives(content: Buffer, path: string): Pick<Check, 'timeout' | 'needsNetwork'> {
  const found = { timeout: defaultTimeout, needsNetwork: false }
  // It says what is wrong with its first line; of directives it knows those of layers.
  readScript(Buffer.from(content.toString('latin1').split('\n', 1)[0] ?? '', 'latin1'), path)
  for (const [index, line] of content.toString('utf8').split('\n', 500).entries()) {
    if (line.trim() !== '' && !line.startsWith('#')) break
    const match = /^#\s*vlb:\s*(\S*)\s*(.*?)\s*$/.exec(line)
    if (!match) continue
    const [, name = '', argument = ''] = match
    const wrong = (what: string, hint = `known in a check: ${directives.join(', ')}`) =>
      new VlbError('VLB_DIRECTIVE', `${path}:${index + 1}: ${printable(what)}`, { hint })
    if (name === 'timeout') {
      const seconds = parseDuration(argument)
      if (seconds === undefined) throw wrong(`timeout takes a duration such as 30s or 5m, not "${argument}"`)
      found.timeout = Math.max(1, Math.ceil(seconds))
    } else if (name === 'needs-network') {
      if (argument) throw wrong('needs-network takes no argument')
      found.needsNetwork = true
    } else {
      const meant = nearest(name, directives)
      throw wrong(`unknown directive "${name}"`, meant && `did you mean "# vlb: ${meant}"?`)
    }
  }
  return found
}

export function builtin(name: BuiltinCheck): Check {
  return { name, builtin: true, timeout: defaultTimeout, needsNetwork: false }
}

/** Before it was run. */
export function notRun({ name, builtin }: Check): CheckResult {
  return { name, builtin, state: 'not-run', exitStatus: null, seconds: 0, output: '', cut: false }
}

export function stateOf(exitStatus: number): CheckState {
  return exitStatus === 0 ? 'passed' : exitStatus === skipStatus ? 'skipped' : 'failed'
}

/** All that were to run did, and none failed. */
export function allPassed(results: readonly CheckResult[]): boolean {
  return results.every(({ state }) => state === 'passed' || state === 'skipped')
}

/** `2 of 7 checks failed: 10_web, 20_db`. */
export function verdict(results: readonly CheckResult[]): string {
  const names = (...states: CheckState[]) =>
    results.filter(({ state }) => states.includes(state)).map(({ name }) => name)
  const failed = names('failed', 'timeout')
  const missing = names('not-run')
  const many = (n: number) => (n === 1 ? '1 check' : `${n} checks`)
  if (failed.length > 0) return `${failed.length} of ${many(results.length)} failed: ${failed.join(', ')}`
  if (missing.length > 0) return `${missing.length} of ${many(results.length)} did not run: ${missing.join(', ')}`
  return `${many(results.length)} passed`
}
