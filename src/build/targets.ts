// Which files a build writes: from vlb.yaml, and from the command line instead of it.
import { basename, dirname, join, resolve } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { type Compression, type ImageFormat, sumsFile, withFormat, withLabel } from '../core/output.ts'
import type { ImageTarget } from './flatten.ts'
import type { LoadedSource } from './project.ts'

export interface TargetOptions {
  flatten: boolean
  /** Instead of output.format; empty for that. */
  formats: readonly ImageFormat[]
  compress: Compression | undefined
  /** Absolute path, instead of output.path of vlb.yaml. */
  output: string | undefined
}

/** The images, the main one first. A named revision goes into the names, so that images do not overwrite each other. */
export function targetsFor(folder: string, source: LoadedSource, options: TargetOptions): ImageTarget[] {
  const settings = source.config.output
  const formats = formatsFor(source, options)
  const compress = options.compress ?? settings.compress
  checkCompression(source, options, formats)
  const path = options.output ?? withLabel(resolve(folder, settings.path), source.label)
  // A name that was given for one file is taken as it is.
  const own = options.formats.length === 0 && settings.formats.length === 1 && formats[0] === settings.formats[0]
  const exact = formats.length === 1 && (options.output !== undefined || own)
  return formats.map((format) => ({
    path: exact ? path : withFormat(path, format),
    format,
    compress: format === 'qcow2' ? compress : 'none',
    compat: settings.compat,
  }))
}

function formatsFor(source: LoadedSource, { flatten, formats }: TargetOptions): ImageFormat[] {
  const other = formats.find((format) => format !== 'qcow2')
  if (flatten) return formats.length > 0 ? [...new Set(formats)] : source.config.output.formats
  if (other === undefined) return ['qcow2']
  throw new VlbError('VLB_USAGE', `--no-flatten leaves an overlay, which is a qcow2, not ${other}`, {
    hint: 'leave one of the two out',
  })
}

function checkCompression(source: LoadedSource, { compress }: TargetOptions, formats: readonly ImageFormat[]): void {
  if (compress === undefined || compress === 'none') return
  if (!formats.includes('qcow2')) {
    throw new VlbError('VLB_USAGE', `--compress ${compress} needs the format qcow2, not ${formats.join(', ')}`, {
      hint: 'leave one of the two out',
    })
  }
  if (compress === 'zstd' && source.config.output.compat === '0.10') {
    throw new VlbError('VLB_USAGE', '--compress zstd is not for old qemu, which output.compat in vlb.yaml is set for', {
      hint: 'take zlib, or leave compat out',
    })
  }
}

/** Where the checksums of these images go; undefined if none are wanted. */
export function sumsFor(source: LoadedSource, targets: readonly ImageTarget[]): string | undefined {
  const main = targets[0]?.path
  if (!source.config.output.checksums || main === undefined) return undefined
  if (basename(main) !== sumsFile) return join(dirname(main), sumsFile)
  throw new VlbError('VLB_USAGE', `the image cannot be called ${sumsFile}, where its checksum is written`, {
    hint: 'give it another name',
  })
}
