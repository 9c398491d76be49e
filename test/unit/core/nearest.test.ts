// "Did you mean": near enough, or nothing.
import { expect, test } from 'vitest'
import { nearest } from '../../../src/core/nearest.ts'

const words = ['version', 'name', 'base', 'disk', 'env', 'output', 'boot']

test.each([
  ['bse', 'base'],
  ['Disk', 'disk'],
  ['ouptut', 'output'],
  ['verison', 'version'],
  ['base', 'base'],
])('%s was meant as %s', (word, meant) => expect(nearest(word, words)).toBe(meant))

test.each(['kernel', 'frobnicate', ''])('%j was meant as none', (word) => expect(nearest(word, words)).toBeUndefined())

test('of nothing, nothing', () => expect(nearest('a', [])).toBeUndefined())

test('a long word may hold more mistakes', () => expect(nearest('enviromnet', ['environment'])).toBe('environment'))
