// The checks of an image as text for people: a table, and what a check that failed said.
import { howItEnded } from '../core/check-reports.ts'
import type { CheckResult } from '../core/checks.ts'
import { printable } from '../core/errors.ts'
import type { BootResult, CheckedMachine } from '../core/results-boot.ts'
import { formatSeconds } from '../core/units.ts'
import { keptLine, type TextOptions } from './layers.ts'
import type { Style } from './style.ts'
import { table } from './table.ts'

/** Lines shown of what a check said; more is in --junit and --json. */
const shownLines = 20

const keepAdvice = 'to look at what the guest wrote: git vlb test-boot --check --keep'

const looks = { passed: 'green', failed: 'red', timeout: 'red', skipped: 'dim', 'not-run': 'yellow' } as const
const words = { passed: 'ok', failed: 'failed', timeout: 'timeout', skipped: 'skipped', 'not-run': 'not run' } as const

export function checksText(data: BootResult, { style, cwd }: TextOptions): string {
  const { machines = [], remembered } = data
  const kept = (machine: CheckedMachine) =>
    machine.kept === null ? '' : `${keptLine(machine.kept, data.image, cwd)}\n`
  if (remembered) return `${style('green', 'passed')}: ${data.reason}\n`
  const parts = machines.map((machine) => machineText(machine, machines.length > 1, style) + kept(machine))
  const bad = machines.filter(({ ok }) => !ok).length
  const all = machines.length > 1 ? `${bad === 0 ? style('green', 'passed') : style('red', 'failed')} on ` : ''
  const total = all && `${all}${bad === 0 ? `all ${machines.length}` : `${bad} of ${machines.length}`} machines\n`
  const advice = bad > 0 && machines.every((one) => one.kept === null) ? `${style('dim', keepAdvice)}\n` : ''
  return parts.join('') + total + advice
}

function machineText(machine: CheckedMachine, named: boolean, style: Style): string {
  const head = named ? `${style('bold', machine.name)}\n` : ''
  const rows = machine.checks.map((check) => [
    style(looks[check.state], words[check.state]),
    check.name,
    check.state === 'not-run' ? '' : formatSeconds(check.seconds),
    style('dim', note(check)),
  ])
  const failures = machine.checks.filter(({ state }) => state === 'failed' || state === 'timeout')
  const said = failures.map((check) => `\n${style('bold', check.name)} ${howItEnded(check)}${lines(check)}\n`).join('')
  return `${head}${table(rows, ['left', 'left', 'right', 'left'])}\n${said}${failures.length > 0 ? '\n' : ''}${end(machine, style)}\n`
}

function end(machine: CheckedMachine, style: Style): string {
  if (machine.ok) {
    const boot = machine.bootSeconds === null ? '' : `up after ${formatSeconds(machine.bootSeconds)}, `
    return `${style('green', 'passed')}: ${machine.reason} (${boot}${formatSeconds(machine.seconds)} in all)`
  }
  return `${style('red', 'failed')}: ${machine.reason}`
}

/** The one line that a check had to say. */
function note({ state, output }: CheckResult): string {
  const all = output.trim().split('\n')
  return (state === 'passed' || state === 'skipped') && all.length <= 2 ? printable(all.at(-1)?.trim() ?? '', 60) : ''
}

function lines({ output, cut }: CheckResult): string {
  const all = output.trimEnd().split('\n')
  if (output.trim() === '') return ', and said nothing'
  const shown = all.slice(-shownLines).map((line) => `\n  ${printable(line, 300)}`)
  const left = cut ? 'more was said; of what was kept, ' : ''
  const before =
    all.length > shown.length || cut
      ? `\n  (${left}the last ${shown.length} of ${all.length} lines; all with --json)`
      : ''
  return `:${before}${shown.join('')}`
}
