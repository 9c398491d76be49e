import { describe, expect, test } from 'vitest'
import { parseRemote, remoteName } from '../../../src/core/remote.ts'

const parse = (text: string, insecure: string[] = []) => parseRemote(text, 'remote', new Set(insecure))

describe('a remote', () => {
  test.each([
    ['registry.example.com/team/web', 'https', 'registry.example.com', 'team/web'],
    ['registry.example.com:5000/web', 'https', 'registry.example.com:5000', 'web'],
    ['https://registry.example.com/a/b__c-d', 'https', 'registry.example.com', 'a/b__c-d'],
    ['localhost:5000/web', 'http', 'localhost:5000', 'web'],
    ['127.0.0.1:5000/web', 'http', '127.0.0.1:5000', 'web'],
    ['[::1]:5000/web', 'http', '[::1]:5000', 'web'],
    ['https://127.0.0.1:5000/web', 'https', '127.0.0.1:5000', 'web'],
    ['http://localhost/web', 'http', 'localhost', 'web'],
  ])('%s', (text, scheme, host, repository) => {
    expect(parse(text)).toEqual({ scheme, host, repository })
    expect(remoteName(parse(text))).toBe(`${host}/${repository}`)
  })

  test('by http only where that was asked for', () => {
    expect(() => parse('http://registry.example.com/web')).toThrow(/in the clear to registry.example.com/)
    expect(parse('registry.example.com/web', ['registry.example.com']).scheme).toBe('http')
    expect(parse('https://registry.example.com/web', ['registry.example.com']).scheme).toBe('https')
    expect(() => parse('http://127.0.0.1.example.com/web')).toThrow(/in the clear/)
  })

  test.each([
    'registry.example.com',
    'registry.example.com/',
    'registry.example.com/Web',
    'registry.example.com/web:latest',
    'registry.example.com/web@sha256:00',
    'registry.example.com/../web',
    'registry.example.com/a//b',
    'user:word@registry.example.com/web',
    'ftp://registry.example.com/web',
    'registry.example.com/web?x',
    '-x/web',
    'example.com127.0.0.1/web',
    'registry.example.com:99999/web',
  ])('is none: %s', (text) => {
    expect(() => parse(text)).toThrow(/names no repository/)
  })
})
