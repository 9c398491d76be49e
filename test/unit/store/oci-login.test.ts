import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { ConnectionError, type HttpClient } from '../../../src/host/http.ts'
import { Authorizer, LoginRefused, parseChallenge } from '../../../src/store/oci-login.ts'

test('challenges', () => {
  expect(parseChallenge('Basic realm="x"')).toEqual({ scheme: 'basic', realm: 'x', service: undefined })
  expect(
    parseChallenge('Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a:pull"'),
  ).toEqual({ scheme: 'bearer', realm: 'https://auth.example.com/token', service: 'registry' })
  expect(parseChallenge('bearer realm="r"')?.scheme).toBe('bearer')
  expect(parseChallenge('Negotiate')).toBeUndefined()
  expect(parseChallenge(undefined)).toBeUndefined()
})

test.each([
  [503, ConnectionError],
  [429, ConnectionError],
  [401, LoginRefused],
])('a token server that answers %d: what may pass is no wrong login', async (status, kind) => {
  const http = { send: async () => ({ status, headers: {}, body: Readable.from([]) }) } as unknown as HttpClient
  const authorizer = new Authorizer(http, async () => undefined)
  authorizer.refused('Bearer realm="https://auth.example.com/token"', ['s'])
  const patience = { connect: 1, silence: 1, tries: 1 }
  await expect(authorizer.header(['s'], patience, new AbortController().signal)).rejects.toBeInstanceOf(kind)
})
