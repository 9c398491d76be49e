// Two snapshots of 30 000 files of which 100 differ: what is read beyond a walk through both.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tinyDisk } from '../rig/tiny-disk.ts'
import type { Lab, Project } from './lab.ts'
import { least, memoryRow, ms, type Row, ratioRow, takeTurns } from './row.ts'

const folders = 300
const files = 100

export function diffRows(lab: Lab): Row[] {
  const project = manyFiles(lab)
  const samples = takeTurns(7, {
    diff: () => project.vlb(['diff', '10', '20', '--name-status']).seconds,
    // What every run takes that reads no disk.
    same: () => project.vlb(['diff', '20', '20']).seconds,
    find: () => walk(lab),
  })
  const found = project.vlb(['diff', '10', '20', '--name-status']).stdout.split('\n').filter(Boolean)
  if (found.length !== files) throw new Error(`${found.length} files differ, instead of ${files}`)
  const { diff, same, find } = samples
  return [
    ratioRow({
      what: `Diff of 2 × ${folders * files} files, ${files} differ`,
      measured: `\`git vlb diff\`: ${ms(least(diff))}, of a snapshot with itself: ${ms(least(same))}`,
      comparedWith: `\`find -printf\` on both, mounted from raw files: ${ms(least(find))}`,
      value: (least(diff) - least(same)) / least(find),
      bound: 1.5,
      samples,
    }),
    memoryRow(`diff of 2 × ${folders * files} files`, project.peakMemory('diff', '10', '20')),
  ]
}

function manyFiles(lab: Lab): Project {
  const base = lab.path('many.raw')
  tinyDisk(base, { mebibytes: 400, prepare: fill })
  const project = lab.project('many').start(base)
  project.layer('10_same', 'echo >/same')
  project.layer('20_change', `for i in $(seq 0 ${files - 1}); do echo x >/data/$i/$i; done`)
  project.commit()
  project.build('--no-flatten')
  const list = (layer: string) => project.json('status').layers.find((one: { name: string }) => one.name === layer).key
  for (const [name, layer] of [
    ['a', '10_same'],
    ['b', '20_change'],
  ] as const) {
    const snapshot = project.path('.git/vlb/chain', `${list(layer)}.qcow2`)
    lab.run('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', snapshot, lab.path(`many-${name}.raw`)])
  }
  return project
}

function fill(root: string): void {
  for (let folder = 0; folder < folders; folder++) {
    mkdirSync(join(root, 'data', String(folder)), { recursive: true })
    for (let file = 0; file < files; file++)
      writeFileSync(join(root, 'data', String(folder), String(file)), `${folder} ${file}\n`.repeat(400))
  }
}

/** Mounted anew each time, so that the file system is as cold as it is for a diff. */
function walk(lab: Lab): number {
  const script = `for f; do
  mount -o ro,loop,offset=1048576 "$f" "$0" || exit
  find "$0" -printf '%y %m %U %G %s %D %i %n\\0%P\\0%l\\0' >"$0.list" || exit
  umount "$0" || exit
done`
  mkdirSync(lab.path('walk'), { recursive: true })
  const disks = [lab.path('many-a.raw'), lab.path('many-b.raw')]
  return lab.run('unshare', ['--mount', 'sh', '-c', script, lab.path('walk'), ...disks]).seconds
}
