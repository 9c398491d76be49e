// On a real Debian disk: packages, 50 MB of files, the image.
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { debianBase } from '../rig/debian-base.ts'
import { Hand } from './hand.ts'
import { convert, type Lab, type Project } from './lab.ts'
import { type Partition, PlainRoot } from './plain.ts'
import { factRow, least, mb, memoryRow, ms, type Row, ratioRow, secondsRow, takeTurns } from './row.ts'

const wanted = 'nginx vim python3'
// Sealing changes the disk on its way into the image: measured apart.
const unsealed = 'seal: false\n'
const packages = '20_packages'
const files = '30_files'

function packageScript(round: number): string {
  return `# ${round}\napt-get install -y --no-install-recommends --no-download ${wanted}`
}

export function debianRows(lab: Lab): Row[] {
  const project = lab.project('debian').start(debianBase(), unsealed)
  // What is compared later needs no network: the packages are there, not unpacked, for both sides alike.
  const fetch = `apt-get install -y --no-install-recommends --download-only ${wanted}`
  project.layer('10_download', `apt-get -o Acquire::Retries=3 update\n${fetch}`)
  project.commit()
  project.build('--no-flatten')
  const partition = rootPartition(lab, project)
  const plain = new PlainRoot(lab, project.topSnapshot(), partition)
  return [
    ...packageRows(lab, project, plain),
    ...editRows(lab, project, plain, partition),
    ...imageRows(lab, project),
    memoryRow('nothing to do, Debian', project.peakMemory('build')),
    ...memoryRows(project),
  ]
}

function rootPartition(lab: Lab, project: Project): Partition {
  const table = JSON.parse(lab.run('sfdisk', ['--json', project.path('base.raw')]).stdout).partitiontable
  const [only] = table.partitions
  return { start: only.start * 512, size: only.size * 512 }
}

function packageRows(lab: Lab, project: Project, plain: PlainRoot): Row[] {
  const samples = takeTurns(6, {
    layer: (round) => {
      project.layer(packages, packageScript(round))
      project.commit()
      lab.settle()
      return project.build('--no-flatten')
    },
    nothing: () => project.build('--no-flatten'),
    plain: () => {
      plain.reset()
      lab.settle()
      return plain.runScript(project.path(packages))
    },
  })
  const layer = least(samples.layer) - least(samples.nothing)
  return [
    ratioRow({
      what: `Layer: apt-get install ${wanted}`,
      measured: `build of that layer: ${ms(least(samples.layer))}, less ${ms(least(samples.nothing))} of the same build again`,
      comparedWith: `the script in a plain directory, chroot: ${ms(least(samples.plain))}`,
      value: layer / least(samples.plain),
      bound: 1.3,
      samples,
    }),
    sizeRow('that layer', project, plain),
  ]
}

function sizeRow(what: string, project: Project, plain: PlainRoot): Row {
  const snapshot: number = project.json('build', '--no-flatten').layers.at(-1).bytes
  const changed = plain.changedBytes()
  return ratioRow({
    what: `Size of ${what}`,
    measured: `snapshot: ${mb(snapshot)}`,
    comparedWith: `files made or changed: ${mb(changed)}`,
    value: snapshot / changed,
    bound: 1.25,
    samples: { snapshot: [snapshot], changed: [changed] },
  })
}

function editRows(lab: Lab, project: Project, plain: PlainRoot, partition: Partition): Row[] {
  for (let i = 1; i <= 200; i++)
    project.write(`${files}/files/${String(i).padStart(3, '0')}.conf`, `# ${'setting = value\n'.repeat(i)}`)
  const large = `${files}/files/large`
  project.write(large, randomBytes(50e6))
  project.layer(files, 'cp -R files /srv/')
  project.commit()
  project.build()
  plain.mark()
  const hand = new Hand(lab, project, files)
  const below = project.topSnapshot('--last', packages)
  const measure = (edit: (round: number) => void) =>
    takeTurns(7, {
      build: (round) => {
        edit(round)
        lab.settle()
        return project.build()
      },
      node: () => lab.bareNode(),
      copy: () => hand.copy(),
      overlay: () => hand.overlay(below, partition),
      convert: () => convert(lab, project.topSnapshot(), { replace: true }),
    })
  const row = (what: string, samples: ReturnType<typeof measure>): Row => {
    const parts = [samples.node, samples.copy, samples.overlay, samples.convert].map(least)
    const floor = parts.reduce((sum, part) => sum + part)
    return ratioRow({
      what,
      measured: `\`git vlb build\`, layer and image: ${ms(least(samples.build))}`,
      comparedWith: `its floor: ${parts.map(ms).join(' + ')} = ${ms(floor)}`,
      value: least(samples.build) / floor,
      bound: 1.25,
      samples,
    })
  }
  const rows = [
    row(
      "Last layer's script edited, to image",
      measure((round) => project.layer(files, `cp -R files /srv/ # ${round}`)),
    ),
    row(
      "Last layer's 50 MB replaced, to image",
      measure(() => project.write(large, randomBytes(50e6))),
    ),
  ]
  project.commit()
  plain.runScript(project.path(files))
  return [...rows, sizeRow('the layer with 50 MB', project, plain)]
}

function imageRows(lab: Lab, project: Project): Row[] {
  const write = () => {
    rmSync(project.image, { force: true })
    lab.settle()
    return project.build()
  }
  const samples = takeTurns(7, {
    sealed: () => {
      project.configure('seal: true\n')
      const seconds = write()
      project.configure(unsealed)
      return seconds
    },
    image: write,
    current: () => {
      // The first build after it flushes the image to disk, if the kernel has not done so yet.
      project.build()
      return project.build()
    },
    convert: () => convert(lab, project.topSnapshot()),
  })
  const before = project.identity(project.image)
  project.build()
  const { sealed, ...unsealedSamples } = samples
  const image = least(samples.image) - least(samples.current)
  return [
    ratioRow({
      what: 'Image of the Debian chain',
      measured: `build with the image to write: ${ms(least(samples.image))}, less ${ms(least(samples.current))} of the same build again`,
      comparedWith: `\`qemu-img convert -W -m 8\`: ${ms(least(samples.convert))}`,
      value: image / least(samples.convert),
      bound: 1.1,
      samples: unsealedSamples,
    }),
    secondsRow({
      what: 'Sealing that image',
      measured: `build with the image to write, sealed: ${ms(least(sealed))}`,
      comparedWith: `not sealed: ${ms(least(samples.image))}`,
      value: least(sealed) - least(samples.image),
      bound: undefined,
      samples: { sealed },
    }),
    factRow(
      'An image that is current is left alone',
      'inode, size and time of change before and after a build',
      '',
      before === project.identity(project.image),
    ),
  ]
}

function memoryRows(project: Project): Row[] {
  project.layer(packages, packageScript(0))
  const build = project.peakMemory('build', '--no-flatten')
  rmSync(project.image)
  return [memoryRow('apt and 50 MB layers built', build), memoryRow('image written', project.peakMemory('build'))]
}
