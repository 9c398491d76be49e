// Results of checks in forms that other programs read: JUnit's XML, and TAP. Output of a guest is in both, so both escape it.
import { type CheckResult, verdict } from './checks.ts'
import { printable } from './errors.ts'
import type { BootResult, CheckedMachine } from './results-boot.ts'

/** What a run amounts to, in one or more suites; a remembered pass has none of its own. */
type Tested = Pick<BootResult, 'machines' | 'remembered' | 'reason'>

/**
 * JUnit's XML, as Jenkins, GitLab and GitHub actions read it: a suite for each machine, a case for each check. `project` is
 * the name of the whole.
 */
export function junitText({ machines = [] }: Tested, project: string): string {
  const suites = machines.map((machine) => suite(machine, project))
  const all = machines.flatMap(({ checks }) => checks)
  // A whole has no count of what was skipped, nor does a case say why in an attribute: not in every schema that is in use.
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="${xml(project)}" ${counts(all)} time="${time(
    machines.reduce((sum, { seconds }) => sum + seconds, 0),
  )}">\n${suites.join('')}</testsuites>\n`
}

function suite(machine: CheckedMachine, project: string): string {
  const cases = machine.checks.map((check) => testCase(check, `${project}.${machine.name}`, machine.reason)).join('')
  const said = machine.ok ? '' : `    <system-err>${xml(machine.reason)}</system-err>\n`
  return `  <testsuite name="${xml(machine.name)}" ${counts(machine.checks)} skipped="${count(machine.checks, 'skipped')}" time="${time(machine.seconds)}">\n${cases}${said}  </testsuite>\n`
}

function counts(checks: readonly CheckResult[]): string {
  return `tests="${checks.length}" failures="${count(checks, 'failed', 'timeout')}" errors="${count(checks, 'not-run')}"`
}

function count(checks: readonly CheckResult[], ...states: CheckResult['state'][]): number {
  return checks.filter(({ state }) => states.includes(state)).length
}

function testCase(check: CheckResult, group: string, reason: string): string {
  const start = `    <testcase name="${xml(check.name)}" classname="${xml(group)}" time="${time(check.seconds)}">\n`
  const first = reason.split('\n')[0] ?? ''
  const body = {
    passed: '',
    skipped: `      <skipped>${xml(lastLine(check.output))}</skipped>\n`,
    failed: `      <failure message="ended with status ${check.exitStatus}">${xml(check.output)}</failure>\n`,
    timeout: `      <failure message="took too long">${xml(check.output)}</failure>\n`,
    'not-run': `      <error message="${xml(`did not run: ${first}`)}"/>\n`,
  }[check.state]
  const output = check.output === '' ? '' : `      <system-out>${xml(check.output)}</system-out>\n`
  return `${start}${body}${output}    </testcase>\n`
}

/** Seconds, as xs:decimal has them. */
function time(seconds: number): string {
  return seconds.toFixed(3)
}

/** Text and values of attributes. What XML 1.0 cannot hold at all (section 2.2) is shown instead. */
export function xml(text: string): string {
  return text
    .replace(
      /[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]/gu,
      (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
    )
    .replace(/[&<>"'\r]/g, (c) => `&#${c.charCodeAt(0)};`)
}

/** TAP, version 13 (testanything.org): one line for each check, what it said of a failure as comments. */
export function tapText(tested: Tested): string {
  const { machines = [], remembered } = tested
  if (remembered) return `TAP version 13\n1..0 # SKIP passed on ${remembered}\n`
  const several = machines.length > 1
  const all = machines.flatMap((machine) => machine.checks.map((check) => ({ machine, check })))
  const lines = all.flatMap(({ machine, check }, i) => {
    const ok = check.state === 'passed' || check.state === 'skipped' ? 'ok' : 'not ok'
    const name = printable(`${check.name}${several ? ` (${machine.name})` : ''}`).replace(/#/g, '\\#')
    const skip = check.state === 'skipped' ? ` # SKIP ${printable(lastLine(check.output))}`.trimEnd() : ''
    const output =
      ok === 'ok' ? [] : [howItEnded(check), ...check.output.trimEnd().split('\n')].filter((line) => line !== '')
    return [`${ok} ${i + 1} - ${name}${skip}`, ...output.map((line) => `# ${printable(line, 2000)}`)]
  })
  const bad = machines
    .filter(({ ok }) => !ok)
    .flatMap(({ reason }) => reason.split('\n').map((line) => `# ${printable(line, 2000)}`))
  return `TAP version 13\n1..${all.length}\n${[...lines, ...bad].map((line) => `${line}\n`).join('')}`
}

/** `status 3`, `took too long`. */
export function howItEnded({ state, exitStatus }: CheckResult): string {
  if (state === 'timeout') return 'took too long'
  if (state === 'not-run') return 'did not run'
  if (state === 'failed')
    return (exitStatus ?? 0) > 128 ? `ended by signal ${(exitStatus ?? 0) - 128}` : `status ${exitStatus}`
  return ''
}

function lastLine(text: string): string {
  return text.trimEnd().split('\n').at(-1) ?? ''
}

/** For a run on several machines, which of them went wrong. */
export function wholeVerdict(machines: readonly CheckedMachine[]): string {
  const bad = machines.filter(({ ok }) => !ok)
  const [only] = machines
  if (machines.length === 1 && only) return only.reason
  if (bad.length === 0) return `${verdict(machines.flatMap(({ checks }) => checks))} on ${machines.length} machines`
  return bad.map(({ name, reason }) => `${name}: ${reason}`).join('\n')
}
