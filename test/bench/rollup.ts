// Five layers of 100 MB made one: what that takes beyond the merge itself, which qemu-img does.
import { rmSync } from 'node:fs'
import { tinyDisk } from '../rig/tiny-disk.ts'
import type { Lab, Project } from './lab.ts'
import { factRow, least, ms, type Row, ratioRow, takeTurns } from './row.ts'

const layers = [10, 20, 30, 40, 50]
const megabytes = 100

export function rollupRows(lab: Lab): Row[] {
  const project = chain(lab)
  const [old, merged] = [keys(project), { key: '', trace: '' }]
  const again = () => {
    project.git('reset', '--quiet', '--hard', 'built')
    rmSync(project.path('.git/vlb/snapshots', merged.key || 'none'), { recursive: true, force: true })
    lab.settle()
  }
  const samples = takeTurns(5, {
    rollup: () => {
      again()
      const { seconds, stdout, stderr } = project.vlb(['rollup', '10..50', '--name', 'all', '--json'], {
        VLB_TRACE: '1',
      })
      merged.key = JSON.parse(stdout).into.key
      merged.trace = stderr
      return seconds
    },
    rebase: () => rebase(lab, project, old.at(-1) ?? '', old[0] ?? ''),
  })
  const compared = project.path('.git/vlb/chain')
  lab.run('qemu-img', ['compare', `${compared}/${merged.key}.qcow2`, `${compared}/${old.at(-1)}.qcow2`])
  const { rollup, rebase: alone } = samples
  return [
    ratioRow({
      what: `Rollup of ${layers.length} layers, ${layers.length * megabytes} MB`,
      measured: `\`git vlb rollup\`: ${ms(least(rollup))}`,
      comparedWith: `\`qemu-img rebase\` of a copy: ${ms(least(alone))}`,
      value: least(rollup) / least(alone),
      bound: 2,
      samples,
    }),
    factRow(
      'Rollup: no script runs',
      `${(merged.trace.match(/runner\.sh enter/g) ?? []).length} sandboxes entered`,
      'all commands that VLB_TRACE=1 shows',
      merged.trace.includes('qemu-img rebase') && !merged.trace.includes('runner.sh'),
    ),
  ]
}

function chain(lab: Lab): Project {
  tinyDisk(lab.path('rollup.raw'), { mebibytes: 700 })
  const project = lab.project('rollup').start(lab.path('rollup.raw'))
  for (const layer of layers)
    project.layer(`${layer}_layer`, `dd if=/dev/urandom of=/data-${layer} bs=1M count=${megabytes} 2>/dev/null`)
  project.commit()
  project.git('tag', 'built')
  project.build('--no-flatten')
  return project
}

function keys(project: Project): string[] {
  return project.json('status').layers.map(({ key }: { key: string }) => key)
}

/** The top overlay's copy, put on what is below the lowest. */
function rebase(lab: Lab, project: Project, top: string, lowest: string): number {
  const folder = project.path('.git/vlb/chain')
  const copy = `${folder}/copy.qcow2`
  const base = JSON.parse(lab.run('qemu-img', ['info', '--output=json', `${folder}/${lowest}.qcow2`]).stdout)
  rmSync(copy, { force: true })
  lab.run('cp', ['--no-preserve=mode', `${folder}/${top}.qcow2`, copy])
  lab.settle()
  const args = ['rebase', '-f', 'qcow2', '-F', 'raw', '-b', base['full-backing-filename'], copy]
  const { seconds } = lab.run('qemu-img', args)
  rmSync(copy)
  return seconds
}
