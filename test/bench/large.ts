// A disk of 40 GB with 10 GB of data in it. It takes some minutes and 30 GB in the temporary folder, so it is measured only
// when it is asked for: `npm run bench -- large`.
import { randomBytes } from 'node:crypto'
import { tinyDisk } from '../rig/tiny-disk.ts'
import { convert, type Lab } from './lab.ts'
import { least, memoryRow, ms, type Row, ratioRow, secondsRow, takeTurns } from './row.ts'

const pieces = 160

export function largeRows(lab: Lab): Row[] {
  const project = lab.project('large').start(tinyDisk(lab.path('large.raw'), {}), 'disk: { size: 40G }\nseal: false\n')
  // Nothing in it that could be told from data: each piece is another one, by its name in front.
  project.write('10_data/piece', randomBytes(64 * 2 ** 20))
  project.layer('10_data', `i=0; while [ $i -lt ${pieces} ]; do { echo $i; cat piece; }; i=$((i + 1)); done >/data`)
  for (const i of [20, 30, 40]) project.layer(`${i}_small`, `echo ${i} >/small-${i}`)
  project.commit()
  project.build('--no-flatten')
  const samples = takeTurns(10, {
    node: () => lab.bareNode(),
    build: () => project.build('--no-flatten'),
    status: () => project.vlb(['status']).seconds,
    gc: () => project.vlb(['gc', '--dry-run']).seconds,
  })
  const top = project.topSnapshot()
  lab.settle()
  const flatten = project.build()
  const memory = memoryRow('40 GB disk, 10 GB used: nothing to do', project.peakMemory('build'))
  const alone = convert(lab, top)
  const row = (what: string, command: string, measured: number[], bound: number) =>
    secondsRow({
      what: `40 GB disk, 10 GB used: ${what}`,
      measured: `\`git vlb ${command}\`: ${ms(least(measured))}`,
      comparedWith: `\`node -e 0\`: ${ms(least(samples.node))}`,
      value: least(measured) - least(samples.node),
      bound,
      samples: { node: samples.node, measured },
    })
  return [
    row('nothing to do', 'build --no-flatten', samples.build, 0.15),
    row('status', 'status', samples.status, 0.15),
    row('what gc would drop', 'gc --dry-run', samples.gc, 2),
    ratioRow({
      what: '40 GB disk, 10 GB used: image',
      measured: `\`git vlb build\`: ${ms(flatten)}`,
      comparedWith: `\`qemu-img convert -W -m 8\`: ${ms(alone)}`,
      value: flatten / alone,
      bound: 1.25,
      samples: { flatten: [flatten], convert: [alone] },
    }),
    memory,
  ]
}
