// Files of a layer so large that git writes each by itself, beside small ones.
import { createHash, randomBytes } from 'node:crypto'
import { expect } from 'vitest'
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
