// The record of a build: what the image of a commit was made of, as one line of JSON in the commit's note. A note holds a
// line for each project of the repository, so that merging two notes is a matter of lines (git-notes(1),
// cat_sort_uniq). Lines come from other clones, too: what is not a sound record is passed over, and kept.
import { isLayerName } from './layer.ts'
import { areTexts } from './shape.ts'

export interface RecordedLayer {
  /** Of the folder; `disk` for the step that grows the disk. */
  name: string
  kind: string
  /** Of the folder; absent for `disk`. */
  tree?: string
  key: string
  contentId: string
  /** Bytes its snapshot takes on the disk of the host that built it. */
  bytes: number
  /** SHA-256 of its package list. */
  packages?: string
}

export interface BuildRecord {
  /** Version of this form. */
  vlb: 1
  /** Folder of vlb.yaml below the repository's top; '' for the top. */
  path: string
  project: string
  /** When the last of the layers was built, ISO 8601. */
  builtAt: string
  /** Version of git vlb, and of what its engine does to images. */
  version: string
  engine: number
  /** As `uname -m` names it. */
  arch: string
  /** Digest of the base that vlb.yaml names. */
  base?: string
  /** Names of the values given with --env: without them, another image. */
  given?: string[]
  layers: RecordedLayer[]
  /** Git blobs of the package lists, by their SHA-256. */
  lists: Record<string, string>
  /** The main image, where its digest was asked for. */
  image?: RecordedImage
  /** What others add, say the results of tests. Kept as long as the image is the same. */
  [more: string]: unknown
}

export interface RecordedImage {
  format: string
  bytes: number
  sha256: string
}

/** A pass of the checks, as `tests` of a record. */
export interface RecordedTests {
  /** ISO 8601. */
  at: string
  /** Tree of the folder with the checks; absent where there are built-in ones only. */
  tree?: string
  /** How many there were. */
  checks: number
  /** What they ran on. */
  machines: string[]
}

const own = [
  'vlb',
  'path',
  'project',
  'builtAt',
  'version',
  'engine',
  'arch',
  'base',
  'given',
  'layers',
  'lists',
  'image',
] as const

/** The sound records of a note. */
export function parseRecords(note: string): BuildRecord[] {
  return note.split('\n').flatMap((line) => parseRecord(line) ?? [])
}

function parseRecord(line: string): BuildRecord | undefined {
  if (!line.startsWith('{')) return undefined
  let data: Partial<BuildRecord> | null
  try {
    data = JSON.parse(line) as Partial<BuildRecord> | null
  } catch {
    return undefined
  }
  const sound =
    data?.vlb === 1 &&
    areTexts(data.path, data.project, data.builtAt, data.version, data.arch) &&
    Array.isArray(data.layers) &&
    data.layers.every(isLayer) &&
    (data.base === undefined || typeof data.base === 'string') &&
    (data.given === undefined || (Array.isArray(data.given) && areTexts(...data.given))) &&
    (data.image === undefined || isImage(data.image)) &&
    typeof data.lists === 'object' &&
    data.lists !== null &&
    Object.values(data.lists).every((blob) => /^[0-9a-f]{40,64}$/.test(String(blob)))
  return sound ? (data as BuildRecord) : undefined
}

function isImage(image: Partial<RecordedImage> | null): boolean {
  return areTexts(image?.sha256, image?.format) && Number.isFinite(image?.bytes)
}

function isLayer(layer: Partial<RecordedLayer> | null): boolean {
  return (
    areTexts(layer?.name, layer?.kind, layer?.key, layer?.contentId) &&
    Number.isFinite(layer?.bytes) &&
    (layer?.tree === undefined || areTexts(layer.tree)) &&
    (layer?.packages === undefined || areTexts(layer.packages)) &&
    (layer?.name === 'disk' || isRecordedName(layer?.name ?? ''))
  )
}

function isRecordedName(name: string): boolean {
  try {
    return isLayerName(name)
  } catch {
    return false
  }
}

/** The record of a project in a note. Where several clones left one, the newest; one without --env goes first. */
export function findRecord(note: string, path: string): BuildRecord | undefined {
  const given = (record: BuildRecord) => record.given?.length ?? 0
  return parseRecords(note)
    .filter((record) => record.path === path)
    .sort((a, b) => given(a) - given(b) || (a.builtAt < b.builtAt ? 1 : -1))[0]
}

/** The same project, and the same values given. */
function isVariantOf(a: BuildRecord, b: BuildRecord): boolean {
  return a.path === b.path && JSON.stringify(a.given ?? []) === JSON.stringify(b.given ?? [])
}

/** What decides on whether a record is news: not the program that found the same again. */
export function recordText({ version: _, lists: __, ...record }: BuildRecord): string {
  return JSON.stringify(record)
}

/**
 * A note with the record in it, in place of what was there of that project; the same text if it says so already. What else
 * the note holds stays before the records, as it is.
 */
export function withRecord(note: string, record: BuildRecord): string {
  const before = parseRecords(note).filter((one) => isVariantOf(one, record))
  const complete = completed(record, before)
  if (before.some((one) => recordText(one) === recordText(complete))) return note
  const words: string[] = []
  const records = [JSON.stringify(complete)]
  for (const line of note.replace(/\n+$/, '').split('\n')) {
    const one = parseRecord(line)
    if (!one) words.push(line)
    else if (!isVariantOf(one, record)) records.push(line)
  }
  const lines = [...(words.join('') === '' ? [] : words), ...records.sort()]
  return `${lines.join('\n')}\n`
}

/** A note whose records of that project and image, by the content id of its last layer, tell of the tests it passed. */
export function withTests(note: string, path: string, contentId: string, tests: RecordedTests): string {
  const lines = note.split('\n').map((line) => {
    const one = parseRecord(line)
    if (!one || one.path !== path || one.layers.at(-1)?.contentId !== contentId) return line
    return JSON.stringify({ ...one, tests })
  })
  return lines.join('\n')
}

/** With what an earlier record of the same image knows besides. */
function completed(record: BuildRecord, before: readonly BuildRecord[]): BuildRecord {
  const top = (one: BuildRecord) => one.layers.at(-1)?.contentId
  const same = before.find((one) => top(one) === top(record))
  if (!same) return record
  const more = Object.entries(same).filter(([name]) => !own.includes(name as (typeof own)[number]))
  const image = record.image ?? same.image
  return { ...record, ...(image ? { image } : {}), ...Object.fromEntries(more) }
}
