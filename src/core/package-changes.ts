// What differs between the packages of two images.
import type { Package, PackageList, PackageManager } from './packages.ts'
import { compareVersions } from './versions.ts'

export interface PackageUpgrade {
  name: string
  arch: string
  from: string
  to: string
  /** `changed`: which of the two is the newer is not known. */
  direction: 'upgraded' | 'downgraded' | 'changed'
  /** The former name, for a kernel whose name has its version. */
  was?: string
}

export interface PackageChanges {
  added: Package[]
  removed: Package[]
  upgraded: PackageUpgrade[]
  /** Names of changed packages that are to be told first. */
  major: string[]
}

export function comparePackages(from: PackageList, to: PackageList, wanted: readonly string[] = []): PackageChanges {
  const [before, after] = [byName(from.packages), byName(to.packages)]
  const manager = to.manager ?? from.manager
  const changes: PackageChanges = { added: [], removed: [], upgraded: [], major: [] }
  for (const key of new Set([...before.keys(), ...after.keys()])) {
    const gone = without(before.get(key), after.get(key))
    const come = without(after.get(key), before.get(key))
    const [old, fresh] = [gone[0], come[0]]
    // Some managers keep several versions of a package, say of a kernel.
    if (old && fresh && gone.length === 1 && come.length === 1) changes.upgraded.push(upgrade(manager, old, fresh))
    else {
      changes.removed.push(...gone)
      changes.added.push(...come)
    }
  }
  pairKernels(manager, changes)
  for (const list of [changes.added, changes.removed, changes.upgraded])
    list.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)))
  changes.major = majorOnes(changes, wanted)
  return changes
}

function byName(packages: readonly Package[]): Map<string, Package[]> {
  const found = new Map<string, Package[]>()
  for (const one of packages) {
    const key = `${one.name}\0${one.arch}`
    found.set(key, [...(found.get(key) ?? []), one])
  }
  return found
}

function without(these: readonly Package[] = [], those: readonly Package[] = []): Package[] {
  return these.filter(({ version }) => !those.some((one) => one.version === version))
}

function upgrade(manager: PackageManager | null, from: Package, to: Package): PackageUpgrade {
  const order = compareVersions(manager, from.version, to.version)
  const direction = order === undefined || order === 0 ? 'changed' : order < 0 ? 'upgraded' : 'downgraded'
  return { name: to.name, arch: to.arch, from: from.version, to: to.version, direction }
}

/** Debian's kernels have their version in the name: linux-image-6.1.0-18-amd64 makes way for linux-image-6.1.0-20-amd64. */
function pairKernels(manager: PackageManager | null, changes: PackageChanges): void {
  const stem = ({ name, arch }: Package) => `${name.replace(/\d+([.+~-]\d+)*/, '#')} ${arch}`
  const isKernel = ({ name }: Package) => /^linux-(image|headers|modules)-/.test(name)
  for (const fresh of changes.added.filter(isKernel)) {
    const same = (one: Package) => isKernel(one) && stem(one) === stem(fresh)
    const [old, ...others] = changes.removed.filter(same)
    if (!old || others.length > 0 || changes.added.filter(same).length > 1) continue
    changes.upgraded.push({ ...upgrade(manager, old, fresh), was: old.name })
    changes.added = changes.added.filter((one) => one !== fresh)
    changes.removed = changes.removed.filter((one) => one !== old)
  }
}

/** Kernel, C library, OpenSSL and systemd, by the names that distributions give them. */
const usual = [
  [
    'linux-image-*',
    'linux',
    'linux-lts',
    'linux-virt',
    'kernel',
    'kernel-core',
    'kernel-default',
    'raspberrypi-kernel',
  ],
  ['libc6', 'glibc', 'musl'],
  ['openssl', 'libssl*', 'openssl-libs', 'libcrypto*'],
  ['systemd', 'systemd-sysv', 'systemd-udev', 'udev', 'libsystemd0'],
].flat()

/** In the order in which they are asked for: what the project names comes after what everybody wants to know. */
function majorOnes({ added, removed, upgraded }: PackageChanges, wanted: readonly string[]): string[] {
  const names = [...new Set([...upgraded, ...added, ...removed].map(({ name }) => name))]
  return [...new Set([...usual, ...wanted].flatMap((pattern) => names.filter((name) => matches(pattern, name))))]
}

/** `*` stands for any text. */
function matches(pattern: string, name: string): boolean {
  const [first = '', ...rest] = pattern.split('*')
  if (rest.length === 0) return pattern === name
  if (!name.startsWith(first)) return false
  const last = rest.pop() ?? ''
  let at = first.length
  for (const part of rest) {
    const found = name.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return name.length - last.length >= at && name.endsWith(last)
}
