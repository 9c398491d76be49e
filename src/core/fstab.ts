// Reads an image's /etc/fstab (fstab(5)): which of its lines speak of a partition, and where that is to be mounted.
// The text comes out of an image: nothing in it is trusted to be of any form or length.

/** What a line's first field names. */
export type FstabSource =
  | { by: 'uuid' | 'label' | 'partuuid' | 'partlabel'; value: string }
  /** A device node of the disk the machine boots from; number 0 for the whole disk. */
  | { by: 'number'; value: number }

export interface FstabEntry {
  source: FstabSource
  /** Absolute, without `.`, `..`, doubled and trailing slashes. */
  target: string
  options: string[]
  line: number
  /** The first field, for messages. */
  text: string
}

/** Bytes of an fstab that are looked at; the runner hands over one byte more, to show that there are more. */
export const fstabLimit = 65_536

/** The lines that name a block device and a place. Others (tmpfs, nfs, bind mounts, swap, nonsense) are passed over. */
export function parseFstab(text: string): FstabEntry[] {
  const entries: FstabEntry[] = []
  for (const [index, line] of text.slice(0, fstabLimit).split('\n').entries()) {
    const fields = line.split(/[ \t\r]+/).filter((field) => field !== '')
    const [first = '', second = '', type = 'auto', options = ''] = fields
    if (first === '' || first.startsWith('#') || type === 'swap') continue
    const name = unescaped(first)
    const source = parseSource(name)
    const target = mountPath(unescaped(second))
    if (source && target)
      entries.push({
        source,
        target,
        options: unescaped(options).split(',').filter(Boolean),
        line: index + 1,
        text: name,
      })
  }
  return entries
}

/** What `fstab`, `disk.root` and the mount directive may call a partition; undefined if it is none. */
export function parseSource(text: string): FstabSource | undefined {
  const tag = /^(UUID|LABEL|PARTUUID|PARTLABEL)=(?:"([^"]*)"|'([^']*)'|(.*))$/is.exec(text)
  if (tag) return named(tag[1] ?? '', tag[2] ?? tag[3] ?? tag[4] ?? '')
  const link = /^\/dev\/disk\/by-(uuid|label|partuuid|partlabel)\/([^/]+)$/s.exec(text)
  if (link) return named(link[1] ?? '', fromUdev(link[2] ?? ''))
  // The first disk, by any of the names it may have on the machine that boots from it.
  const node = /^\/dev\/(?:(?:sd|vd|xvd|hd)a([1-9]\d{0,2})?|(?:nvme0n1|mmcblk0)(?:p([1-9]\d{0,2}))?)$/.exec(text)
  return node ? { by: 'number', value: Number(node[1] ?? node[2] ?? 0) } : undefined
}

function named(by: string, value: string): FstabSource | undefined {
  return value === '' ? undefined : { by: by.toLowerCase() as 'uuid', value }
}

/** Blanks, tabs and backslashes are written as three octal digits. */
function unescaped(field: string): string {
  return field.replace(/\\([0-3][0-7]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** udev writes what does not fit into a file name as \x and two hexadecimal digits. */
function fromUdev(name: string): string {
  try {
    return decodeURIComponent(name.replaceAll('%', '%25').replace(/\\x([0-9a-f]{2})/gi, '%$1'))
  } catch {
    return name
  }
}

/** A path in the image in its plainest form; undefined for what is no such path. */
export function mountPath(path: string): string | undefined {
  if (!path.startsWith('/') || path.length > 1024 || /\p{Cc}/u.test(path)) return undefined
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  return parts.includes('..') ? undefined : `/${parts.join('/')}`
}
