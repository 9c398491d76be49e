import { expect, test } from 'vitest'
import { parseChallenge } from '../../../src/store/oci-login.ts'

test('challenges', () => {
  expect(parseChallenge('Basic realm="x"')).toEqual({ scheme: 'basic', realm: 'x', service: undefined })
  expect(
    parseChallenge('Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a:pull"'),
  ).toEqual({ scheme: 'bearer', realm: 'https://auth.example.com/token', service: 'registry' })
  expect(parseChallenge('bearer realm="r"')?.scheme).toBe('bearer')
  expect(parseChallenge('Negotiate')).toBeUndefined()
  expect(parseChallenge(undefined)).toBeUndefined()
})
