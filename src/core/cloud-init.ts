// What a NoCloud seed holds, checked as cloud-init will read it: pure. An error names file, line and column.
import { createHash } from 'node:crypto'
import { isMap, LineCounter, parseDocument } from 'yaml'
import { printable, VlbError } from './errors.ts'
import { nearest } from './nearest.ts'

/** The folder beside vlb.yaml. */
export const seedFolder = 'cloud-init'

/** Files of a NoCloud disk, as cloud-init's documentation of that data source names them. */
export const seedNames = ['user-data', 'meta-data', 'network-config', 'vendor-data'] as const
export type SeedName = (typeof seedNames)[number]

export interface SeedFile {
  name: SeedName
  /** What messages call it. */
  path: string
  content: Buffer
}

export interface Seed {
  instanceId: string
  /** In the order of `seedNames`; user-data and meta-data are always there, for without them there is no data source. */
  files: ReadonlyMap<SeedName, Buffer>
}

/** Which of the four a file of the folder is: also with the ending that editors, and vm-layer-builder, like. */
export function seedName(file: string): SeedName | undefined {
  return seedNames.find((name) => file === name || file === `${name}.yaml` || file === `${name}.yml`)
}

/**
 * The files to use, out of a folder's names, and what seems to be misspelled among the others. Throws VLB_CLOUD_INIT
 * where there are none, or two for one.
 */
export function pickSeedFiles(names: readonly string[]): { chosen: Map<SeedName, string>; misspelled: string[] } {
  const chosen = new Map<SeedName, string>()
  const misspelled: string[] = []
  for (const file of [...names].sort()) {
    const name = seedName(file)
    const before = name && chosen.get(name)
    if (before !== undefined)
      throw wrong(`${seedFolder}/ has both ${before} and ${file}`, 'keep one of them: they are the same to cloud-init')
    if (name) chosen.set(name, file)
    else {
      const meant = nearest(file.replace(/\.(ya?ml|txt)$/, ''), seedNames)
      if (meant) misspelled.push(`${seedFolder}/${printable(file, 80)} is not used: did you mean ${meant}?`)
    }
  }
  if (chosen.size === 0) {
    const hint = misspelled[0] ?? `start with ${seedFolder}/user-data, whose first line is: #cloud-config`
    throw wrong(`${seedFolder}/ holds none of ${seedNames.join(', ')}`, hint)
  }
  return { chosen, misspelled }
}

/**
 * Checks the files and adds what is lacking. The instance id, unless meta-data has one, is made from the content: the
 * same files are the same instance, and cloud-init does its work again when they change. Throws VLB_CLOUD_INIT.
 */
export function composeSeed(given: readonly SeedFile[]): Seed {
  const content = new Map<SeedName, Buffer>()
  for (const { name, path, content: bytes } of given) {
    check[name](bytes, path)
    content.set(name, bytes)
  }
  content.set('user-data', content.get('user-data') ?? Buffer.from('#cloud-config\n{}\n'))
  const metaData = given.find(({ name }) => name === 'meta-data')
  const { instanceId, text } = withInstanceId(metaData, digestOf(content))
  content.set('meta-data', Buffer.from(text))
  const files = seedNames.flatMap((name) => {
    const bytes = content.get(name)
    return bytes ? [[name, bytes] as const] : []
  })
  return { instanceId, files: new Map(files) }
}

function digestOf(content: ReadonlyMap<SeedName, Buffer>): string {
  const hash = createHash('sha256')
  for (const name of seedNames) {
    const bytes = content.get(name)
    if (bytes) hash.update(`${name} ${bytes.length}\n`).update(bytes)
  }
  return hash.digest('hex').slice(0, 16)
}

/** Comments and order of what is there stay. */
function withInstanceId(file: SeedFile | undefined, digest: string): { instanceId: string; text: string } {
  const before = file?.content.toString('utf8') ?? ''
  const document = parseDocument(before, { version: '1.1' })
  const known = isMap(document.contents) ? document.get('instance-id') : undefined
  if (known !== undefined && known !== null) return { instanceId: String(known), text: before }
  const instanceId = `iid-${digest}`
  if (!isMap(document.contents)) return { instanceId, text: `instance-id: ${instanceId}\n` }
  try {
    document.set('instance-id', instanceId)
    const text = document.toString()
    mapping(text, 'it')
    return { instanceId, text }
  } catch (error) {
    // Not all that can be read can be written, or is the same when it was: names of anchors, a second byte order mark.
    if (!(error instanceof Error)) throw error
    const what = `${file?.path}: no instance-id can be added to it: ${printable(error.message)}`
    throw wrong(what, `write it there: instance-id: ${instanceId}`)
  }
}

const check: Record<SeedName, (content: Buffer, path: string) => void> = {
  'user-data': checkUserData,
  'vendor-data': checkUserData,
  'meta-data': (content, path) => {
    mapping(content.toString('utf8'), path)
  },
  'network-config': checkNetwork,
}

/**
 * First lines that cloud-init knows, besides #cloud-config: its documentation of user-data formats. `#!` and the start
 * of a mail, which MIME multi-part is, are told apart below.
 */
const otherHeaders = [
  ...['#include-once', '#include', '#cloud-config-archive', '#cloud-config-jsonp'],
  ...['#cloud-boothook', '#part-handler', '#upstart-job'],
]
const cloudConfig = /^#cloud-config[ \t]*$/
const jinja = /^## template:\s*jinja/i
const mailHeader = /^(content-type|mime-version|from|content-transfer-encoding):? /i

function checkUserData(content: Buffer, path: string): void {
  // Packed with gzip: cloud-init unpacks it, and so need nobody else.
  if (content[0] === 0x1f && content[1] === 0x8b) return
  const text = content.toString('utf8')
  refuseMark(text, path)
  // As cloud-init does, which looks for the header behind leading white space.
  const lines = text.trimStart().split(/\r?\n/)
  const first = lines[0] ?? ''
  if (jinja.test(first)) return checkHeader(lines[1] ?? '', path, 2)
  if (first === '') throw wrong(`${path} is empty`, 'its first line says what it is: #cloud-config')
  checkHeader(first, path, 1)
  if (first.startsWith('#!') && text.includes('\r\n'))
    throw wrong(`${path} has Windows line ends, with which no script runs`, `change them: sed -i 's/\\r$//' ${path}`)
  if (cloudConfig.test(first)) mapping(text, path)
  if (/^#cloud-config-archive\b/.test(first)) sequence(text, path)
}

function refuseMark(text: string, path: string): void {
  if (!text.startsWith('\ufeff')) return
  const hint = 'save it as UTF-8 without one: cloud-init would not know what it is'
  throw wrong(`${path}:1:1: starts with a byte order mark`, hint)
}

function checkHeader(line: string, path: string, number: number): void {
  const known = otherHeaders.some((header) => line.trimEnd() === header || line.startsWith(`${header} `))
  if (known || cloudConfig.test(line) || /^#!/.test(line) || mailHeader.test(line)) return
  const near = /^#+\s*cloud[-_ ]?config/i.test(line)
  const what = near ? `"${printable(line, 40)}" is not "#cloud-config"` : 'its first line does not say what it is'
  const hint = 'write "#cloud-config" there, all by itself; a script starts with "#!", a list of URLs with "#include"'
  throw wrong(`${path}:${number}:1: ${what}, and cloud-init would ignore it all`, hint)
}

function checkNetwork(content: Buffer, path: string): void {
  const whole = mapping(content.toString('utf8'), path)
  const inner = whole['network']
  const config = isRecord(inner) ? inner : whole
  if (config['config'] === 'disabled') return
  const version = config['version']
  if (version !== 1 && version !== 2) {
    const what = version === undefined ? 'has no version' : `has version ${printable(String(version), 20)}`
    throw wrong(`${path} ${what}`, 'cloud-init knows "version: 1" and, as netplan has it, "version: 2"')
  }
  if (version === 1 && !Array.isArray(config['config']))
    throw wrong(
      `${path} has version 1, but no list "config"`,
      'with netplan\'s keys (ethernets, ...) it is "version: 2"',
    )
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The mapping that a YAML text is; an empty one for nothing. */
function mapping(text: string, path: string): Record<string, unknown> {
  const data = yamlData(text, path)
  if (data === null || data === undefined) return {}
  if (isRecord(data)) return data
  throw wrong(`${path} must be a mapping of keys to values`, 'such as: hostname: web1')
}

function sequence(text: string, path: string): void {
  if (!Array.isArray(yamlData(text, path))) throw wrong(`${path} must be a list`, 'each item has "type" and "content"')
}

function yamlData(text: string, path: string): unknown {
  refuseMark(text, path)
  const lines = new LineCounter()
  // cloud-init reads YAML 1.1, where yes and no are truth values.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: '1.1' })
  const broken = document.errors[0]
  if (broken) {
    const { line, col } = lines.linePos(broken.pos[0])
    throw wrong(
      `${path}:${line}:${col}: ${printable(broken.message.split('\n')[0] ?? '')}`,
      'it is YAML: indentation counts, and tabs are none',
    )
  }
  try {
    return document.toJS({ maxAliasCount: 100 })
  } catch (error) {
    // Aliases without an anchor, or too many of them; "<<" with what is no mapping.
    if (!(error instanceof Error)) throw error
    throw wrong(`${path}: ${printable(error.message)}`, 'look at its anchors (&name), aliases (*name) and merges (<<)')
  }
}

function wrong(what: string, hint: string): VlbError {
  return new VlbError('VLB_CLOUD_INIT', what, { hint })
}
