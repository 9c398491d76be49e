// What is put into hooks, and that it comes out again.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  findBlock,
  hookBlock,
  kindOf,
  replaceFirstLine,
  sameBlock,
  shellQuoted,
  unwrappedLine,
  withBlock,
  withoutBlock,
  wrappedLine,
} from '../../../src/core/hooks.ts'

const parts = { script: '# why\nset +eu\n\nexit 0\n', node: "/o'dd $(x)/node", main: '/m', projects: ['.', "it's ü"] }
const blockFor = (flags: Parameters<typeof hookBlock>[2]) => hookBlock('post-merge', parts, flags)

test('whatever shell script it is put into comes out as it was', () => {
  const text = fc.array(fc.constantFrom('#!/bin/sh', '\n', 'exit 0', '# <<<', '\r', '$&', 'é')).map((a) => a.join(''))
  fc.assert(
    fc.property(text, (content) => {
      const installed = withBlock(content, blockFor)
      const found = findBlock(installed, 'hook')
      expect(found && withoutBlock(installed, found)).toBe(content)
    }),
  )
})

test('a block tells its projects and how it is there', () => {
  const found = findBlock(`#!/bin/sh\n${blockFor(['new-file', 'new-folder'])}`, 'hook')
  expect([found?.projects, found?.flags]).toEqual([parts.projects, ['new-file', 'new-folder']])
  expect(found && withoutBlock(`#!/bin/sh\n${found.text}`, found)).toBeUndefined()
  expect(blockFor([])).not.toContain('# why')
})

test('blocks differ by what they do, not by where the program is', () => {
  const moved = hookBlock('post-merge', { ...parts, node: '/other', main: "/el'se" }, [])
  expect(sameBlock(blockFor([]), moved)).toBe(true)
  expect(sameBlock(blockFor([]), hookBlock('post-merge', { ...parts, script: 'exit 1\n' }, []))).toBe(false)
})

describe('what takes a block, and what only another first line', () => {
  test.each([
    ['#!/bin/sh\n', 'shell'],
    ['#! /bin/bash -eu\n', 'shell'],
    ['#!/usr/bin/env sh', 'shell'],
    ['#!/usr/bin/env dash\n', 'shell'],
    ['echo without\n', 'shell'],
    ['', 'shell'],
    ['#!/usr/bin/env python3\n', 'script'],
    ['#!/usr/bin/perl -w\n', 'script'],
    ['#!/bin/zsh\n', 'script'],
    ['#!/usr/bin/env -S node --no-warnings\n', 'script'],
    ['#!  /usr/bin/python3\n', 'other'],
    ['#!/bin/sh\r\n', 'other'],
    [`#!/opt/${'x'.repeat(240)}/python\n`, 'other'],
    ['#!/usr/bin/perl "-w"\n', 'other'],
    ['\x7fELF\0\0', 'other'],
  ] as const)('%j: %s', (content, kind) => {
    expect(kindOf(content)).toBe(kind)
  })

  test.each(['#!/usr/bin/env python3', '#!/usr/bin/perl -w', '#!/bin/zsh', '#!/usr/bin/env -S node -r x'])(
    '%s comes back as it was',
    (line) => {
      const wrapped = wrappedLine(line) ?? ''
      expect(wrapped).toContain('git-vlb')
      expect(unwrappedLine(wrapped)).toBe(line)
      expect(wrappedLine(wrapped)).toBeUndefined()
      expect(replaceFirstLine(replaceFirstLine(`${line}\nrest`, wrapped), line)).toBe(`${line}\nrest`)
    },
  )
})

test('quoted for sh', () => {
  expect(shellQuoted("a'b $(c)")).toBe("'a'\\''b $(c)'")
})
