// What there is to complete comes from the man pages.
import { describe, expect, test } from 'vitest'
import { completedOptions, completedVerbs, fixedWords } from '../../../src/commands/completion-words.ts'
import { overview, verbs } from '../../../src/commands/table.ts'

const all = completedVerbs(verbs)
const verb = (name: string) => all.find((one) => one.name === name)
const option = (name: string, flag: string) => verb(name)?.options.find(({ names }) => names.includes(flag))

test('every verb, with its summary', () => {
  expect(all.map(({ name }) => name)).toEqual(verbs.map(({ name }) => name))
  for (const { summary } of all) expect(summary).not.toBe('')
})

test('options: names, values, what they are', () => {
  expect(option('build', '-o')?.names).toEqual(['-o', '--output'])
  expect(option('build', '--last')?.value?.offers).toEqual(['layers'])
  expect(option('build', '--rebuild')?.repeatable).toBe(true)
  expect(option('build', '--sbom')?.value?.offers).toEqual(['files'])
  expect(option('build', '--frozen')?.value).toBeUndefined()
  expect(option('build', '--format')?.value?.words).toEqual(['qcow2', 'raw', 'vmdk', 'vdi', 'vhdx', 'vpc', 'ova'])
  expect(option('build', '--compress')?.value?.words).toEqual(['none', 'zlib', 'zstd'])
  expect(option('init', '--template')?.value?.words).toEqual(['debian', 'busybox', 'url'])
  expect(completedOptions(overview).flatMap(({ names }) => names)).toContain('--json')
})

test('operands: revisions, layers, or words that the page lists', () => {
  expect(verb('build')?.operands).toEqual([{ name: 'REV', offers: ['revisions'], words: [], repeatable: true }])
  expect(verb('shell')?.operands[0]?.offers).toEqual(['layers', 'revisions'])
  expect(verb('hooks')?.operands[0]?.words).toEqual(['install', 'uninstall', 'status'])
  expect(verb('completion')?.operands[0]?.words).toEqual(['bash', 'zsh', 'fish'])
})

describe('words that a description lists', () => {
  test.each([
    ['none, zlib or zstd; for qcow2.', ['none', 'zlib', 'zstd']],
    ['md (for people) or json. Default: md.', ['md', 'json']],
    ['Which one: a (the default), b, or c (c, too).', ['a', 'b', 'c']],
    ['Where or when.', []],
    ['the path of a file or folder', []],
    ['A value for the layers.', []],
  ])('%s', (text, words) => {
    expect(fixedWords(text)).toEqual(words)
  })
})
