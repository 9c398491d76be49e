// What two snapshots of one chain are found to differ in, where inodes and written blocks say what need not be looked at: the
// same as between two disks of which nothing is known, whatever the file system, and whoever changed it.
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'
import { makeRoot, tinyDisk } from '../rig/tiny-disk.ts'

const needs = ['root', 'fuse', 'loop', 'tool:mke2fs', 'tool:debugfs', 'tool:setfattr', 'tool:getfattr'] as const

const modify = (script: string) => ({ 'modify-disk': `#!/bin/sh\nset -eu\n${script}\n` })

interface Change {
  path: string
  what: string[]
}

/** Compares two layers as snapshots of one chain, and as images that are of none: with equal results. */
async function bothWays(rig: Rig, from: string, to: string): Promise<Change[]> {
  const { layers } = await rig.json('status')
  const image = (layer: string) => {
    const { key } = layers.find(({ name }: { name: string }) => name === layer)
    const raw = rig.path(`${layer}.raw`)
    rig.tool('qemu-img', 'convert', '-O', 'raw', rig.path('.git/vlb/chain', `${key}.qcow2`), raw)
    return raw
  }
  const [known, unknown] = [await rig.json('diff', from, to), await rig.json('diff', image(from), image(to))]
  expect(known).toEqual(unknown)
  return known
}

const told = (changes: Change[]) => Object.fromEntries(changes.map(({ path, what }) => [path, what.join()]))

// A file of pieces with holes between, so that its extents have no room in the inode.
const pieces = (name: string) =>
  `for i in 0 2 4 6 8 10 12; do echo ${name}-$i | dd of=/d/${name} bs=4096 seek=$i conv=notrunc 2>/dev/null; done\n`

/** Changes bytes of the disk in place, wherever they are: the journal may hold a copy. */
const patch = (from: string, to: string) =>
  `grep -abo -e ${from} "$3" | while IFS=: read -r at _; do printf ${to} | dd of="$3" bs=1 seek="$at" conv=notrunc 2>/dev/null; done\n`

rigTest(
  'what a script changes, and what is changed with the disk unmounted',
  async (rig) => {
    const attributes = (value: string) =>
      modify(`mount -t ext4 "$VLB_PARTITION_1" root
setfattr -n user.small -v ${value} root/d/small
setfattr -h -n trusted.on-link -v ${value} root/d/link
setfattr -n user.large -v "${value}$(head -c 900 /dev/zero | tr '\\0' x)" root/d/large
setfattr -n user.kept -v kept root/d/kept
umount root`)
    rig.project({
      '10_a': `mkdir /d; cd /d; for n in same content mode small large kept bystander replaced one other; do echo $n-$n-$n >$n; done
ln same same2; ln -s x link; touch -d "2020-01-01 00:00" content; mkdir dir; echo first >p; echo second >q
${pieces('scattered')}${pieces('quiet')}`,
      '20_before': attributes('old'),
      '30_b': `cd /d; printf CONTENT >content; echo >>content; printf content-content-content\\\\n | tr a-z A-Z >content
touch -d "2020-01-01 00:00" content; chmod 600 mode; rm replaced; printf replaced-Replaced-replaced\\\\n >replaced
mv p t; mv q p; mv t q; ln other other2; rm same2; echo same-same-same >same2; chmod 700 dir; mv one uno
printf Scattered | dd of=scattered bs=4096 seek=12 conv=notrunc 2>/dev/null`,
      '40_after': attributes('new'),
    })
    rig.write({ '20_before/root/keep': '', '40_after/root/keep': '' })
    rig.commit()
    await rig.build('--no-flatten')
    expect(told(await bothWays(rig, '20_before', '40_after'))).toEqual({
      '/d/content': 'content',
      '/d/dir': 'mode',
      '/d/large': 'xattr',
      '/d/link': 'xattr',
      '/d/mode': 'mode',
      '/d/other2': '',
      '/d/p': 'size,content',
      '/d/q': 'size,content',
      '/d/replaced': 'content',
      '/d/same2': 'link',
      '/d/scattered': 'content',
      '/d/small': 'xattr',
      '/d/uno': '',
    })
  },
  needs,
)

rigTest(
  'what is changed behind the file system: content, a long symlink, attributes, and which blocks an inode names',
  async (rig) => {
    const long = 'far/'.repeat(30)
    const edit = (requests: string) => `root=$(vlb-partition 1)\n${requests}`
    rig.project({
      '10_a': `mkdir /d; cd /d; echo quiet-content >quiet; echo plain-content >plain; echo mark-content >marked; echo same >same
ln -s ${long}plain-target long; ln -s ${long}quiet-target still; echo swap-1 >one; echo swap-2 >two; echo tagged >tagged
${pieces('scattered')}`,
      '20_b': modify(
        `${patch('plain-content', 'PLAIN-CONTENT')}${patch('scattered-12', 'SCATTERED-12')}${patch('plain-target', 'PLAIN-TARGET')}`,
      ),
      '30_c': modify(
        edit(`block=$(debugfs -R "bmap /d/two 0" "$root" 2>/dev/null)
debugfs -w -R "sif /d/one block[5] $block" "$root"
debugfs -w -R "ea_set /d/tagged user.tag $(head -c 900 /dev/zero | tr '\\0' t)" "$root"`),
      ),
      '40_d': modify(edit(`debugfs -w -R "ea_set /d/tagged user.tag $(head -c 900 /dev/zero | tr '\\0' T)" "$root"`)),
    })
    rig.commit()
    await rig.build('--no-flatten')
    expect(told(await bothWays(rig, '10_a', '20_b'))).toEqual({
      '/d/long': 'target',
      '/d/plain': 'content',
      '/d/scattered': 'content',
    })
    const changed = await bothWays(rig, '20_b', '30_c')
    expect(told(changed)).toEqual({ '/d/one': 'content', '/d/tagged': 'xattr' })
    expect(told(await bothWays(rig, '30_c', '40_d'))).toEqual({ '/d/tagged': 'xattr' })
  },
  needs,
)

for (const features of [
  'bigalloc',
  '^64bit,^extents',
  'inline_data,^metadata_csum',
  'meta_bg,^resize_inode',
  '^64bit,^metadata_csum',
  'ea_inode',
])
  rigTest(
    `a file system made with -O ${features}`,
    async (rig) => {
      rig.project({
        '10_a': 'mkdir /d; cd /d; for n in patched small mode same; do echo $n-content >$n; done; echo large >large',
        '20_b': modify(`${patch('patched-content', 'PATCHED-CONTENT')}
mount -t ext4 "$VLB_PARTITION_1" root; setfattr -n user.a -v a root/d/large; umount root`),
        '30_c': 'cd /d; chmod 600 mode; printf SMALL-content\\\\n >small',
      })
      const root = join(rig.folder, 'files')
      makeRoot(root)
      tinyDisk(rig.path('tiny.raw'), {})
      const made = ['-q', '-F', '-t', 'ext4', '-O', features, '-E', `offset=${2 ** 20}`, '-d', root]
      rig.tool('mke2fs', ...made, rig.path('tiny.raw'), '48M')
      rig.write({ '20_b/root/keep': '' })
      rig.commit()
      await rig.build('--no-flatten')
      expect(told(await bothWays(rig, '10_a', '20_b'))).toEqual({ '/d/large': 'xattr', '/d/patched': 'content' })
      expect(told(await bothWays(rig, '20_b', '30_c'))).toEqual({ '/d/mode': 'mode', '/d/small': 'content' })
    },
    needs,
  )
