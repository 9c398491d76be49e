// Directives: comment lines in the leading comment block of a layer's script. They are part of the layer's tree, so
// they need no field of their own in its key.
import { printable, VlbError } from './errors.ts'
import { mountPath } from './fstab.ts'
import { nearest } from './nearest.ts'
import { parseDuration } from './units.ts'

export interface Directives {
  nocache: boolean
  noshare: boolean
  /** Seconds after which a snapshot counts as missing. */
  ttl?: number
  /** Declared values: name → default, or undefined when the caller must give one. */
  env: Record<string, string | undefined>
  network: boolean
  hostname?: string
  /** Seconds after which the whole layer is killed. */
  timeout?: number
  /** Ids of secrets the script may read. */
  secrets: string[]
  /** Absolute paths in the image where persistent folders of the store are mounted. */
  caches: string[]
  /** Other paths of the repository, relative to the project's folder. */
  includes: string[]
  /** Paths of the layer's folder mounted elsewhere. */
  binds: MountDirective[]
  /** Other partitions, mounted. */
  mounts: MountDirective[]
}

/** A directive that mounts something while the script runs. */
export interface MountDirective {
  /** bind: a path of the layer's folder, `.` for all of it. mount: how the script names the partition. */
  source: string
  /** Absolute path in the image. */
  target: string
  line: number
}

const names = [
  'nocache',
  'noshare',
  'ttl',
  'env',
  'network',
  'hostname',
  'timeout',
  'secret',
  'cache',
  'include',
  'bind',
  'mount',
]

interface Place {
  file: string
  line: number
}

/** As vm-layer-builder wrote them. */
const bareNames: Record<string, string> = { 'chroot-bind-mount': 'bind', 'chroot-mount': 'mount' }

/** Reads the directives of a script. `file` is what an error names. */
export function parseDirectives(script: string, file: string): Directives {
  const found: Directives = {
    nocache: false,
    noshare: false,
    env: {},
    network: true,
    secrets: [],
    caches: [],
    includes: [],
    binds: [],
    mounts: [],
  }
  for (const [index, line] of leadingComments(script).entries()) {
    const place = { file, line: index + 1 }
    const bare = /^#\s*(?:(nocache|noshare)(?:\s.*)?|(chroot-bind-mount|chroot-mount)\s+(\S.*?))\s*$/.exec(line)
    const match = bare ? undefined : /^#\s*vlb:\s*(\S*)\s*(.*?)\s*$/.exec(line)
    if (bare) apply(found, bare[1] ?? bareNames[bare[2] ?? ''] ?? '', bare[3] ?? '', place)
    else if (match) apply(found, match[1] ?? '', match[2] ?? '', place)
  }
  return found
}

/** The comment and blank lines a script starts with. */
function leadingComments(script: string): string[] {
  const lines = script.split('\n', 500)
  const end = lines.findIndex((line) => line.trim() !== '' && !line.startsWith('#'))
  return end < 0 ? lines : lines.slice(0, end)
}

function apply(found: Directives, name: string, argument: string, place: Place): void {
  switch (name) {
    case 'nocache':
    case 'noshare':
      if (argument) throw wrong(place, `${name} takes no argument`)
      found[name] = true
      return
    case 'ttl':
    case 'timeout':
      found[name] = duration(name, argument, place)
      return
    case 'env':
      declare(found, argument, place)
      return
    case 'secret':
      if (!/^[A-Za-z0-9._-]+$/.test(argument) || /^\.+$/.test(argument)) {
        throw wrong(place, 'secret takes an id of letters, digits, ".", "_" and "-"')
      }
      found.secrets.push(argument)
      return
    case 'cache':
      found.caches.push(absolutePath(name, argument, place))
      return
    case 'include':
      found.includes.push(repositoryPath(argument, place))
      return
    case 'bind':
      found.binds.push(bind(argument, place))
      return
    case 'mount':
      found.mounts.push(mountOf(name, 'PARTITION TARGET', argument, place))
      return
    case 'network':
      if (argument !== 'none') throw wrong(place, `network knows one argument, "none", not "${argument}"`)
      found.network = false
      return
    case 'hostname':
      if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?$/.test(argument))
        throw wrong(place, 'hostname takes one host name')
      found.hostname = argument
      return
    default: {
      const meant = nearest(name, names)
      throw wrong(place, `unknown directive "${name}"`, meant ? `did you mean "# vlb: ${meant}"?` : undefined)
    }
  }
}

function duration(name: string, argument: string, place: Place): number {
  const seconds = parseDuration(argument)
  if (seconds === undefined) throw wrong(place, `${name} takes a duration such as 30m or 7d, not "${argument}"`)
  return seconds
}

function declare(found: Directives, argument: string, place: Place): void {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)(?:=(.*))?$/.exec(argument)
  if (!match?.[1]) throw wrong(place, `env takes NAME or NAME=default, not "${argument}"`)
  found.env[match[1]] = match[2]
}

function mountOf(name: string, form: string, argument: string, place: Place): MountDirective {
  const [source = '', path = '', more] = argument.split(/\s+/)
  const target = mountPath(path)
  if (target === undefined || more !== undefined) {
    throw wrong(place, `${name} takes ${form}, TARGET an absolute path in the image, not "${argument}"`)
  }
  return { source, target, line: place.line }
}

function bind(argument: string, place: Place): MountDirective {
  const found = mountOf('bind', 'SRC TARGET', argument, place)
  if (!found.source.startsWith('/') && !found.source.split('/').includes('..')) return found
  throw wrong(place, `bind takes a path inside the layer's folder, "." for all of it, not "${found.source}"`)
}

function wrong(place: Place, what: string, hint = `known directives: ${names.join(', ')}`): VlbError {
  return new VlbError('VLB_DIRECTIVE', `${place.file}:${place.line}: ${printable(what)}`, { hint })
}

/** A path in the image: absolute, without the parts that make it ambiguous. */
function absolutePath(name: string, argument: string, place: Place): string {
  const parts = argument.split('/').slice(1)
  if (
    !argument.startsWith('/') ||
    /\p{Cc}/u.test(argument) ||
    parts.some((part) => part === '' || part === '.' || part === '..')
  ) {
    throw wrong(
      place,
      `${name} takes an absolute path in the image, such as /var/cache/apt, not "${printable(argument)}"`,
    )
  }
  return argument
}

/** A path below the project's folder; what lies above it is not the project's. */
function repositoryPath(argument: string, place: Place): string {
  const path = argument.replace(/^(\.\/)+/, '').replace(/\/+$/, '')
  if (
    path === '' ||
    path.startsWith('/') ||
    /\p{Cc}/u.test(path) ||
    path.split('/').some((part) => part === '' || part === '.' || part === '..')
  ) {
    throw wrong(place, `include takes a path below the folder of vlb.yaml, not "${printable(argument)}"`)
  }
  return path
}
