// Files that look like secrets: by their names, so that few have to be read, and by what they begin with, so that a public key,
// a certificate or an example is not taken for one. Pure.

/** As much of a file is looked at. */
export const lookedAt = 64 * 1024

interface Kind {
  what: string
  /** Of the path, with a slash before it. */
  named: RegExp
  holds: RegExp
}

/** PEM, OpenSSH and PGP, with a line of the key itself: scripts may speak of the first line. PuTTY; age. */
const privateKey =
  /-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[ \t]*\r?\n(?:[\w-]+:.*\r?\n|[ \t]*\r?\n)*[ \t]*[A-Za-z0-9+/=]{40}|^PuTTY-User-Key-File-\d|^AGE-SECRET-KEY-1[A-Z0-9]{50}/m

/** A value that is written out, not one that comes from elsewhere. */
const given = String.raw`["']?(?!["'$<{#])[^\s"'#]`

const kinds: readonly Kind[] = [
  {
    what: 'a private key',
    named:
      /\/(?:[^/]*(?:rsa|dsa|ed25519|private|secret|identity|key)[^/]*|[^/]*\.(?:pem|p8|ppk|asc)|build-layer|modify-disk|build-base)$/i,
    holds: privateKey,
  },
  { what: 'a password', named: /[/._]netrc$/, holds: /\bpassword\s+\S/ },
  { what: 'a login', named: /[/.]git-credentials$/, holds: /^[a-z]+:\/\/[^/\s:@]*:[^/\s@]+@/m },
  { what: 'an access key', named: /\/\.?aws\/credentials$/, holds: /aws_secret_access_key[ \t]*=[ \t]*\S/i },
  {
    what: 'a login',
    named: /\/(?:\.?docker\/config\.json|\.?dockercfg|\.?dockerconfigjson|containers\/auth\.json)$/,
    holds: /"(?:auth|password|identitytoken|registrytoken)"\s*:\s*"[^"]/,
  },
  {
    what: 'a token',
    named: /[/.]npmrc$/,
    holds: new RegExp(String.raw`_(?:authToken|auth|password)[ \t]*=[ \t]*${given}`),
  },
  {
    what: 'a password',
    named: /[/.]pypirc$/,
    holds: new RegExp(String.raw`^[ \t]*password[ \t]*[:=][ \t]*${given}`, 'm'),
  },
  { what: 'a password', named: /[/.]pgpass$/, holds: /^(?!#)(?:[^:\s]+:){4}\S/m },
  {
    what: 'a password',
    named: /[/.]my\.cnf$/,
    holds: new RegExp(String.raw`^[ \t]*password[ \t]*=[ \t]*${given}`, 'm'),
  },
  {
    what: 'a secret value',
    named: /\/\.env(?:\.(?!example$|sample$|template$|dist$)[^/]+)?$/,
    holds: new RegExp(
      String.raw`^[ \t]*(?:export[ \t]+)?\w*(?:SECRET|TOKEN|PASSW(?:OR)?D|API_?KEY|(?:SECRET|ACCESS|PRIVATE)_?KEY)[ \t]*=[ \t]*${given}`,
      'im',
    ),
  },
]

/** Whether a file of that path is worth a look. */
export function mayHoldSecret(path: string): boolean {
  return kinds.some(({ named }) => named.test(`/${path}`))
}

/** What a file holds that others should not have; undefined if nothing is known of it. */
export function secretIn(path: string, beginning: Buffer): string | undefined {
  const text = beginning.subarray(0, lookedAt).toString('latin1')
  return kinds.find(({ named, holds }) => named.test(`/${path}`) && holds.test(text))?.what
}
