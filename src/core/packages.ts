// The packages that an image has installed: read from its package manager's database, whose bytes are anybody's, into a
// versioned list that lies beside the snapshot.
import { printable } from './errors.ts'
import { areTexts, maybeText } from './shape.ts'

export const packagesName = 'packages.json'

export type PackageManager = 'dpkg' | 'rpm' | 'apk' | 'pacman'

export interface Package {
  name: string
  version: string
  /** As the package manager names it: amd64, x86_64, noarch. */
  arch: string
  /** The source package, where it is known and has another name. */
  source?: string
}

/** What os-release(5) says of the image. */
export interface OperatingSystem {
  id: string
  version?: string
  name?: string
}

export interface PackageList {
  format: 1
  /** null: none that we know, as in an image of busybox. */
  manager: PackageManager | null
  os: OperatingSystem | null
  /** Why the list may lack packages. */
  problem?: string
  /** By name, then architecture, then version, in byte order. */
  packages: Package[]
}

/** Texts of an image's databases. */
export interface Databases {
  dpkg?: string
  apk?: string
  pacman?: string
  rpm?: string
  os?: string
  problem?: string
}

const parsers: [manager: PackageManager, parse: (text: string) => Package[]][] = [
  ['dpkg', parseDpkg],
  ['apk', parseApk],
  ['pacman', parsePacman],
  ['rpm', parseRpm],
]

/** The list of an image. One that has the tools of several managers is managed by the first that knows a package. */
export function packageList(databases: Databases): PackageList {
  const rest = {
    os: parseOsRelease(databases.os ?? ''),
    ...(databases.problem ? { problem: printable(databases.problem) } : {}),
  }
  for (const [manager, parse] of parsers) {
    const packages = sorted(parse(databases[manager] ?? ''))
    if (packages.length > 0) return { format: 1, manager, ...rest, packages }
  }
  const manager = parsers.find(([name]) => databases[name] !== undefined)?.[0] ?? null
  return { format: 1, manager, ...rest, packages: [] }
}

/** A package to a line, so that two lists can be compared by lines. */
export function packageListText({ packages, ...head }: PackageList): string {
  const lines = packages.map((one) => `    ${JSON.stringify(one)}`)
  const list = lines.length === 0 ? '[]' : `[\n${lines.join(',\n')}\n  ]`
  return `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "packages": ${list}\n}\n`
}

/** A list read from disk, or undefined if it is not one this version understands. */
export function readPackageList(text: string): PackageList | undefined {
  let data: Partial<PackageList> | null
  try {
    data = JSON.parse(text) as Partial<PackageList> | null
  } catch {
    return undefined
  }
  const sound =
    data?.format === 1 &&
    Array.isArray(data.packages) &&
    data.packages.every((one) => areTexts(one?.name, one?.version, one?.arch) && maybeText(one.source)) &&
    (data.manager === null || parsers.some(([name]) => name === data.manager)) &&
    (data.os === null || (areTexts(data.os?.id) && maybeText(data.os?.version) && maybeText(data.os?.name))) &&
    maybeText(data.problem)
  return sound ? (data as PackageList) : undefined
}

function sorted(packages: Package[]): Package[] {
  const keyed = packages.map((one) => ({ one, key: Buffer.from(`${one.name}\0${one.arch}\0${one.version}`) }))
  keyed.sort((a, b) => Buffer.compare(a.key, b.key))
  return keyed.filter(({ key }, i) => i === 0 || !keyed[i - 1]?.key.equals(key)).map(({ one }) => one)
}

/** Undefined for one without a name or version: half a record is none. */
function toPackage(
  name: string | undefined,
  version: string | undefined,
  arch: string | undefined,
  source: string | undefined,
): Package[] {
  const [shown, number] = [clean(name), clean(version)]
  if (shown === '' || number === '') return []
  const from = clean(source)
  return [
    { name: shown, version: number, arch: clean(arch), ...(from === '' || from === shown ? {} : { source: from }) },
  ]
}

function clean(value: string | undefined): string {
  return printable((value ?? '').trim(), 200)
}

/** Records of "Key: value" lines with empty lines between them; lines that start with a blank go on with the last. */
function* records(text: string): Generator<Map<string, string>> {
  let record = new Map<string, string>()
  for (const line of text.split('\n')) {
    if (line.trim() === '') {
      if (record.size > 0) yield record
      record = new Map()
      continue
    }
    const colon = line.indexOf(':')
    if (colon > 0 && line[0] !== ' ' && line[0] !== '\t') record.set(line.slice(0, colon), line.slice(colon + 1))
  }
  if (record.size > 0) yield record
}

/** dpkg's status file (deb-control(5)); the status.d files of images without dpkg itself have no Status. */
function parseDpkg(text: string): Package[] {
  const found: Package[] = []
  for (const record of records(text)) {
    const status = record.get('Status')?.trim()
    if (status !== undefined && status.split(' ').at(-1) !== 'installed') continue
    // "Source: glibc (2.36-9)" where the source has another version.
    const source = record.get('Source')?.trim().split(' ')[0]
    found.push(...toPackage(record.get('Package'), record.get('Version'), record.get('Architecture'), source))
  }
  return found
}

/** apk's installed file: P, V, A, and o for the origin. */
function parseApk(text: string): Package[] {
  const found: Package[] = []
  for (const record of records(text))
    found.push(...toPackage(record.get('P'), record.get('V'), record.get('A'), record.get('o')))
  return found
}

/** pacman's desc files, one behind the other: "%KEY%" and its values on the lines after it. */
function parsePacman(text: string): Package[] {
  const found: Package[] = []
  let record = new Map<string, string>()
  let key = ''
  const take = () =>
    found.push(...toPackage(record.get('NAME'), record.get('VERSION'), record.get('ARCH'), record.get('BASE')))
  for (const line of text.split('\n')) {
    if (line.length > 2 && line.startsWith('%') && line.endsWith('%')) {
      key = line.slice(1, -1)
      if (key === 'NAME') {
        take()
        record = new Map()
      }
    } else if (line !== '' && !record.has(key)) record.set(key, line)
  }
  take()
  return found
}

/** How the image's rpm is asked for its packages: lines of name, version, architecture, source file, by tabs. */
export const rpmQuery = '%{NAME}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{SOURCERPM}\\n'

function parseRpm(text: string): Package[] {
  const found: Package[] = []
  for (const line of text.split('\n')) {
    const [name, version, arch, file = ''] = line.split('\t')
    // A signing key that was imported is noted as a package.
    if (name === 'gpg-pubkey') continue
    // bash-5.1.8-6.el9.src.rpm: name, version, release.
    const source = file.endsWith('.rpm') ? file.split('-').slice(0, -2).join('-') : ''
    found.push(...toPackage(name, version, arch, source))
  }
  return found
}

/** os-release(5): shell assignments, of which only plain and quoted ones are read. */
export function parseOsRelease(text: string): OperatingSystem | null {
  const values = new Map<string, string>()
  for (const line of text.split('\n').slice(0, 200)) {
    const equals = line.indexOf('=')
    if (equals > 0) values.set(line.slice(0, equals).trim(), unquoted(line.slice(equals + 1).trim()))
  }
  const [id, version, name] = ['ID', 'VERSION_ID', 'PRETTY_NAME'].map((key) => clean(values.get(key)))
  if (!id) return null
  return { id, ...(version ? { version } : {}), ...(name ? { name } : {}) }
}

function unquoted(value: string): string {
  const quote = value[0]
  if ((quote !== '"' && quote !== "'") || value.length < 2 || value.at(-1) !== quote) return value
  const inner = value.slice(1, -1)
  return quote === '"' ? inner.replace(/\\(["$`\\])/g, '$1') : inner
}
