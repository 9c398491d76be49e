// The result as a table: for the terminal and for docs/benchmarks.md.
import { execFileSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'
import type { Row } from './row.ts'

const heads = ['What', 'Measured', 'Compared with', 'Result', 'Bound', 'Met'] as const

function cells(row: Row): string[] {
  const met = row.met === undefined ? '' : row.met ? 'yes' : '**no**'
  return [row.what, row.measured, row.comparedWith, row.result, row.bound, met]
}

/** For the terminal: aligned, without the marks of Markdown. */
export function plainTable(rows: readonly Row[]): string {
  const lines = [[...heads], ...rows.map(cells)].map((line) => line.map((cell) => cell.replace(/[`*]/g, '')))
  const widths = heads.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)))
  return lines
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function version(command: string, args: string[], pattern: RegExp): string {
  return pattern.exec(execFileSync(command, args, { encoding: 'utf8' }))?.[1] ?? '?'
}

/** The machine in one line, without its name. */
export function machine(): string {
  const all = cpus()
  const model = (all[0]?.model ?? 'unknown processor')
    .replace(/\((R|TM)\)/g, '')
    .replace(/\s+/g, ' ')
    .trim()
  const parts = [
    `${all.length} × ${model}`,
    `${Math.round(totalmem() / 2 ** 30)} GiB memory`,
    `Linux ${/^\d+\.\d+/.exec(release())?.[0] ?? ''}`,
    `qemu ${version('qemu-img', ['--version'], /version (\d+\.\d+)/)}`,
    `git ${version('git', ['--version'], /version (\d+\.\d+)/)}`,
    `Node ${process.versions.node}`,
  ]
  return parts.join(', ')
}

const largeHeading = '## A disk of 40 GB'

/** What a run of the page holds, and below it what one of the large disk gave: `before` is the page as it was. */
export function page(rows: readonly Row[], intro: string, before: string): string {
  const large = before.indexOf(largeHeading)
  return `${intro.trim()}\n\n${measured(rows)}${large < 0 ? '' : `\n${before.slice(large)}`}`
}

/** The same page with what a run of the large disk gave. */
export function pageWithLarge(rows: readonly Row[], before: string): string {
  const large = before.indexOf(largeHeading)
  const rest = large < 0 ? before : before.slice(0, large).trimEnd()
  return `${rest.trimEnd()}\n\n${largeHeading}\n\nA run of its own, of \`npm run bench -- large\`: 10 GB of data in three small layers and a large one.\n\n${measured(rows)}`
}

function measured(rows: readonly Row[]): string {
  const line = (of: readonly string[]) => `| ${of.join(' | ')} |`
  const table = [line(heads), line(heads.map(() => '---')), ...rows.map((row) => line(cells(row)))]
  return `Measured on: ${machine()}.\n\n${table.join('\n')}\n`
}
