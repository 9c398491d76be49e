import { describe, expect, test } from 'vitest'
import { proxyFor } from '../../../src/host/http.ts'

const url = new URL('https://registry.example.com:5000/v2/')

describe('the proxy for a registry', () => {
  test.each([
    [{}, undefined],
    [{ HTTPS_PROXY: 'http://proxy.example.com:3128' }, 'http://proxy.example.com:3128/'],
    [{ https_proxy: 'proxy.example.com:3128' }, 'http://proxy.example.com:3128/'],
    [{ HTTP_PROXY: 'http://proxy.example.com' }, undefined],
    [{ ALL_PROXY: 'http://proxy.example.com' }, 'http://proxy.example.com/'],
    [{ HTTPS_PROXY: 'http://p', NO_PROXY: 'example.org, registry.example.com' }, undefined],
    [{ HTTPS_PROXY: 'http://p', no_proxy: '.example.com' }, undefined],
    [{ HTTPS_PROXY: 'http://p', NO_PROXY: '*' }, undefined],
    [{ HTTPS_PROXY: 'http://p', NO_PROXY: 'ample.com' }, 'http://p/'],
  ])('%j', (env, expected) => {
    expect(proxyFor(url, env)?.href).toBe(expected)
  })
})
