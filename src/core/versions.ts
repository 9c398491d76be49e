// Which of two package versions is the newer, as each package manager sees it.
import type { PackageManager } from './packages.ts'

/** Negative: `a` is older than `b`. Undefined: this manager's order is not known, or not for such versions. */
export function compareVersions(manager: PackageManager | null, a: string, b: string): number | undefined {
  if (manager === 'dpkg') return compareParts(a, b, compareDebian)
  if (manager === 'rpm' || manager === 'pacman') return compareParts(a, b, compareRpm)
  if (manager === 'apk') return compareApk(a, b)
  return undefined
}

/** `[EPOCH:]VERSION[-REVISION]`, as all but apk have it. A version without revision is as one with any (rpm) or "0" (dpkg). */
function compareParts(a: string, b: string, compare: (a: string, b: string) => number): number {
  const [one, other] = [split(a), split(b)]
  return (
    Number(one.epoch) - Number(other.epoch) ||
    compare(one.version, other.version) ||
    compare(one.revision, other.revision)
  )
}

function split(text: string): { epoch: string; version: string; revision: string } {
  const colon = /^(\d+):/.exec(text)
  const rest = text.slice(colon?.[0].length ?? 0)
  const dash = rest.lastIndexOf('-')
  const epoch = colon?.[1] ?? '0'
  return dash < 0
    ? { epoch, version: rest, revision: '' }
    : { epoch, version: rest.slice(0, dash), revision: rest.slice(dash + 1) }
}

/** deb-version(7): by turns what is no digit, where "~" comes before the end and letters before the rest, and numbers. */
function compareDebian(a: string, b: string): number {
  const [one, other] = [turns(a), turns(b)]
  for (let i = 0; i < Math.max(one.length, other.length); i++) {
    const [x = '', y = ''] = [one[i], other[i]]
    const order = i % 2 === 0 ? compareText(x, y) : compareNumber(x, y)
    if (order !== 0) return order
  }
  return 0
}

/** "1.2~rc" → ["", "1", ".", "2", "~rc"]: texts at even places, numbers at odd ones. */
function turns(text: string): string[] {
  return [...text.matchAll(/(\D*)(\d*)/g)]
    .filter(([all]) => all !== '')
    .flatMap(([, word = '', digits = '']) => [word, digits])
}

function compareText(a: string, b: string): number {
  const weight = (char: string | undefined) => {
    if (char === '~') return -1
    if (char === undefined) return 0
    return /[A-Za-z]/.test(char) ? char.charCodeAt(0) : char.charCodeAt(0) + 256
  }
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const order = weight(a[i]) - weight(b[i])
    if (order !== 0) return order
  }
  return 0
}

/** Of any length. */
function compareNumber(a: string, b: string): number {
  const [x, y] = [a.replace(/^0+/, ''), b.replace(/^0+/, '')]
  return x.length - y.length || (x < y ? -1 : x > y ? 1 : 0)
}

/** rpm-version(7): letters and numbers by turns, all else only parts them; "~" comes before the end, "^" after it. */
function compareRpm(a: string, b: string): number {
  const parts = (text: string) => text.match(/\d+|[A-Za-z]+|[~^]/g) ?? []
  const [one, other] = [parts(a), parts(b)]
  for (let i = 0; i < Math.max(one.length, other.length); i++) {
    const [x, y] = [one[i], other[i]]
    if (x === y) continue
    const [kx, ky] = [rpmRank(x), rpmRank(y)]
    if (kx !== ky) return kx - ky
    const order = kx === rank.number ? compareNumber(x ?? '', y ?? '') : (x ?? '') < (y ?? '') ? -1 : 1
    if (order !== 0) return order
  }
  return 0
}

const rank = { tilde: 0, end: 1, caret: 2, letters: 3, number: 4 }

function rpmRank(part: string | undefined): number {
  if (part === undefined) return rank.end
  if (part === '~') return rank.tilde
  if (part === '^') return rank.caret
  return /^\d/.test(part) ? rank.number : rank.letters
}

/** Only plain ones, `1.2.3-r4`: the order of suffixes such as _rc and _p is apk's own. */
function compareApk(a: string, b: string): number | undefined {
  const plain = /^\d+(\.\d+)*-r\d+$/
  return plain.test(a) && plain.test(b) ? compareRpm(a.replace('-r', '-'), b.replace('-r', '-')) : undefined
}
