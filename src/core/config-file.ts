// vlb.yaml: read, checked, and given its defaults. An error names file, line, column and the nearest valid key. Apart from
// the types in config.ts, because the YAML parser takes a while to load.
import { type Document, isAlias, isMap, isPair, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml'
import { type BuiltinCheck, builtinChecks } from './checks.ts'
import {
  type BaseDigest,
  type BaseSource,
  type BootSettings,
  type Config,
  compileExpect,
  type Firmware,
} from './config.ts'
import { explain, type Path, validate } from './config-schema.ts'
import { printable, VlbError } from './errors.ts'
import { type Compression, endingOf, formatOf, type ImageFormat, type OutputSettings, sumsFile } from './output.ts'
import { type SealStep, sealSteps } from './seal.ts'
import { formatBytes, parseDuration, parseSize } from './units.ts'

interface RawConfig {
  name?: string
  base?: { path?: string; url?: string; sha256?: string; sha512?: string; share?: boolean }
  disk?: { size?: string; root?: number | string }
  env?: Record<string, string | number | boolean>
  output?: {
    path?: string
    format?: ImageFormat | ImageFormat[]
    compress?: Compression
    compat?: string | number
    checksums?: boolean
  }
  seal?: boolean | SealStep[]
  boot?: {
    memory?: string
    cpus?: number
    firmware?: Firmware
    expect?: string
    timeout?: string
    'builtin-checks'?: boolean | Partial<Record<BuiltinCheck, boolean>>
    machines?: { memory?: string; cpus?: number; firmware?: Firmware }[]
  }
  changelog?: { packages?: string[] }
  remote?: string
}

const longest = 2 ** 20

/** `file` is what errors name; `defaultName` the name of the project's folder. */
export function parseConfig(text: string, file: string, defaultName: string): Config {
  // Parsing takes a hundred times its length of memory.
  if (text.length > longest) {
    throw new VlbError('VLB_CONFIG', `${file} is longer than ${formatBytes(longest)}: that is no configuration`, {
      hint: 'see VLB.YAML in: man git-vlb',
    })
  }
  const lines = new LineCounter()
  // A tag such as !!binary would make values of kinds that JSON does not have.
  const options = { prettyErrors: false, stringKeys: true, resolveKnownTags: false }
  const document = parseDocument(text, { lineCounter: lines, ...options })
  const at = (path: Path, key = false) => position(document.contents as Node | null, path, lines, key)
  const fail = (where: string, what: string, hint = 'see VLB.YAML in: man git-vlb'): never => {
    throw new VlbError('VLB_CONFIG', `${file}${where}: ${what}`, { hint })
  }
  const broken = document.errors[0] ?? document.warnings.find(({ code }) => code === 'TAG_RESOLVE_FAILED')
  if (broken) {
    const { line, col } = lines.linePos(broken.pos[0])
    fail(`:${line}:${col}`, yamlComplaints[broken.code] ?? printable(broken.message.split('\n')[0] ?? ''))
  }
  const data = toData(document, (what) => fail(at([]), what)) ?? {}
  const result = validate(data, (what) => fail(at([]), what))
  if (!result.valid) {
    const { path, key, what, hint } = explain(result.errors, data)
    fail(at(path, key), what, hint)
  }
  const raw = data as RawConfig
  return {
    name: raw.name ?? defaultName,
    base: baseOf(raw, (path, what, hint) => fail(at(path), what, hint)),
    disk: {
      size:
        raw.disk?.size === undefined
          ? undefined
          : diskSize(raw.disk.size, (what) => fail(at(['disk', 'size']), what, 'write it so: 10G')),
      root: raw.disk?.root === undefined ? undefined : String(raw.disk.root),
    },
    env: Object.fromEntries(
      Object.entries(raw.env ?? {}).map(([name, value]) => [name, asWritten(document, name, value)]),
    ),
    output: outputOf(raw, (key, what, hint) => fail(at(['output', key]), what, hint)),
    seal: sealOf(raw.seal ?? true),
    boot: bootOf(raw, (what, hint) => fail(at(['boot', 'expect']), what, hint)),
    changelog: { packages: raw.changelog?.packages ?? [] },
    remote: raw.remote,
    shareBase: raw.base?.share ?? true,
  }
}

/** The parser's own words are made for programmers here. */
const yamlComplaints: Record<string, string> = {
  MULTIPLE_DOCS: 'a line "---" starts a second document here; there must be one only',
  NON_STRING_KEY: 'a key must be a plain word',
}

function toData(document: Document, fail: (what: string) => never): unknown {
  try {
    // Aliases of aliases could grow without end.
    return document.toJS({ maxAliasCount: 20 })
  } catch (error) {
    // Aliases without an anchor, or too many of them; the parser does not say where.
    if (!(error instanceof ReferenceError)) throw error
    return fail(printable(error.message))
  }
}

/** A value of `env` as the file spells it: as numbers, 1.50 and 007 would reach the scripts as 1.5 and 7. */
function asWritten(document: Document, name: string, value: unknown): string {
  let node: unknown = document.getIn(['env', name], true)
  if (isAlias(node)) node = node.resolve(document)
  return isScalar(node) && typeof node.value === 'number' && node.source !== undefined ? node.source : String(value)
}

function diskSize(text: string, fail: (what: string) => never): number {
  const size = parseSize(text)
  // qcow2 and loop devices count in sectors of 512 bytes; whole MiB keep every partition tool content.
  if (size === undefined || size % 2 ** 20 !== 0) return fail(`disk.size must be whole MiB, not "${text}"`)
  return size
}

function outputOf(raw: RawConfig, fail: (key: string, what: string, hint: string) => never): OutputSettings {
  const given = raw.output?.format ?? formatOf(raw.output?.path)
  const formats = [...new Set([given].flat())]
  const compress = raw.output?.compress ?? 'none'
  // YAML reads 0.10 as a number, which is 0.1.
  const compat = Number(raw.output?.compat ?? 1.1) === 0.1 ? '0.10' : '1.1'
  if (!formats.includes('qcow2')) {
    const instead = `needs format: qcow2, not ${formats.join(', ')}`
    if (compress !== 'none') fail('compress', `compress: ${compress} ${instead}`, 'leave compress out')
    if (compat === '0.10') fail('compat', `compat: 0.10 ${instead}`, 'leave compat out')
  }
  if (compress === 'zstd' && compat === '0.10')
    fail('compress', 'compress: zstd needs compat: 1.1', 'a qcow2 for old qemu is packed with zlib')
  const path = raw.output?.path ?? `build/image.${endingOf(formats[0] ?? 'qcow2')}`
  const checksums = raw.output?.checksums ?? false
  if (checksums && path.split('/').at(-1) === sumsFile)
    fail('path', `the image cannot be called ${sumsFile}, where its checksum is written`, 'give it another name')
  return { path, formats, compress, compat, checksums }
}

function sealOf(wanted: boolean | readonly SealStep[]): readonly SealStep[] {
  return sealSteps.filter((step) => (typeof wanted === 'boolean' ? wanted : wanted.includes(step)))
}

function bootOf(raw: RawConfig, fail: (what: string, hint: string) => never): BootSettings {
  const expect = raw.boot?.expect
  if (expect !== undefined && compileExpect(expect) === undefined)
    fail(
      `boot.expect is no regular expression: ${printable(expect, 80)}`,
      'put "\\" before a character that means itself',
    )
  const memory = parseSize(raw.boot?.memory ?? '1G') ?? 2 ** 30
  const cpus = raw.boot?.cpus ?? 2
  const wanted = raw.boot?.['builtin-checks'] ?? true
  const machines = (raw.boot?.machines ?? [{}]).map((machine) => ({
    memory: machine.memory === undefined ? memory : (parseSize(machine.memory) ?? memory),
    cpus: machine.cpus ?? cpus,
    firmware: machine.firmware ?? raw.boot?.firmware ?? 'bios',
  }))
  return {
    memory,
    cpus,
    firmware: raw.boot?.firmware ?? 'bios',
    expect,
    timeout: parseDuration(raw.boot?.timeout ?? '5m') ?? 300,
    builtinChecks: builtinChecks.filter((name) => (typeof wanted === 'boolean' ? wanted : (wanted[name] ?? true))),
    machines,
  }
}

function baseOf(raw: RawConfig, fail: (path: Path, what: string, hint?: string) => never): BaseSource | undefined {
  if (!raw.base) return undefined
  const { path, url, sha256, sha512 } = raw.base
  if ((path === undefined) === (url === undefined))
    fail(['base'], 'base needs either path or url', 'base: { path: … } or base: { url: …, sha256: … }')
  if (sha256 !== undefined && sha512 !== undefined)
    fail(['base'], 'base takes sha256 or sha512, not both', 'leave one of the two out')
  const digest: BaseDigest | undefined =
    sha256 !== undefined
      ? { algorithm: 'sha256', hex: sha256.toLowerCase() }
      : sha512 !== undefined
        ? { algorithm: 'sha512', hex: sha512.toLowerCase() }
        : undefined
  if (path !== undefined) return { from: 'path', path, digest }
  if (!digest) {
    return fail(
      ['base'],
      'base.url needs sha256 or sha512: what a URL serves may change',
      'copy it from the checksum file beside the image, e.g. SHA512SUMS',
    )
  }
  if (!URL.canParse(url ?? '')) fail(['base', 'url'], `base.url is no URL: "${printable(url ?? '', 80)}"`, 'https://…')
  return { from: 'url', url: url ?? '', digest }
}

/** `:LINE:COLUMN` of the node at `path`, or of its key. */
function position(root: Node | null, path: Path, lines: LineCounter, key: boolean): string {
  let node: Node | null | undefined = root
  let offset = root?.range?.[0] ?? 0
  for (const [depth, name] of path.entries()) {
    if (isSeq(node)) {
      node = node.items[Number(name)] as Node | undefined
      offset = node?.range?.[0] ?? offset
      continue
    }
    if (!isMap(node)) break
    const pair = node.items.find((item) => isPair(item) && isScalar(item.key) && String(item.key.value) === name)
    if (!pair) break
    const keyNode = pair.key as Node
    const value = pair.value as Node | null
    node = value
    offset = (key && depth === path.length - 1 ? keyNode.range?.[0] : value?.range?.[0]) ?? keyNode.range?.[0] ?? offset
  }
  const { line, col } = lines.linePos(offset)
  return `:${line}:${col}`
}
