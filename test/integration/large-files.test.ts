// Files of a layer so large that git writes each by itself, beside small ones; and a base that lies in git.
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, inject } from 'vitest'
import { treeId } from '../../src/core/ids.ts'
import { materialise } from '../../src/git/materialise.ts'
import { openObjectsOfGit } from '../../src/git/objects.ts'
import { openRepository } from '../../src/git/repo.ts'
import { rigTest } from '../rig/rig.ts'

const mebibyte = 2 ** 20

rigTest('large and small files of a layer are what git holds, in whatever order', async (rig) => {
  const files = new Map<string, Buffer>()
  for (const [name, bytes] of [
    ['a', 10],
    ['b', 5 * mebibyte],
    ['c', 100],
    ['d', 4 * mebibyte],
    ['e', 6 * mebibyte + 1],
    ['f', 0],
    ['g', 4 * mebibyte - 1],
    ['sub/h', 5 * mebibyte],
    ['sub/i', 7],
  ] as const)
    files.set(name, randomBytes(bytes))
  rig.project({ '10_a': 'cd data && find . -type f | sort | xargs sha256sum >/sums; stat -c "%a %n" * sub/* >/modes' })
  for (const [name, content] of files) rig.write({ [`10_a/data/${name}`]: content })
  rig.tool('chmod', '755', rig.path('10_a/data/b'), rig.path('10_a/data/c'))
  rig.commit()
  await rig.ok('build')
  const sums = [...files].map(([name, content]) => `${createHash('sha256').update(content).digest('hex')}  ./${name}\n`)
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/sums')).toBe(sums.join(''))
  const executable = rig.readFromImage(image, '/modes').match(/^755 [a-z]$/gm)
  expect(executable).toEqual(['755 b', '755 c'])
})

rigTest('a file that cannot be had while a large one is written: one error, nothing left', async (rig) => {
  rig.project({ '10_a': 'true' })
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 12345\n`
  rig.write({ '10_a/large': randomBytes(30 * mebibyte), '10_a/pointer': pointer })
  rig.commit()
  const ran = await rig.vlb(['build'])
  expect(ran.code, ran.all).toBe(2)
  expect(ran.stderr).toContain('10_a/pointer is a Git LFS pointer')
})

rigTest(
  'files are written while others read with the same git; after an error in the middle, it still reads',
  async (rig) => {
    rig.project({ '10_a': 'true' })
    const contents = Array.from({ length: 40 }, (_, i) => randomBytes(i % 10 === 7 ? 4 * mebibyte + i : 200 * i))
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 12345\n`
    for (const [i, content] of contents.entries()) rig.write({ [`10_a/data/${i}`]: content })
    rig.write({ '20_b/a': 'a', '20_b/b': pointer, '20_b/c': 'c' })
    rig.commit()
    const repo = await openRepository(rig.repo)
    const signal = new AbortController().signal
    const objects = openObjectsOfGit(repo, {}, signal)
    const source = { repo, objects, env: {}, signal }
    const tree = (path: string) => treeId(rig.git('rev-parse', `HEAD:${path}`).trim())
    const readAll = async (path: string) => {
      for (const { name, oid } of await objects.tree(tree(path))) {
        if (path.endsWith('data')) expect((await objects.blob(oid)).equals(contents[Number(name)] as Buffer)).toBe(true)
        else expect(await objects.blob(oid)).toBeInstanceOf(Buffer)
      }
    }
    try {
      const written = rig.path('../written')
      await Promise.all([materialise(source, tree('10_a/data'), written, '10_a/data'), readAll('10_a/data')])
      for (const [i, content] of contents.entries())
        expect(readFileSync(join(written, String(i))).equals(content), String(i)).toBe(true)
      await expect(materialise(source, tree('20_b'), rig.path('../refused'), '20_b')).rejects.toThrow('LFS pointer')
      await readAll('20_b')
      await readAll('10_a/data')
    } finally {
      await objects.close()
    }
  },
)

rigTest('a large base that is tracked: whole before it is used, from another revision, too', async (rig) => {
  rig.project({ '10_a': 'echo a >/a' })
  rig.tool('cp', inject('tinyDisk'), rig.path('base.raw'))
  rig.write({ 'vlb.yaml': 'version: 1\nbase: { path: base.raw }\n', '.gitignore': '/build/\n' })
  rig.commit()
  const digest = createHash('sha256')
    .update(readFileSync(rig.path('base.raw')))
    .digest('hex')
  await rig.ok('build', 'HEAD', '--output', rig.path('../image.qcow2'))
  expect(readdirSync(rig.store('bases')).join()).toContain(digest)
  expect(rig.readFromImage(rig.path('../image.qcow2'), '/a')).toBe('a\n')
})

rigTest('a base in Git LFS: a revision has the base that its pointer names, or none', async (rig) => {
  rig.project({ '10_a': 'echo a >/a' })
  rig.tool('cp', inject('tinyDisk'), rig.path('base.raw'))
  rig.write({ 'vlb.yaml': 'version: 1\nbase: { path: base.raw }\n', '.gitignore': '/build/\n' })
  // What git-lfs makes of a file on its way into git.
  const pointer = `printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize 1\\n' "$(sha256sum | cut -d ' ' -f 1)"`
  rig.git('config', 'filter.lfs.clean', pointer)
  rig.write({ '.gitattributes': 'base.raw filter=lfs\n' })
  rig.commit()
  expect(rig.git('cat-file', 'blob', 'HEAD:base.raw')).toContain('git-lfs')
  expect(await rig.build()).toEqual(['10_a built'])
  const of = async (...args: string[]) =>
    (await rig.json('status', ...args)).layers.map((one: { key: string }) => one.key)
  expect(await of('HEAD')).toEqual(await of())
  expect(await rig.build('HEAD')).toEqual(['10_a cached'])
  rig.tool('truncate', '--size', '+1M', rig.path('base.raw'))
  const ran = await rig.vlb(['build', 'HEAD'])
  expect(ran.code).toBe(2)
  expect(ran.stderr).toMatch(/the base base.raw of HEAD lies in Git LFS, and another one is here[\s\S]*git lfs pull/)
})
