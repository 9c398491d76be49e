// The files that `git vlb build` writes: their formats, and what they are called.

/** Formats that qemu reads and writes. */
export type DiskFormat = 'qcow2' | 'raw' | 'vmdk' | 'vdi' | 'vhdx' | 'vpc'
/** And an OVA: a tar of a machine's description and its disk. */
export type ImageFormat = DiskFormat | 'ova'
export const imageFormats: readonly ImageFormat[] = ['qcow2', 'raw', 'vmdk', 'vdi', 'vhdx', 'vpc', 'ova']

export type Compression = 'none' | 'zlib' | 'zstd'
export const compressions: readonly Compression[] = ['none', 'zlib', 'zstd']

/** qcow2 for every qemu since 0.10, or for those since 1.1 (from 2011). */
export type Compat = '0.10' | '1.1'

export interface OutputSettings {
  /** As vlb.yaml has it: relative to the project's folder. */
  path: string
  /** The first is the main one. */
  formats: ImageFormat[]
  /** Of a qcow2. */
  compress: Compression
  compat: Compat
  /** Write SHA256SUMS beside the images. */
  checksums: boolean
}

export const sumsFile = 'SHA256SUMS'

/** File name endings and what they mean; the first of a format is the one it gets. */
const endings: readonly [ending: string, format: ImageFormat][] = [
  ['qcow2', 'qcow2'],
  ['raw', 'raw'],
  ['img', 'raw'],
  ['vmdk', 'vmdk'],
  ['vdi', 'vdi'],
  ['vhdx', 'vhdx'],
  ['vhd', 'vpc'],
  ['vpc', 'vpc'],
  ['ova', 'ova'],
]

/** The path without its ending, and the format that the ending means. `web-1.2` has none that means one. */
function split(path: string): { stem: string; format: ImageFormat | undefined } {
  const match = /^(.*[^/])\.([A-Za-z0-9]+)$/s.exec(path)
  const format = endings.find(([ending]) => ending === match?.[2]?.toLowerCase())?.[1]
  return format === undefined ? { stem: path, format } : { stem: match?.[1] ?? path, format }
}

/** The format a file name asks for by its ending; qcow2 where it does not say. */
export function formatOf(path: string | undefined): ImageFormat {
  return (path === undefined ? undefined : split(path).format) ?? 'qcow2'
}

export function endingOf(format: ImageFormat): string {
  return endings.find(([, f]) => f === format)?.[0] ?? format
}

/** The path with the ending of a format, unless it has one that means it already. */
export function withFormat(path: string, format: ImageFormat): string {
  const { stem, format: has } = split(path)
  return has === format ? path : `${stem}.${endingOf(format)}`
}

/** `build/image.qcow2`, v1.0 → `build/image-v1.0.qcow2`. */
export function withLabel(path: string, label: string): string {
  if (label === '') return path
  const { stem } = split(path)
  return `${stem}-${label.replace(/[^A-Za-z0-9._-]+/g, '-')}${path.slice(stem.length)}`
}

/** Lines as sha256sum(1) writes and checks them, in byte order of the names. */
export function sumsText(sums: ReadonlyMap<string, string>): string {
  const byName = [...sums].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return byName
    .map(([name, sum]) => {
      const escaped = name.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('\r', '\\r')
      return `${escaped === name ? '' : '\\'}${sum}  ${escaped}\n`
    })
    .join('')
}
