// Rules of this repository that no compiler and no linter sees.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build, type Metafile } from 'esbuild'
import { beforeAll, describe, expect, test } from 'vitest'
import { errorCodes } from '../../src/core/errors.ts'
import { bundleOptions, root } from '../bundle-options.mjs'

test('git-vlb(1) lists every error code, with its exit status and what it means', () => {
  const page = readFileSync(join(root, 'docs/git-vlb.1.md'), 'utf8')
  const section = page.split('\n## ERRORS\n')[1]?.split('\n## ')[0] ?? ''
  const listed = [...section.matchAll(/^- `(VLB_[A-Z_]+)` ([0-9, ]+): [^\n]+\.$/gm)].map((m) => [m[1], m[2]])
  const known = Object.entries(errorCodes).map(([code, status]) => [code, String(status)])
  // Two that are no VlbError: what main makes of a signal and of a bug.
  known.push(['VLB_INTERRUPTED', '129, 130, 131, 143'], ['VLB_BUG', '70'])
  expect(listed.sort()).toEqual(known.sort())
  const statuses = page.split('\n## EXIT STATUS\n')[1]?.split('\n## ')[0] ?? ''
  for (const status of new Set(known.flatMap(([, text]) => (text ?? '').split(', '))))
    expect(statuses, `exit status ${status}`).toContain(`\`${status}\``)
})

describe('the bundle', () => {
  let outputs: Metafile['outputs']
  beforeAll(async () => {
    outputs = (await build(bundleOptions)).metafile.outputs
  })

  /** All that is loaded together with a chunk: its own inputs, and those of what it imports statically. */
  function loadedWith(chunk: string, seen = new Set<string>()): string[] {
    if (seen.has(chunk)) return []
    seen.add(chunk)
    const { inputs, imports } = outputs[chunk] ?? { inputs: {}, imports: [] }
    const next = imports.filter(({ kind, external }) => kind === 'import-statement' && !external)
    return [...Object.keys(inputs), ...next.flatMap(({ path }) => loadedWith(path, seen))]
  }

  const packageOf = (input: string) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1]
  const packagesOf = (chunk: string) => [
    ...new Set(
      loadedWith(chunk)
        .map(packageOf)
        .filter((name) => name !== undefined),
    ),
  ]
  const chunkOf = (source: string) =>
    Object.keys(outputs).find((path) => outputs[path]?.entryPoint === source) ?? source

  test('the program starts without anything heavy', () => {
    expect(packagesOf('dist/main.mjs')).toEqual(['commander'])
  })

  test('and it is all in there, loaded when it is wanted', () => {
    const everything = new Set(Object.values(outputs).flatMap(({ inputs }) => Object.keys(inputs).map(packageOf)))
    for (const name of ['execa', 'isomorphic-git', 'simple-git', 'yaml', 'undici', 'log-update'])
      expect(everything, name).toContain(name)
  })

  test('what a status reads a project with loads neither downloads nor what changes repositories', () => {
    const packages = packagesOf(chunkOf('src/build/status.ts'))
    expect(packages).toContain('lru-cache')
    for (const name of ['isomorphic-git', 'yaml', 'simple-git', 'undici', 'log-update'])
      expect(packages).not.toContain(name)
  })

  test('a log-update is loaded for terminals alone', () => {
    const users = Object.keys(outputs).filter(
      (path) => packagesOf(path).includes('log-update') && outputs[path]?.entryPoint,
    )
    expect(users.map((path) => outputs[path]?.entryPoint)).toEqual(['src/report/terminal.ts'])
  })
})

test('docs/reliability.md names tests that are there', () => {
  const page = readFileSync(join(root, 'docs/reliability.md'), 'utf8')
  const sources = (name: string) =>
    ['integration', 'e2e']
      .map((folder) => join(root, 'test', folder, name))
      .filter((path) => existsSync(path))
      .map((path) => readFileSync(path, 'utf8'))
      .join('\n')
  let named = 0
  for (const [, file = '', names = ''] of page.matchAll(/`([\w-]+\.test\.ts)`((?: ?"[^"\n]+",?)*)/g)) {
    const text = sources(file)
    expect(text, file).not.toBe('')
    for (const [, name = ''] of names.matchAll(/"([^"]+)"/g)) {
      expect(text, `${file}: ${name}`).toContain(name)
      named++
    }
  }
  expect(named).toBeGreaterThan(50)
})
