// `git vlb status` with everything cached: how long one waits for an answer that is no news.
import { execFileSync } from 'node:child_process'
import { tinyDisk } from '../rig/tiny-disk.ts'
import type { Lab, Project } from './lab.ts'
import { least, memoryRow, ms, type Row, secondsRow, takeTurns } from './row.ts'

const layers = 30
const commits = 5000
const branches = 200
const bound = 0.12

export function statusRows(lab: Lab): Row[] {
  const base = tinyDisk(lab.path('status.raw'), {})
  const short = project(lab, 'status-short', base)
  const long = project(lab, 'status-long', base)
  addHistory(lab, long)
  const samples = takeTurns(25, {
    node: () => lab.bareNode(),
    short: () => short.vlb(['status']).seconds,
    long: () => long.vlb(['status']).seconds,
  })
  const row = (what: string, measured: number[]): Row =>
    secondsRow({
      what,
      measured: `\`git vlb status\`: ${ms(least(measured))}`,
      comparedWith: `\`node -e 0\`: ${ms(least(samples.node))}`,
      value: least(measured) - least(samples.node),
      bound,
      samples: { node: samples.node, status: measured },
    })
  return [
    row(`Status of ${layers} layers, all cached`, samples.short),
    row(`The same among ${commits} commits and ${branches} branches`, samples.long),
    memoryRow(`status among ${commits} commits`, long.peakMemory('status')),
  ]
}

function project(lab: Lab, name: string, base: string): Project {
  const made = lab.project(name).start(base, 'seal: false\n')
  for (let i = 1; i <= layers; i++) made.layer(`${String(i * 3).padStart(2, '0')}_layer`, `echo ${i} >/layer-${i}`)
  made.commit()
  made.build()
  return made
}

/** Commits on top of the last one, each to another file beside the layers, and branches all along (git-fast-import(1)). */
function addHistory(lab: Lab, long: Project): void {
  const lines: string[] = []
  for (let i = 1; i <= commits; i++) {
    lines.push('commit refs/heads/main', `mark :${i}`, `committer A <a@example.com> ${1_700_000_000 + i} +0000`)
    lines.push('data 1', 'x', ...(i === 1 ? ['from refs/heads/main^0'] : []))
    for (const file of ['a', 'b'])
      lines.push(`M 100644 inline src/${i % 100}/${file}`, 'data <<END', `${i} ${file}`, 'END')
    if (i % (commits / branches) === 0) lines.push(`reset refs/heads/branch-${i}`, `from :${i}`, '')
  }
  execFileSync('git', ['fast-import', '--quiet'], { input: `${lines.join('\n')}\n`, cwd: long.folder, env: lab.env })
  long.git('reset', '--quiet', '--hard')
  long.git('gc', '--quiet')
}
