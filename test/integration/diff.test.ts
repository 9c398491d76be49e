// What differs between two disks: every kind of change, by content, on every file system, and nothing of either disk changed.
import { createHash } from 'node:crypto'
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { disk } from '../rig/disk.ts'
import { type Rig, Running, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

const needs = ['root', 'fuse', 'loop', 'tool:mke2fs', 'tool:getfattr', 'tool:filefrag'] as const
const withAttributes = [...needs, 'tool:setfattr', 'tool:setcap', 'tool:setfacl'] as const

const statusLines = async (rig: Rig, ...args: string[]): Promise<string[]> =>
  (await rig.ok('diff', '--name-status', ...args)).split('\n').filter(Boolean)

const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

/** Everything in the store that is a disk. */
function disks(rig: Rig): string[] {
  return rig
    .tool('find', rig.store('snapshots'), rig.store('bases'), '-type', 'f')
    .split('\n')
    .filter((path) => /\.(qcow2|raw)$/.test(path))
    .sort()
    .map((path) => `${path} ${sha256(path)}`)
}

/** An image file whose root was changed by `prepare`. */
function image(rig: Rig, name: string, prepare: (root: string) => void): string {
  tinyDisk(rig.path(name), { prepare })
  return name
}

rigTest(
  'two snapshots of one chain: every kind of change a script can make, and the snapshots stay as they are',
  async (rig) => {
    rig.project({
      '10_a': `mkdir -p /d/kept; for n in same mode size content type gone target; do echo $n >/d/$n; done
echo moved >/d/old; ln /d/same /d/same2; ln -s a /d/link; mknod /d/node c 1 3; mkdir /d/dir
touch -d "2020-01-01 00:00" /d/content`,
      '20_b': `cd /d; chmod 4755 mode; echo more >>size; printf Content\\\\n >content; touch -d "2020-01-01 00:00" content
rm type gone dir -r; mkdir type; mv old new; rm link; ln -s b link; rm node; mknod node b 7 1; echo new >added; mkdir folder
rm same2; cp same same2; touch same kept`,
    })
    rig.commit()
    await rig.build('--no-flatten')
    const before = disks(rig)
    expect(await statusLines(rig, '10_a', '20_b')).toEqual(
      [
        'A\t/d/added',
        'M\t/d/content',
        'D\t/d/dir',
        'A\t/d/folder',
        'D\t/d/gone',
        'M\t/d/link',
        'M\t/d/mode',
        'R100\t/d/old\t/d/new',
        'T\t/d/node',
        'M\t/d/same2',
        'M\t/d/size',
        'T\t/d/type',
      ].sort((x, y) => ((x.split('\t').at(-1) ?? '') < (y.split('\t').at(-1) ?? '') ? -1 : 1)),
    )
    const changes = await rig.json('diff', '20_b^', '20_b')
    const of = (path: string) => changes.find((change: { path: string }) => change.path === path)
    const owned = { uid: 0, gid: 0 }
    expect(of('/d/mode')).toMatchObject({ what: ['mode'], before: { mode: '0644' }, after: { mode: '4755', ...owned } })
    const digest = (text: string) => createHash('sha256').update(text).digest('hex')
    expect(of('/d/content')).toEqual({
      path: '/d/content',
      change: 'changed',
      what: ['content'],
      before: { type: 'file', mode: '0644', ...owned, size: 8, sha256: digest('content\n') },
      after: { type: 'file', mode: '0644', ...owned, size: 8, sha256: digest('Content\n') },
    })
    expect(of('/d/link')).toMatchObject({ what: ['target'], before: { target: 'a' }, after: { target: 'b' } })
    expect(of('/d/node')).toMatchObject({
      what: ['type'],
      before: { type: 'char', device: '1:3' },
      after: { type: 'block', device: '7:1' },
    })
    expect(of('/d/same2')).toMatchObject({ what: ['link'], before: { link: '/d/same' } })
    expect(of('/d/same2').after.link).toBeUndefined()
    expect(of('/d/new')).toMatchObject({ change: 'renamed', from: '/d/old', before: { sha256: digest('moved\n') } })
    expect(of('/d/type')).toMatchObject({
      before: { type: 'file', sha256: digest('type\n') },
      after: { type: 'directory' },
    })
    expect(of('/d/gone')).toMatchObject({ change: 'removed', before: { sha256: digest('gone\n') }, after: null })
    expect(await rig.json('diff', '20_b', '20_b')).toEqual([])
    // The other way round, and by the other names there are.
    expect(await statusLines(rig, 'HEAD', 'main:10_a', '/d/folder')).toEqual(['D\t/d/folder'])
    expect(await rig.ok('diff', '10', '20', '/d/added')).toContain('+new\n')
    expect(await rig.ok('diff', '10^', '20', '/d')).not.toContain('+new\n')
    const { key } = (await rig.json('status')).layers[0]
    expect(await statusLines(rig, `${key.slice(0, 12)}..HEAD`, 'd/folder/')).toEqual(['A\t/d/folder'])
    expect(await rig.ok('diff')).toBe('')
    expect((await rig.vlb(['diff', '--exit-code', '10', '20'])).code).toBe(1)
    expect((await rig.vlb(['diff', '--exit-code', '20', 'HEAD'])).code).toBe(0)
    expect(disks(rig)).toEqual(before)
  },
  needs,
)

rigTest(
  'bytes changed behind the file system, with inode, size and times as they were, are found on one chain',
  async (rig) => {
    rig.project({
      '10_a': 'echo 0123-marker-4567 >/x; echo other >/y',
      '20_b': {
        'modify-disk': `#!/bin/sh
at=$(grep -abo 0123-marker-4567 "$3" | head -n 1 | cut -d: -f1)
printf 0123-MARKER-4567 | dd of="$3" bs=1 seek="$at" conv=notrunc 2>/dev/null
`,
      },
    })
    rig.commit()
    await rig.build('--no-flatten')
    expect(await rig.ok('diff', '10', '20')).toMatch(/^M {2}\/x {2}content\n$/)
  },
  needs,
)

rigTest(
  'image files: owners, attributes, capabilities, ACLs, and content of the same size and time; one that is not trusted is refused',
  async (rig) => {
    rig.project({ '10_a': ':' })
    rig.commit()
    const files = (root: string, text: string) => {
      for (const name of ['same', 'content', 'owner', 'user', 'cap', 'acl', 'data']) {
        writeFileSync(join(root, name), name === 'content' ? text : name === 'data' ? `\0${text}` : name)
        utimesSync(join(root, name), 1e9, 1e9)
      }
      mkdirSync(join(root, 'dir'))
      symlinkSync('x', join(root, 'sym'))
    }
    const a = image(rig, 'a.raw', (root) => {
      files(root, 'one\n')
      rig.tool('setfattr', '-n', 'user.a', '-v', 'old', join(root, 'user'))
    })
    const b = image(rig, 'b.raw', (root) => {
      files(root, 'two\n')
      chownSync(join(root, 'owner'), 7, 8)
      rig.tool('setfattr', '-n', 'user.a', '-v', 'new', join(root, 'user'))
      rig.tool('setfattr', '-n', 'user.with"\\quote', '-v', '', join(root, 'dir'))
      rig.tool('setcap', 'cap_net_raw+ep', join(root, 'cap'))
      rig.tool('setfacl', '-m', 'u:5:r', join(root, 'acl'))
    })
    const sums = [sha256(rig.path(a)), sha256(rig.path(b))]
    const changes = await rig.json('diff', a, b)
    const all = Object.fromEntries(changes.map((one: { path: string; what: string[] }) => [one.path, one.what.join()]))
    expect(all).toEqual({
      '/acl': 'xattr',
      '/cap': 'xattr',
      '/content': 'content',
      '/data': 'content',
      '/dir': 'xattr',
      '/owner': 'owner',
      '/user': 'xattr',
    })
    const of = (path: string) => changes.find((change: { path: string }) => change.path === path)
    expect(of('/owner').after).toMatchObject({ uid: 7, gid: 8 })
    expect(of('/user').before.xattrs).toEqual({ 'user.a': Buffer.from('old').toString('hex') })
    expect(of('/cap').after.xattrs['security.capability']).toMatch(/^01000002/)
    expect(Object.keys(of('/acl').after.xattrs)).toEqual(['system.posix_acl_access'])
    expect(await rig.ok('diff', a, b, '/content')).toBe(
      'diff --git a/content b/content\n--- a/content\n+++ b/content\n@@ -1 +1 @@\n-one\n+two\n',
    )
    expect(await rig.ok('diff', a, b, 'data')).toContain('Binary files a/data and b/data differ\n')
    // A qcow2 of the same disk has the same files; a snapshot on another base none of theirs.
    rig.tool('qemu-img', 'convert', '-O', 'qcow2', rig.path(a), rig.path('a.qcow2'))
    expect(await rig.ok('diff', a, 'a.qcow2')).toBe('')
    expect(await statusLines(rig, 'HEAD', 'a.qcow2')).toContain('A\t/cap')
    await rig.ok('build', '--no-flatten')
    expect(await rig.ok('diff', 'HEAD', 'build/image.qcow2')).toBe('')
    rig.tool('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', rig.path(a), rig.path('evil.qcow2'))
    const evil = await rig.vlb(['diff', 'HEAD', 'evil.qcow2'])
    expect([evil.code, evil.stderr]).toEqual([2, expect.stringContaining('evil.qcow2 names a backing file')])
    const daemon = new Running('qemu-storage-daemon', writerOf(rig, 'a.qcow2'), { cwd: rig.repo, env: rig.env })
    await expect.poll(() => existsSync(join(rig.folder, 'pid')), { timeout: 30_000 }).toBe(true)
    const busy = await rig.vlb(['diff', a, 'a.qcow2'])
    daemon.kill('SIGTERM')
    await daemon.ended
    expect([busy.code, busy.stderr]).toEqual([2, expect.stringContaining('a.qcow2 is in use')])
    expect([sha256(rig.path(a)), sha256(rig.path(b))]).toEqual(sums)
  },
  withAttributes,
)

rigTest(
  'names of any bytes are told apart, quoted as git does, and cannot speak to a terminal',
  async (rig) => {
    rig.project({ '10_a': ':' })
    rig.commit()
    const names = ['new\nline', '\u001b[31mred', 'tab\t"quote"\\', 'ünï', ' blank ', '-n', 'end']
    const a = image(rig, 'a.raw', () => {})
    const b = image(rig, 'b.raw', (root) => {
      mkdirSync(join(root, 'd'))
      for (const name of names) writeFileSync(join(root, 'd', name), name)
      writeFileSync(Buffer.concat([Buffer.from(join(root, 'd/')), Buffer.from([0xff, 0x41])]), 'x')
      writeFileSync(join(root, 'd/text'), 'a\u001b]0;title\u0007b\n')
      symlinkSync('to\n\u001b[0m', join(root, 'd/sym'))
    })
    const found = await statusLines(rig, a, b, '/d')
    expect(found).toEqual([
      'A\t/d',
      'A\t"/d/\\033[31mred"',
      'A\t/d/ blank ',
      'A\t/d/-n',
      'A\t/d/end',
      'A\t"/d/new\\nline"',
      'A\t/d/sym',
      'A\t"/d/tab\\t\\"quote\\"\\\\"',
      'A\t/d/text',
      'A\t/d/ünï',
      'A\t"/d/\\377A"',
    ])
    expect(await rig.ok('diff', a, b)).toContain('→ "to\\n\\033[0m"')
    const changes = await rig.json('diff', a, b, 'd')
    expect(changes.map((one: { path: string }) => one.path)).toContain('/d/new\nline')
    expect(changes.at(-1)).toMatchObject({ pathBytes: Buffer.from('2f642fff41', 'hex').toString('base64') })
    // As it is for another program, and not for a terminal.
    expect(await rig.ok('diff', a, b, '/d/text')).toContain('+a\u001b]0;title\u0007b\n')
    const shown = await inTerminal(rig, ['diff', a, b, '/d/text'], { GIT_PAGER: 'sed s/^/paged:/' })
    expect(shown).toContain('paged:')
    expect(shown).toContain('+a^[]0;title^Gb')
    expect(await inTerminal(rig, ['diff', a, b, '/d/text'], { GIT_PAGER: 'cat' })).not.toContain('paged:')
    expect(await inTerminal(rig, ['diff', a, b, '/d', '--name-status'], {})).not.toContain('\u001b[31mred')
  },
  [...needs, 'tool:script'],
)

/** Arguments for a daemon that has the image open to write to it, as a machine has that runs from it. */
function writerOf(rig: Rig, name: string): string[] {
  return [
    ...['--blockdev', `driver=file,node-name=file,filename=${name}`],
    ...['--blockdev', 'driver=qcow2,node-name=disk,file=file'],
    ...['--nbd-server', `addr.type=unix,addr.path=${join(rig.folder, 'socket')}`],
    ...['--export', 'type=nbd,id=disk,node-name=disk,writable=on'],
    // Written when the rest is done.
    ...['--pidfile', join(rig.folder, 'pid')],
  ]
}

/** What a terminal would get. */
async function inTerminal(rig: Rig, args: string[], env: Record<string, string>): Promise<string> {
  const quoted = `${rig.command} ${args.join(' ')}`
  const { execFileSync } = await import('node:child_process')
  return execFileSync('script', ['--quiet', '--return', '--command', quoted, '/dev/null'], {
    cwd: rig.repo,
    env: { ...rig.env, TERM: 'xterm', PAGER: 'cat', ...env },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

for (const fs of ['xfs', 'btrfs'] as const) {
  rigTest(
    `${fs}: two snapshots of one UUID, and two copies of one file system`,
    async (rig) => {
      rig.project({
        '10_a': 'echo one >/x; echo same >/y; head -c 300000 /dev/zero >/big',
        '20_b': 'echo two >/x; echo three >/z',
      })
      tinyDisk(rig.path('tiny.raw'), { fs })
      rig.commit()
      await rig.build()
      const before = disks(rig)
      expect(await statusLines(rig, '10', '20')).toEqual(['M\t/x', 'A\t/z'])
      expect(await rig.ok('diff', '10', '20', '/x')).toContain('-one\n+two\n')
      copyFileSync(rig.path('build/image.qcow2'), rig.path('copy.qcow2'))
      expect(await rig.ok('diff', 'copy.qcow2', 'build/image.qcow2')).toBe('')
      expect(await statusLines(rig, '10', 'copy.qcow2')).toEqual(['M\t/x', 'A\t/z'])
      expect(disks(rig)).toEqual(before)
    },
    [...needs, `tool:mkfs.${fs}`],
  )
}

rigTest(
  'other partitions are compared where the fstab mounts them, also if their mount points are missing',
  async (rig) => {
    rig.project({ '10_a': 'echo 2 >/boot/kernel; echo new >/srv/data/x', '20_b': ':' })
    const fill = (text: string) => (folder: string) => writeFileSync(join(folder, 'kernel'), text)
    const fstab = '/dev/vda2 /boot ext4 defaults 0 0\n/dev/vda3 /srv/data ext4 defaults 0 0\n'
    disk(rig.path('tiny.raw'), 'gpt', [
      { fs: 'ext4', mebibytes: 48, root: true, fill: (folder) => writeFileSync(join(folder, 'etc/fstab'), fstab) },
      { fs: 'ext4', mebibytes: 8, fill: fill('1\n') },
      { fs: 'ext4', mebibytes: 8 },
    ])
    rig.commit()
    await rig.build('--no-flatten')
    // On the base, the mount points are not there: they are made to look at it.
    const changes = await statusLines(rig, '10_a^', '10_a')
    expect(changes).toContain('M\t/boot/kernel')
    expect(changes).toContain('A\t/srv/data/x')
    expect(await rig.ok('diff', '10_a', '20_b')).toBe('')
  },
  needs,
)

rigTest(
  'a file system that was not unmounted is compared as the next boot would find it, and stays as it is',
  async (rig) => {
    rig.project({ '10_a': ':' })
    rig.commit()
    const a = image(rig, 'a.raw', (root) => writeFileSync(join(root, 'x'), 'a'.repeat(1024)))
    // A journal with one transaction that is not yet in its place: debugfs writes it as a crash would leave it.
    writeFileSync(join(rig.folder, 'block'), 'b'.repeat(1024))
    copyFileSync(rig.path(a), rig.path('b.raw'))
    const part = `${rig.path('b.raw')}?offset=${2 ** 20}`
    const block = rig.tool('debugfs', '-R', 'bmap /x 0', part).trim()
    const requests = join(rig.folder, 'requests')
    writeFileSync(requests, `jo\njw -b ${block} ${join(rig.folder, 'block')}\njc\n`)
    rig.tool('debugfs', '-w', '-f', requests, part)
    const sum = sha256(rig.path('b.raw'))
    expect(sum).not.toBe(sha256(rig.path(a)))
    const [change] = await rig.json('diff', a, 'b.raw', '/x')
    expect(change.after.sha256).toBe(createHash('sha256').update('b'.repeat(1024)).digest('hex'))
    expect(sha256(rig.path('b.raw'))).toBe(sum)
  },
  needs,
)

rigTest(
  'nothing of an image is followed or opened that is no regular file',
  async (rig) => {
    rig.project({
      '10_a': `mkdir /t; ln -s /etc/hostname /t/host; ln -s ../../../../../../etc /t/up; mknod /t/fifo p; mknod /t/zero c 1 5
ln -s / /t/loop; ln -s self /t/self`,
      '20_b': 'echo 1 >/t/1',
    })
    rig.commit()
    await rig.build('--no-flatten')
    expect(await statusLines(rig, '10_a^', '10_a')).toEqual(
      ['', '/fifo', '/host', '/loop', '/self', '/up', '/zero'].map((name) => `A\t/t${name}`),
    )
    expect(await statusLines(rig, '10', '20')).toEqual(['A\t/t/1'])
    // Links on the way are the image's, not the host's.
    expect(await statusLines(rig, '10', '20', '/t/loop/t/1')).toEqual(['A\t/t/loop/t/1'])
    expect((await rig.vlb(['diff', '10', '20', '/t/up/hostname'])).code).toBe(2)
    expect((await rig.vlb(['diff', '10', '20', '/t/self/x'])).code).toBe(2)
    expect((await rig.vlb(['diff', '10', '20', '../x'])).code).toBe(2)
  },
  needs,
)

rigTest(
  'killed at any moment it leaves nothing behind',
  async (rig) => {
    rig.project({ '10_a': 'mkdir /d; for i in $(seq 500); do echo $i >/d/$i; done', '20_b': 'rm -r /d' })
    rig.commit()
    await rig.build('--no-flatten')
    for (const [wait, signal] of [
      [0, 'SIGKILL'],
      [60, 'SIGKILL'],
      [120, 'SIGKILL'],
      [250, 'SIGKILL'],
      [60, 'SIGINT'],
    ] as const) {
      const running = rig.start(['diff', '10', '10^', '--json'])
      await expect
        .poll(() => rig.processes('runner.sh supervise').join(), { interval: 10, timeout: 30_000 })
        .not.toBe('')
      await delay(wait)
      running.kill(signal)
      const ended = await running.ended
      if (signal === 'SIGINT') expect([ended.code, ended.stdout.includes('VLB_INTERRUPTED')]).toEqual([130, true])
      expect(await rig.leaks()).toEqual([])
    }
  },
  needs,
)

rigTest('what cannot be compared is said, with what to do', async (rig) => {
  rig.project({ '10_a': ':' })
  rig.commit()
  await rig.build('--no-flatten')
  const refused = async (args: string[], code: string) => {
    const ran = await rig.vlb(['diff', ...args, '--json'])
    expect([ran.code, JSON.parse(ran.stdout).error]).toEqual([
      2,
      { code, message: expect.any(String), hint: expect.any(String) },
    ])
    return JSON.parse(ran.stdout).error.message as string
  }
  expect(await refused(['nothing'], 'VLB_LAYER_UNKNOWN')).toContain('"nothing" is no image file, no layer')
  await refused(['HEAD:99'], 'VLB_LAYER_UNKNOWN')
  await refused(['gone:10'], 'VLB_REV')
  await refused(['10^', '10', '/no/such'], 'VLB_PATH_UNKNOWN')
  await refused(['HEAD..HEAD', '/', 'x'], 'VLB_USAGE')
  await refused(['vlb.yaml', 'HEAD'], 'VLB_BASE_FORMAT')
})
