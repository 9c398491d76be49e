// The steps of a build as somebody would type them who keeps no cache, checks nothing and never cleans up: the floor of
// what an edited layer costs on the way to an image.
import { mkdirSync, rmSync } from 'node:fs'
import type { Lab, Project } from './lab.ts'
import { chrootScript, namespaces } from './plain.ts'

// What git holds of the layer as it is now: changed files hashed, all of them written to a folder.
const copyScript = `set -eu
cd "$1"
cp .git/index "$3/index"
export GIT_INDEX_FILE=$3/index GIT_OBJECT_DIRECTORY=$3/objects GIT_ALTERNATE_OBJECT_DIRECTORIES=$1/.git/objects
mkdir "$3/objects"
git -c core.looseCompression=0 add "$2"
git ls-files -z "$2" | git checkout-index -z --stdin "--prefix=$3/files/"`

const overlayScript = `set -eu
work=$1 below=$2 start=$3 size=$4 source=$5
qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k -F qcow2 -b "$below" "$work/layer.qcow2"
mount -t tmpfs tmpfs /mnt
mkdir /mnt/root
: >/mnt/disk
coproc qemu-storage-daemon --blockdev "driver=file,node-name=file,filename=$work/layer.qcow2,cache.no-flush=on,discard=unmap" \\
  --blockdev driver=qcow2,node-name=disk,file=file,cache.no-flush=on,discard=unmap \\
  --export type=fuse,id=disk,node-name=disk,mountpoint=/mnt/disk,writable=on \\
  --chardev stdio,id=control --monitor chardev=control
read -r -u "\${COPROC[0]}"
mount -o "loop,offset=$start,sizelimit=$size,noatime,discard" /mnt/disk /mnt/root
unshare --mount --pid --fork sh -c '@CHROOT@' sh /mnt/root "$source"
umount /mnt/root
printf '{"execute":"qmp_capabilities"}\\n{"execute":"quit"}\\n' >&"\${COPROC[1]}"
wait "$COPROC_PID"`

export class Hand {
  readonly #lab: Lab
  readonly #project: Project
  readonly #layer: string
  readonly #work: string

  constructor(lab: Lab, project: Project, layer: string) {
    this.#lab = lab
    this.#project = project
    this.#layer = layer
    this.#work = lab.path('hand')
  }

  /** Seconds until git has read the layer's folder and written a copy of it. */
  copy(): number {
    rmSync(this.#work, { recursive: true, force: true })
    mkdirSync(this.#work)
    this.#lab.settle()
    return this.#lab.run('sh', ['-c', copyScript, 'sh', this.#project.folder, this.#layer, this.#work]).seconds
  }

  /** Seconds that the layer's script takes on an overlay on `below`, with making, attaching and detaching it. */
  overlay(below: string, partition: { start: number; size: number }): number {
    this.#lab.settle()
    const place = [String(partition.start), String(partition.size)]
    const script = overlayScript.replace('@CHROOT@', () => chrootScript.replaceAll("'", "'\\''"))
    const source = `${this.#work}/files/${this.#layer}`
    return this.#lab.run('unshare', [...namespaces, 'bash', '-c', script, 'bash', this.#work, below, ...place, source])
      .seconds
  }
}
