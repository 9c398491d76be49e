// What a build leaves in refs/notes/vlb: the record of its commit, and the package lists, for every clone that fetches it.
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const install = (name: string, version = '1.0') =>
  `mkdir -p /var/lib/dpkg && printf 'Package: ${name}\\nStatus: install ok installed\\nArchitecture: amd64\\nVersion: ${version}\\n\\n' >> /var/lib/dpkg/status`

// biome-ignore lint/suspicious/noExplicitAny: tests look into JSON of any shape
function records(rig: Rig, commit = 'HEAD'): any[] {
  const note = rig.git('notes', '--ref=vlb', 'show', commit).trim()
  return note.split('\n').map((line) => JSON.parse(line))
}

const tip = (rig: Rig) => rig.git('rev-parse', 'refs/notes/vlb').trim()
const hasNotes = (rig: Rig) => rig.git('for-each-ref', 'refs/notes').trim() !== ''

function simple(rig: Rig): void {
  rig.project({ '10_a': install('aa'), '20_b': 'echo b > /b' }, 'disk: { size: 64M }\n')
  rig.commit()
}

rigTest('a build of a clean commit leaves its record and package lists; nothing else in git moves', async (rig) => {
  simple(rig)
  rig.write({ untracked: '' })
  const state = () => [
    readFileSync(rig.path('.git/index')),
    readFileSync(rig.path('.git/HEAD')),
    rig.git('for-each-ref', 'refs/heads', 'refs/tags'),
    rig.git('status', '--porcelain'),
  ]
  const before = state()
  const built = await rig.json('build')
  expect(state()).toEqual(before)
  const [record, ...more] = records(rig)
  expect(more).toEqual([])
  expect(record).toMatchObject({
    vlb: 1,
    path: '',
    project: 'repo',
    engine: 1,
    base: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    image: { format: 'qcow2', sha256: built.image.sha256 },
  })
  expect(record.layers.map((l: { name: string; kind: string; key: string; contentId: string }) => l)).toMatchObject(
    built.layers.map(({ name, key, contentId }: Record<string, string>) => ({ name, key, contentId })),
  )
  expect(record.layers.map((l: { kind: string }) => l.kind)).toEqual(['disk', 'build-layer', 'build-layer'])
  expect(record.layers[1].tree).toBe(rig.git('rev-parse', 'HEAD:10_a').trim())
  const list = JSON.parse(rig.git('cat-file', 'blob', record.lists[record.layers[2].packages]))
  expect(list.packages).toEqual([{ name: 'aa', version: '1.0', arch: 'amd64' }])
  expect(rig.git('log', '--format=%an %cn', 'refs/notes/vlb'), 'without an identity of ours').toContain('git vlb')
  expect(rig.git('fsck', '--strict')).not.toMatch(/error|missing/)
})

rigTest('an unchanged record is not written again, and asking costs no process', async (rig) => {
  simple(rig)
  rig.git('config', 'user.name', 'Me Myself')
  rig.git('config', 'user.email', 'me@example.com')
  await rig.ok('build')
  expect(rig.git('log', '-1', '--format=%an <%ae>', 'refs/notes/vlb').trim()).toBe('Me Myself <me@example.com>')
  const first = tip(rig)
  const again = await rig.vlb(['build'], { env: { VLB_TRACE: '1' } })
  const commands = again.stderr.split('\n').filter((line) => /^\+? ?git /.test(line.trim()))
  expect(commands.map((line) => line.replace(/^\W*git( -\S+)* /, '').split(' ')[0]).sort()).toHaveLength(4)
  expect(again.stderr).not.toMatch(/notes|fast-import/)
  expect(tip(rig)).toBe(first)
  // Packed away by git, or deleted by its user.
  rig.git('pack-refs', '--all')
  await rig.ok('build')
  expect(tip(rig)).toBe(first)
  rig.git('update-ref', '-d', 'refs/notes/vlb')
  await rig.ok('build')
  expect(records(rig)).toHaveLength(1)
  const other = rig.git('notes', '--ref=vlb', 'show', 'HEAD')
  rig.git('notes', '--ref=vlb', 'remove', 'HEAD')
  await rig.ok('build')
  expect(rig.git('notes', '--ref=vlb', 'show', 'HEAD')).toBe(other)
  rmSync(rig.store('records'), { recursive: true })
  const last = tip(rig)
  await rig.ok('build')
  expect(tip(rig), 'what was remembered is lost, but the note is there').toBe(last)
})

rigTest('nothing is recorded of a working tree with changes, of half a chain, or when told not to', async (rig) => {
  simple(rig)
  await rig.ok('build', '--last', '10_a')
  await rig.ok('build', '--dry-run')
  rig.write({ '20_b/extra': '' })
  await rig.ok('build')
  rmSync(rig.path('20_b/extra'))
  const config = rig.read('vlb.yaml')
  writeFileSync(rig.path('vlb.yaml'), `${config}seal: false\n`)
  await rig.ok('build')
  writeFileSync(rig.path('vlb.yaml'), config)
  rmSync(rig.path('20_b'), { recursive: true })
  await rig.ok('build')
  expect(hasNotes(rig)).toBe(false)
  rig.git('checkout', '--quiet', '--', '.')
  rig.git('config', 'vlb.notes', 'false')
  await rig.ok('build')
  expect(hasNotes(rig)).toBe(false)
  rig.git('config', 'vlb.notes', 'true')
  await rig.ok('build')
  expect(records(rig)).toHaveLength(1)
})

rigTest('a revision that is not checked out is recorded, also in a bare repository', async (rig) => {
  simple(rig)
  rig.git('tag', 'v1')
  rig.write({ '20_b/more': 'x' })
  rig.commit()
  rig.write({ '20_b/more': 'dirty' })
  await rig.ok('build', 'v1', 'HEAD', '-j', '2')
  expect(records(rig, 'v1')[0].layers[2].key).not.toBe(records(rig)[0].layers[2].key)
  const bare = join(rig.folder, 'bare.git')
  rig.git('clone', '--quiet', '--bare', '.', bare)
  rig.tool('cp', rig.path('tiny.raw'), bare)
  const ran = await rig.vlb(['build', 'main'], { cwd: bare })
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr).not.toContain('warning')
  expect(rig.tool('git', '-C', bare, 'notes', '--ref=vlb', 'show', 'main')).toContain('"vlb":1')
})

rigTest('a repository of SHA-256 objects keeps records, too', async (rig) => {
  rmSync(rig.path('.git'), { recursive: true })
  rig.git('init', '--quiet', '--initial-branch=main', '--object-format=sha256')
  simple(rig)
  await rig.ok('build')
  const [record] = records(rig)
  const blob = record.lists[record.layers[2].packages]
  expect(blob).toMatch(/^[0-9a-f]{64}$/)
  expect(rig.git('cat-file', 'blob', blob)).toContain('"aa"')
})

rigTest('projects in folders of one repository each have their line; two builds at once lose none', async (rig) => {
  rig.project({})
  const names = ['a', 'b', 'c', 'd']
  for (const name of names) {
    rig.write({
      [`${name}/vlb.yaml`]: 'version: 1\nbase: { path: ../tiny.raw }\n',
      [`${name}/10_x/build-layer`]: `#!/bin/sh\n${install(name)}\n`,
    })
  }
  rmSync(rig.path('vlb.yaml'))
  rig.commit()
  const ran = await Promise.all(names.map((name) => rig.vlb(['build'], { cwd: rig.path(name) })))
  for (const one of ran) expect(one.all).not.toContain('warning')
  expect(records(rig).map(({ path, project }) => [path, project])).toEqual(names.map((name) => [name, name]))
  for (const record of records(rig)) {
    const [blob] = Object.values(record.lists)
    expect(rig.git('cat-file', 'blob', String(blob))).toContain(`"${record.path}"`)
  }
})

rigTest('a ref that cannot be written costs a warning, not the build', async (rig) => {
  simple(rig)
  writeFileSync(rig.path('.git/refs/notes'), 'in the way\n')
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.stderr.match(/warning/g)).toHaveLength(1)
  expect(ran.stderr).toContain('git config vlb.notes false')
  expect(readdirSync(rig.path('.git')).filter((name) => name.startsWith('fast_import'))).toEqual([])
  expect(statSync(rig.path('build/image.qcow2')).size).toBeGreaterThan(0)
})

rigTest('records that two clones made apart are merged by git, and everything in them stays', async (rig) => {
  simple(rig)
  rig.git('tag', 'v1')
  rig.write({ '20_b/build-layer': `#!/bin/sh\n${install('bb')}\n` })
  rig.commit()
  const clone = join(rig.folder, 'clone')
  rig.git('clone', '--quiet', '.', clone)
  rig.tool('cp', rig.path('tiny.raw'), clone)
  await rig.ok('build', 'v1')
  for (const args of [['build', 'v1'], ['build']]) {
    const ran = await rig.vlb(args, { cwd: clone })
    expect(ran.code, ran.all).toBe(0)
  }
  rig.git('fetch', '--quiet', clone, 'refs/notes/vlb:refs/notes/vlb-theirs')
  rig.git('notes', '--ref=vlb', 'merge', '--quiet', '--strategy=cat_sort_uniq', 'vlb-theirs')
  expect(records(rig), 'built there only').toHaveLength(1)
  expect(records(rig, 'v1').length, 'of both').toBe(2)
  const merged = tip(rig)
  await rig.ok('build', 'v1')
  expect(tip(rig), 'ours is among them').toBe(merged)
  await rig.ok('build')
  rig.git('notes', '--ref=vlb', 'append', '-m', 'a word of a person', 'v1')
  rig.git('notes', '--ref=vlb', 'prune')
  for (const record of [...records(rig)]) {
    for (const blob of Object.values(record.lists))
      expect(rig.git('ls-tree', '-r', 'refs/notes/vlb').replaceAll('/', '')).toContain(String(blob))
  }
  expect(existsSync(rig.path('.git/NOTES_MERGE_REF'))).toBe(false)
})

rigTest('who writes a note just then is not overwritten, nor is a lock of the ref a failure', async (rig) => {
  simple(rig)
  rig.git('config', 'user.name', 'Me')
  rig.git('config', 'user.email', 'me@example.com')
  const git = rig.tool('sh', '-c', 'command -v git').trim()
  const bin = join(rig.folder, 'bin')
  const lock = rig.path('.git/refs/notes/vlb.lock')
  rig.write({
    '../bin/git': `#!/bin/sh
case "$*" in *fast-import*)
  echo >>${bin}/calls
  case "$(wc -l <${bin}/calls)" in
    1) ${git} notes --ref=vlb append -m theirs HEAD 2>/dev/null ;;
    2) : >${lock} ;;
    3) rm ${lock} ;;
  esac ;;
esac
exec ${git} "$@"
`,
  })
  const ran = await rig.vlb(['build'], { env: { PATH: `${bin}:${process.env['PATH']}` } })
  expect(ran.code, ran.all).toBe(0)
  expect(ran.all).not.toContain('warning')
  expect(readFileSync(join(bin, 'calls'), 'utf8')).toBe('\n\n\n')
  const lines = rig.git('notes', '--ref=vlb', 'show').trim().split('\n')
  expect(lines).toEqual(['theirs', expect.stringContaining('"vlb":1')])
})
