// Layer folders as people have them for vm-layer-builder, of the shape of its own examples: a disk that is made, connected
// and grown by the script, an update, and a layer that is never cached and brings files.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

const resize = `#!/bin/bash
set -e
if [ $# != 3 ]; then echo "give a source, a target and a device" >&2; exit 1; fi
from=$1 to=$2 dev=$3
qemu-img create -f qcow2 -o compat=0.10 -b "$from" "$to" 200M
qemu-nbd --connect="$dev" "$to"
trap 'qemu-nbd --disconnect "$dev"' EXIT
sleep 1
growpart "$dev" 1
flock --nonblock "$dev" true
e2fsck -y -f "\${dev}p1"
resize2fs -f "\${dev}p1"
`

const folders = {
  '05_resize/modify-disk': resize,
  '10_update/build-layer': '#!/bin/sh\n\nyum -y update\n',
  '20_another/build-layer': `#!/bin/sh

# nocache (this hint tells vm-layer-builder to not cache the layer)

touch /here

cp -a dir /
`,
  '20_another/dir/file': 'hello',
}

/** Stands in the image for the package manager of a distribution. */
const yum = '#!/bin/sh\necho "yum $*" >>/updated\n'

for (const table of ['dos', 'gpt'] as const) {
  rigTest(
    `its example folders build as they are (${table})`,
    async (rig) => {
      tinyDisk(rig.path('tiny.raw'), {
        table,
        prepare: (root) => writeFileSync(join(root, 'bin/yum'), yum, { mode: 0o755 }),
      })
      rig.write({
        'vlb.yaml': 'version: 1\nbase: { path: tiny.raw }\n',
        '.gitignore': '/build/\n/tiny.raw\n',
        ...folders,
      })
      rig.commit()
      expect(await rig.build()).toEqual(['05_resize built', '10_update built', '20_another built'])
      expect(await rig.build()).toEqual(['05_resize cached', '10_update cached', '20_another built'])
      expect(await rig.ok('log', '05_resize')).toMatch(/CHANGED: partition=1 [\s\S]*is now \d+ /)

      const image = rig.path('build/image.qcow2')
      expect(rig.readFromImage(image, '/updated')).toBe('yum -y update\n')
      expect(rig.readFromImage(image, '/dir/file')).toBe('hello')
      expect(rig.debugfs(image, 'stat /here')).toContain('Type: regular')
      const stats = rig.debugfs(image, 'stats -h')
      const [blocks = 0, size = 0] = ['Block count', 'Block size'].map((name) =>
        Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(stats)?.[1]),
      )
      expect(blocks * size).toBeGreaterThan(190 * 2 ** 20)
      const raw = join(rig.folder, 'x.raw')
      rig.tool('qemu-img', 'convert', '-O', 'raw', image, raw)
      rig.tool('sfdisk', '--verify', raw)
      expect(readFileSync(raw).length).toBe(200 * 2 ** 20)
    },
    ['root', 'fuse', 'loop', 'tool:busybox', 'tool:mke2fs', 'tool:growpart'],
  )
}

rigTest('what is not about TARGET and DEVICE goes to the real programs', async (rig) => {
  rig.project({
    '10_a': {
      'modify-disk': `#!/bin/bash
set -e
qemu-img create -q -f qcow2 "$TMPDIR/other" 7M
qemu-img info "$TMPDIR/other" | grep 'virtual size'
qemu-nbd --version | head -n 1
partx --show --output SIZE --noheadings --bytes "$3" | head -n 1 | grep -c .
qemu-img resize "$2" +10M
qemu-img create -f qcow2 -b "$1" "$2" 1M 2>&1 || echo "status $?"
cat "$3"p1 | head -c 1 | wc -c; ls "$(dirname "$3")"
`,
    },
  })
  rig.commit()
  await rig.build()
  const log = await rig.ok('log', '10_a')
  expect(log).toMatch(/virtual size: 7 MiB[\s\S]*qemu-nbd \d/)
  expect(log).toContain('vlb-resize: a disk can only grow\nstatus 1\n1\n')
})
