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
  const snapshots = project.json('status').layers.map(({ key }: { key: string }) => key)
  const samples = takeTurns(7, {
    diff: () => project.vlb(['diff', '10', '20', '--name-status']).seconds,
    // What every run takes that reads no disk.
    same: () => project.vlb(['diff', '20', '20']).seconds,
    find: () => walk(lab, project, snapshots),
  })
  const found = project.vlb(['diff', '10', '20', '--name-status']).stdout.split('\n').filter(Boolean)
  if (found.length !== files) throw new Error(`${found.length} files differ, instead of ${files}`)
  const { diff, same, find } = samples
  return [
    ratioRow({
      what: `Diff of 2 × ${folders * files} files, ${files} differ`,
      measured: `\`git vlb diff\`: ${ms(least(diff))}, of a snapshot with itself: ${ms(least(same))}`,
      comparedWith: `attaching, mounting and \`find -printf\`, one after the other: ${ms(least(find))}`,
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
  return project
}

function fill(root: string): void {
  for (let folder = 0; folder < folders; folder++) {
    mkdirSync(join(root, 'data', String(folder)), { recursive: true })
    for (let file = 0; file < files; file++)
      writeFileSync(join(root, 'data', String(folder), String(file)), `${folder} ${file}\n`.repeat(400))
  }
}

/** Both snapshots, one after the other, attached and mounted as git vlb does it: files are as cold as they are for a diff. */
function walk(lab: Lab, project: Project, snapshots: readonly string[]): number {
  const script = `set -e; place=$0
for snapshot; do
  : >"$place.disk"
  coproc daemon { exec qemu-storage-daemon --blockdev "driver=file,node-name=file,filename=$snapshot,read-only=on" \
    --blockdev driver=qcow2,node-name=disk,file=file,read-only=on \
    --export "type=fuse,id=disk,node-name=disk,mountpoint=$place.disk" --chardev stdio,id=c --monitor chardev=c; }
  exec {from}<&"\${daemon[0]}" {to}>&"\${daemon[1]}"
  read -r <&"$from"
  mount -o ro,loop,offset=1048576 "$place.disk" "$place"
  find "$place" -printf '%y %m %U %G %s %D %i %n\\0%P\\0%l\\0' >"$place.list"
  umount "$place"
  printf '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n' >&"$to"
  wait "$daemon_PID"
done`
  mkdirSync(lab.path('walk'), { recursive: true })
  const paths = snapshots.map((key) => project.path('.git/vlb/chain', `${key}.qcow2`))
  return lab.run('unshare', ['--mount', '--', 'bash', '-c', script, lab.path('walk'), ...paths]).seconds
}
