// Records of builds: kept in the notes of the commits that were built, read back for comparisons of what was built when.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import packageJson from '../../package.json' with { type: 'json' }
import { hasErrorCode, printable } from '../core/errors.ts'
import { type Digest, short } from '../core/ids.ts'
import { engineVersion } from '../core/key.ts'
import { packagesName } from '../core/packages.ts'
import { type BuildRecord, type RecordedTests, recordText, withRecord, withTests } from '../core/record.ts'
import type { BuiltImage } from '../core/results-build.ts'
import { blobId, changeNote, notesState } from '../git/notes.ts'
import { openObjects } from '../git/objects.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import type { LoadedSource } from './project.ts'

/** A whole chain, every step of it there. */
export interface CompleteChain {
  base: Digest | undefined
  steps: { name: string; snapshot: Snapshot }[]
}

export interface Recorded {
  chain: CompleteChain
  /** Values of --env. */
  env: Record<string, string>
  /** The image that vlb.yaml describes, if it was written so. */
  image: BuiltImage | undefined
}

/**
 * Keeps the record of a build in the note of its commit. Only what a commit alone makes up is recorded: nothing for a
 * working tree with changes. Never fails a build: where the note cannot be written, a warning says why.
 */
export async function keepRecord(context: BuildContext, source: LoadedSource, built: Recorded): Promise<void> {
  const { commit } = source
  if (commit === undefined || !source.clean || !wantsNotes(context)) return
  const record = makeRecord(context, source, built)
  const memory = memoryFile(context, commit, record)
  const digest = createHash('sha256').update(recordText(record)).digest('hex')
  const remembered = await readFile(context.store.path(...memory), 'utf8').catch(() => '')
  const state = await notesState(context.project.repo)
  if (state !== '' && remembered === `${digest} ${state}\n`) return
  try {
    await writeRecord(context, source, commit, record, built.chain)
    await context.store.write(memory, `${digest} ${await notesState(context.project.repo)}\n`)
  } catch (error) {
    warn(context, 'this build', error)
  }
}

/** Adds a pass of the checks to the record of the image with that content id, if there is one. Never fails a test. */
export async function keepTests(
  context: BuildContext,
  source: LoadedSource,
  contentId: string,
  tests: RecordedTests,
): Promise<void> {
  const { commit } = source
  if (commit === undefined || !source.clean || source.checksDirty || !wantsNotes(context)) return
  const { repo, prefix } = context.project
  try {
    await changeNote(repo, () => openObjects(repo), {
      target: commit,
      edit: (note) => withTests(note, prefix, contentId, tests),
      blobs: [],
      message: `git vlb: tested ${short(commit)}${prefix === '' ? '' : ` (${prefix})`}\n`,
    })
  } catch (error) {
    warn(context, 'these tests', error)
  }
}

function warn(context: BuildContext, what: string, error: unknown): void {
  context.signal.throwIfAborted()
  const said = error instanceof Error ? error.message.replace(/\s+/g, ' ') : String(error)
  const text = `no record of ${what} could be kept in git (refs/notes/vlb): ${printable(said)}; to keep none: git config vlb.notes false`
  context.emit({ type: 'warning', text })
}

function wantsNotes({ project }: BuildContext): boolean {
  return !['false', 'no', 'off', '0'].includes((project.settings.get('notes') ?? 'true').toLowerCase())
}

/** Where is noted that a record was kept, so that the next build need not ask git. */
function memoryFile(context: BuildContext, commit: string, { path, given = [] }: BuildRecord): string[] {
  const what = JSON.stringify([context.project.repo.commonDir, path, commit, given])
  return ['records', createHash('sha256').update(what).digest('hex').slice(0, 40)]
}

export function makeRecord(context: BuildContext, source: LoadedSource, built: Recorded): BuildRecord {
  const { base, steps } = built.chain
  const given = Object.keys(built.env).sort()
  const { image } = built
  return {
    vlb: 1,
    path: context.project.prefix,
    project: source.config.name,
    builtAt: steps.map(({ snapshot }) => snapshot.manifest.builtAt).reduce((a, b) => (a > b ? a : b), ''),
    version: packageJson.version,
    engine: engineVersion,
    arch: context.arch,
    ...(base === undefined ? {} : { base }),
    ...(given.length === 0 ? {} : { given }),
    layers: steps.map(({ name, snapshot: { manifest } }) => ({
      name,
      kind: manifest.inputs.kind,
      ...(manifest.inputs.tree === undefined ? {} : { tree: manifest.inputs.tree }),
      key: manifest.key,
      contentId: manifest.contentId,
      bytes: manifest.bytes,
      ...(manifest.packages === undefined ? {} : { packages: manifest.packages.digest }),
    })),
    lists: {},
    ...(image?.sha256 ? { image: { format: image.format, bytes: image.bytes, sha256: image.sha256 } } : {}),
  }
}

async function writeRecord(
  context: BuildContext,
  { objects }: LoadedSource,
  commit: string,
  record: BuildRecord,
  chain: CompleteChain,
): Promise<void> {
  const { repo } = context.project
  const lists = await packageLists(context, chain)
  const complete = {
    ...record,
    lists: Object.fromEntries([...lists].map(([digest, content]) => [digest, blobId(repo, content)])),
  }
  // Those of the source, which stay open; what they do not know yet, git looks for.
  const open = async () => ({ ...objects, close: async () => {} })
  await changeNote(repo, open, {
    target: commit,
    edit: (note) => withRecord(note, complete),
    blobs: [...lists.values()],
    message: `git vlb: built ${short(commit)}${record.path === '' ? '' : ` (${record.path})`}\n`,
  })
}

/** By digest. A list that is gone or was never made is left out. */
async function packageLists(context: BuildContext, { steps }: CompleteChain): Promise<Map<string, Buffer>> {
  const lists = new Map<string, Buffer>()
  for (const { snapshot } of steps) {
    const { id, packages } = snapshot.manifest
    if (!packages || lists.has(packages.digest)) continue
    try {
      lists.set(packages.digest, await readFile(context.store.path('snapshots', id, packagesName)))
    } catch (error) {
      if (!hasErrorCode(error, 'ENOENT')) throw error
    }
  }
  return lists
}
