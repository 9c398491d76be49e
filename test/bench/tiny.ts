// On a tiny disk: what git vlb itself takes, with next to nothing to do for the layers' scripts.
import { rmSync } from 'node:fs'
import { tinyDisk } from '../rig/tiny-disk.ts'
import { convert, type Lab, type Project } from './lab.ts'
import { factRow, least, memoryRow, ms, type Row, secondsRow, takeTurns } from './row.ts'

const layerName = (i: number) => `${String(i).padStart(2, '0')}_layer`

function chainOf(lab: Lab, name: string, layers: number): Project {
  const project = lab.project(name).start(lab.path('tiny.raw'), 'seal: false\n')
  for (let i = 1; i <= layers; i++) project.layer(layerName(i), `echo ${i} >/layer-${i}`)
  project.commit()
  project.build()
  return project
}

export function tinyRows(lab: Lab): Row[] {
  tinyDisk(lab.path('tiny.raw'), {})
  const rows = [...nothingToDo(lab)]
  for (const layers of [1, 10, 40]) rows.push(...emptyLayer(lab, layers))
  return rows
}

function nothingToDo(lab: Lab): Row[] {
  const project = chainOf(lab, 'ready', 10)
  const samples = takeTurns(25, { node: () => lab.bareNode(), build: () => project.build() })
  const commands = project
    .vlb(['build'], { VLB_TRACE: '1' })
    .stderr.split('\n')
    .filter((line) => line.startsWith('+ '))
  const others = commands.filter((line) => !line.startsWith('+ git '))
  if (commands.length === 0) throw new Error('VLB_TRACE shows no command')
  return [
    secondsRow({
      what: 'Nothing to do, 10 layers',
      measured: `\`git vlb build\`: ${ms(least(samples.build))}`,
      comparedWith: `\`node -e 0\`: ${ms(least(samples.node))}`,
      value: least(samples.build) - least(samples.node),
      bound: 0.15,
      samples,
    }),
    factRow(
      'Nothing to do: no privileged process',
      `${commands.length} commands started, all of them git's`,
      'all commands that VLB_TRACE=1 shows',
      others.length === 0,
    ),
    memoryRow('nothing to do', project.peakMemory('build')),
  ]
}

/** A layer whose script does nothing, on top of so many others; then the image. */
function emptyLayer(lab: Lab, below: number): Row[] {
  const project = chainOf(lab, `chain-${below}`, below)
  const top = layerName(below + 1)
  const samples = takeTurns(10, {
    layer: (round) => {
      project.layer(top, `true # ${round}`)
      project.commit()
      lab.settle()
      return project.build('--no-flatten')
    },
    nothing: () => project.build('--no-flatten'),
    image: () => {
      rmSync(project.image)
      lab.settle()
      return project.build()
    },
    current: () => {
      // The first build after it flushes the image to disk, if the kernel has not done so yet.
      project.build()
      return project.build()
    },
    convert: () => convert(lab, project.topSnapshot()),
  })
  const { layer, nothing, image, current } = samples
  return [
    secondsRow({
      what: `Empty layer on ${below}`,
      measured: `build of that layer: ${ms(least(layer))}`,
      comparedWith: `the same build again: ${ms(least(nothing))}`,
      value: least(layer) - least(nothing),
      bound: 0.25,
      samples: { layer, nothing },
    }),
    secondsRow({
      what: `Tiny image of ${below + 1} layers`,
      measured: `build with the image to write: ${ms(least(image))}`,
      comparedWith: `the same build again: ${ms(least(current))}; \`qemu-img convert\` alone: ${ms(least(samples.convert))}`,
      value: least(image) - least(current),
      bound: undefined,
      samples: { image, current, convert: samples.convert },
    }),
  ]
}
