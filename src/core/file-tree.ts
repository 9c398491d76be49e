// The files of a disk, as the runner lists them: what find, stat, getfattr and filefrag print, read back. All of it comes
// out of an image. Names are byte strings (latin1), since a file system takes any bytes; files-text.ts makes text of them.

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'char' | 'block'

export interface Entry {
  type: FileType
  /** Four octal digits. */
  mode: string
  uid: number
  gid: number
  /** Bytes of a regular file; 0 for others. */
  size: number
  /** st_dev. */
  dev: number
  /** Tells which names are the same file: st_dev and inode number. */
  id: string
  /** How many names it has. */
  links: number
  /** Of a symlink. */
  target: string
  /** Of a device: major and minor number, `8:1`. */
  device?: string
  /** Extended attributes, ACLs and capabilities among them: name to value in hex, in order of the names. */
  xattrs?: Record<string, string>
  /** Content, once it was asked for. */
  sha256?: string
}

/** By path below the place that was asked for; '' for that itself. */
export type Tree = Map<string, Entry>

const types: Record<string, FileType> = {
  f: 'file',
  d: 'directory',
  l: 'symlink',
  p: 'fifo',
  s: 'socket',
  c: 'char',
  b: 'block',
}

export const emptyDigest = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

/** Reads `TYPE MODE UID GID SIZE DEV INODE LINKS` and a symlink's target. */
export function parseEntry(fields: string, target: string): Entry {
  const [kind = '', mode = '', uid, gid, size, dev, inode = '', links] = fields.split(' ')
  const type = types[kind]
  if (!type || links === undefined) throw new Error(`find printed ${JSON.stringify(fields)}`)
  const bytes = type === 'file' ? Number(size) : 0
  return {
    type,
    mode: mode.padStart(4, '0'),
    uid: Number(uid),
    gid: Number(gid),
    size: bytes,
    dev: Number(dev),
    id: `${dev}:${inode}`,
    links: type === 'directory' ? 1 : Number(links),
    target,
    ...(type === 'file' && bytes === 0 ? { sha256: emptyDigest } : {}),
  }
}

/** Its number in its file system. */
export function inodeOf({ id }: Pick<Entry, 'id'>): number {
  return Number(id.slice(id.indexOf(':') + 1))
}

/** Two hexadecimal numbers as stat(1) prints them, `8:1f`, in decimal. */
export function deviceNumbers(hex: string): string {
  return hex
    .split(':')
    .map((part) => Number.parseInt(part, 16))
    .join(':')
}

/** st_dev of what is mounted from a device (makedev(3)), from the same two numbers. */
export function deviceId(hex: string): number {
  const [major = 0, minor = 0] = hex.split(':').map((part) => Number.parseInt(part, 16))
  return Number(
    (BigInt(major & 0xfff) << 8n) | BigInt(minor & 0xff) | (BigInt(minor >>> 8) << 20n) | (BigInt(major >>> 12) << 44n),
  )
}

/** Gives the entries of `tree` what `getfattr -R -e hex` printed about files below `at`, a path that starts with a dot. */
export function addAttributes(tree: Tree, text: string, at: string): void {
  let entry: Entry | undefined
  for (const line of text.split('\n')) {
    if (line.startsWith('# file: ')) {
      entry = tree.get(below(at, unquoted(line.slice(8))))
      if (entry) entry.xattrs = {}
      continue
    }
    const equals = line.indexOf('=')
    if (!entry?.xattrs || line === '') continue
    const name = unquoted(equals < 0 ? line : line.slice(0, equals))
    Object.defineProperty(entry.xattrs, name, {
      value: equals < 0 ? '' : line.slice(equals + 3),
      enumerable: true,
      configurable: true,
    })
  }
  for (const one of tree.values()) if (one.xattrs) one.xattrs = sorted(one.xattrs)
}

function sorted(record: Record<string, string>): Record<string, string> {
  // Not by assignment: a name may be __proto__.
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** getfattr writes a backslash and three octal digits for a line break, a backslash and others. */
function unquoted(name: string): string {
  return name.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** The path below `at` that a tool calls `name`: with or without the dot in front. */
function below(at: string, name: string): string {
  const path = name === '.' ? './' : name.startsWith('./') ? name : `./${name}`
  return path === at || `${at}/` === path ? '' : path.slice(at.length + 1)
}
