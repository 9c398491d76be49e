// What is taken for a secret, and what is not. The keys are made of one letter.
import { describe, expect, test } from 'vitest'
import { lookedAt, mayHoldSecret, secretIn } from '../../../src/core/secret-files.ts'

const line = 'A'.repeat(64)
const pem = (label: string, head = '') => `-----BEGIN ${label}-----\n${head}${line}\n${line}\n-----END ${label}-----\n`
const found = (path: string, text: string) => (mayHoldSecret(path) ? secretIn(path, Buffer.from(text)) : undefined)

describe('a secret', () => {
  test.each<[string, string, string]>([
    ['id_rsa', pem('RSA PRIVATE KEY', 'Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n'), 'a private key'],
    ['files/root/.ssh/id_ed25519', pem('OPENSSH PRIVATE KEY'), 'a private key'],
    ['ssh_host_ecdsa_key', pem('EC PRIVATE KEY'), 'a private key'],
    ['tls/server.pem', `${pem('CERTIFICATE')}${pem('PRIVATE KEY')}`, 'a private key'],
    ['tls/server.key', pem('ENCRYPTED PRIVATE KEY').replaceAll('\n', '\r\n'), 'a private key'],
    ['signing.asc', pem('PGP PRIVATE KEY BLOCK', 'Version: 1\n\n'), 'a private key'],
    ['deploy.ppk', 'PuTTY-User-Key-File-3: ssh-ed25519\n', 'a private key'],
    ['keys.txt', `# created\nAGE-SECRET-KEY-1${'Q'.repeat(58)}\n`, 'a private key'],
    ['build-layer', `#!/bin/sh\ncat >/key <<end\n${pem('PRIVATE KEY')}end\n`, 'a private key'],
    ['.netrc', 'machine example.com login me password 1234\n', 'a password'],
    ['root/_netrc', 'machine example.com\n  login me\n  password 1234\n', 'a password'],
    ['.git-credentials', 'https://me:1234@example.com\n', 'a login'],
    ['home/.aws/credentials', '[default]\naws_secret_access_key = 1234\n', 'an access key'],
    ['.docker/config.json', '{"auths": {"example.com": {"auth": "bWU6MTIzNA=="}}}', 'a login'],
    ['.npmrc', '//registry.npmjs.org/:_authToken=npm_1234\n', 'a token'],
    ['.pypirc', '[pypi]\nusername = me\npassword = 1234\n', 'a password'],
    ['.pgpass', '# host\ndb.example.com:5432:*:me:1234\n', 'a password'],
    ['.my.cnf', '[client]\npassword="1234"\n', 'a password'],
    ['.env', 'RELEASE=stable\nexport DB_PASSWORD=1234\n', 'a secret value'],
    ['app/.env.production', 'API_KEY="1234"\n', 'a secret value'],
  ])('%s', (path, text, what) => expect(found(path, text)).toBe(what))
})

describe('no secret', () => {
  test.each<[string, string]>([
    ['id_rsa.pub', 'ssh-rsa AAAAB3NzaC1yc2E me@example.com\n'],
    ['tls/ca.pem', pem('CERTIFICATE')],
    ['tls/public.pem', pem('PUBLIC KEY')],
    ['archive-key.asc', pem('PGP PUBLIC KEY BLOCK')],
    ['keyboard', 'XKBLAYOUT="us"\n'],
    ['build-layer', '#!/bin/sh\ngrep -q -e "-----BEGIN PRIVATE KEY-----" /etc/ssl/server.pem\necho done\n'],
    ['.netrc', 'machine example.com login me\n'],
    ['.git-credentials', 'https://example.com\n'],
    ['.aws/credentials', '[default]\nrole_arn = arn:aws:iam::1:role/x\n'],
    ['.docker/config.json', '{"credHelpers": {"example.com": "pass"}, "auths": {"example.com": {}}}'],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: npm's own form for a variable
    ['.npmrc', '//registry.npmjs.org/:_authToken=${NPM_TOKEN}\nsave-exact=true\n'],
    ['.env', 'RELEASE=stable\nTOKEN_URL=https://example.com\nAPI_KEY=\nDB_PASSWORD=$FROM_ELSEWHERE\n'],
    ['.env.example', 'API_KEY=1234\n'],
    ['credentials', 'aws_secret_access_key = 1234\n'],
    ['notes.md', pem('PRIVATE KEY')],
    ['late.pem', `${'#\n'.repeat(lookedAt / 2)}${pem('PRIVATE KEY')}`],
  ])('%s', (path, text) => expect(found(path, text)).toBeUndefined())
})

test('bytes of any kind take no time', () => {
  const hostile = [
    '-----BEGIN PRIVATE KEY-----\n'.repeat(lookedAt / 28),
    `-----BEGIN ${'A '.repeat(lookedAt / 2)}`,
    `-----BEGIN PRIVATE KEY-----\n${'a:\n'.repeat(lookedAt / 3)}`,
    `${':'.repeat(lookedAt)}`,
    'x'.repeat(lookedAt),
    ' '.repeat(lookedAt),
    '\n'.repeat(lookedAt),
    'SECRET'.repeat(lookedAt / 6),
  ]
  const started = performance.now()
  for (const text of hostile)
    for (const path of ['x.pem', '.env', '.pgpass', '.git-credentials', '.my.cnf', '.npmrc'])
      expect(secretIn(path, Buffer.from(text))).toBeUndefined()
  expect(performance.now() - started).toBeLessThan(5000)
})
