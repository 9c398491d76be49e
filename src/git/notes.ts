// Notes (git-notes(1)) written and read without git-notes itself, which has no way to say "only if nobody else wrote
// meanwhile". `git fast-import` has: it makes blobs, note and commit in one process, sorts the note into the folders that
// git-notes would, and moves the ref only if the new commit stands on what the ref names by then.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { printable } from '../core/errors.ts'
import { treeId } from '../core/ids.ts'
import { ask, spawn, ToolError } from '../host/run.ts'
import type { Objects } from './objects.ts'
import { gitRead, type Repository } from './repo.ts'

export const notesRef = 'refs/notes/vlb'

/** A text that differs when the ref was moved or deleted, found without a process; '' if there is surely no such ref. */
export async function notesState(repo: Repository): Promise<string> {
  const read = async (name: string) => await readFile(join(repo.commonDir, name), 'utf8').catch(() => '')
  const loose = (await read(notesRef)).trim()
  if (loose !== '') return loose
  const packed = (await read('packed-refs')).split('\n').find((line) => line.endsWith(` ${notesRef}`))
  if (packed !== undefined) return packed
  // A reftable is not ours to read, but its list of tables changes with any ref.
  const tables = await read('reftable/tables.list')
  return tables === '' ? '' : `reftable ${createHash('sha256').update(tables).digest('hex')}`
}

/** The commit that the ref names. */
export async function notesTip(repo: Repository): Promise<string | undefined> {
  const state = await notesState(repo)
  if (state === '') return undefined
  // A file of a ref, and a line of packed-refs, begin with it (gitrepository-layout(5)).
  const tip = /^[0-9a-f]{40,64}(?=$| )/.exec(state)?.[0]
  if (tip !== undefined && tip.length === (repo.objectFormat === 'sha256' ? 64 : 40)) return tip
  const { stdout } = await ask('git', ['rev-parse', '--verify', '--quiet', `${notesRef}^{commit}`], {
    cwd: repo.cwd,
    ok: [0, 1],
  })
  return stdout.trim() || undefined
}

/** The note of an object, as of the notes commit `tip`; undefined if there is none. */
export async function readNote(objects: Objects, tip: string, target: string): Promise<Buffer | undefined> {
  let tree = await objects.treeOf(tip)
  // Notes lie flat, or in folders named by the next two digits, as many levels deep as git found good.
  for (let rest = target; rest.length > 0; rest = rest.slice(2)) {
    const entries = await objects.tree(tree)
    const note = entries.find(({ name, mode }) => name === rest && mode !== '40000')
    if (note) return await objects.blob(note.oid)
    const folder = entries.find(({ name, mode }) => name === rest.slice(0, 2) && mode === '40000')
    if (!folder) return undefined
    tree = treeId(folder.oid)
  }
  return undefined
}

/** The id that git gives a blob. */
export function blobId(repo: Repository, content: Buffer): string {
  const hash = createHash(repo.objectFormat === 'sha256' ? 'sha256' : 'sha1')
  return hash.update(`blob ${content.length}\0`).update(content).digest('hex')
}

export interface NoteChange {
  /** The object that the note is about. */
  target: string
  /** From the note as it is; empty for no note yet. The same text: nothing is written. */
  edit: (note: string) => string
  /**
   * Blobs that the note speaks of. Each goes into the notes as the note of itself, so that fetching the ref brings it, and
   * every way to merge notes keeps it.
   */
  blobs: readonly Buffer[]
  message: string
}

/** How often somebody else may be quicker. */
const attempts = 20

/** Changes a note; opens the objects anew for each attempt, for others write, too. Throws if git cannot write. */
export async function changeNote(
  repo: Repository,
  open: () => Promise<Objects>,
  change: NoteChange,
): Promise<'written' | 'unchanged'> {
  const committer = committerOf(repo)
  committer.catch(() => {})
  for (let attempt = 1; ; attempt++) {
    const [tip, objects] = await Promise.all([notesTip(repo), open()])
    let note: string
    const blobs: Buffer[] = []
    try {
      const before = tip === undefined ? undefined : await readNote(objects, tip, change.target)
      note = change.edit(before?.toString('utf8') ?? '')
      if (note === (before?.toString('utf8') ?? '')) return 'unchanged'
      for (const blob of change.blobs)
        if (tip === undefined || !(await readNote(objects, tip, blobId(repo, blob)))) blobs.push(blob)
    } finally {
      await objects.close()
    }
    const failed = await fastImport(repo, importStream(repo, await committer, tip, { ...change, blobs }, note))
    if (!failed) return 'written'
    // Somebody else moved the ref, or is just moving it.
    const contended = /Not updating|cannot lock ref|Unable to create .*\.lock/s.test(failed.stderr)
    if (!contended || attempt === attempts) throw failed
    await delay(10 + Math.random() * 20 * attempt)
  }
}

/** git-fast-import(1), INPUT FORMAT. */
function importStream(
  repo: Repository,
  committer: string,
  tip: string | undefined,
  { target, blobs, message }: NoteChange,
  note: string,
): Buffer {
  const data = (content: Buffer) => [Buffer.from(`data ${content.length}\n`), content, Buffer.from('\n')]
  const line = (text: string) => Buffer.from(`${text}\n`)
  return Buffer.concat([
    ...blobs.flatMap((blob, i) => [line('blob'), line(`mark :${i + 1}`), ...data(blob)]),
    line(`commit ${notesRef}`),
    line(`committer ${committer} ${Math.floor(Date.now() / 1000)} +0000`),
    ...data(Buffer.from(message)),
    ...(tip === undefined ? [] : [line(`from ${tip}`)]),
    ...blobs.map((blob, i) => line(`M 100644 :${i + 1} ${blobId(repo, blob)}`)),
    line(`N inline ${target}`),
    ...data(Buffer.from(note)),
    line('done'),
  ])
}

/** The user as configured. git would guess one from the host's name, or refuse. */
async function committerOf(repo: Repository): Promise<string> {
  try {
    const ident = await gitRead(repo.cwd, ['-c', 'user.useConfigOnly=true', 'var', 'GIT_COMMITTER_IDENT'])
    return ident.slice(0, ident.lastIndexOf('>') + 1)
  } catch (error) {
    if (!(error instanceof ToolError)) throw error
    return 'git vlb <git-vlb@localhost>'
  }
}

async function fastImport(repo: Repository, stream: Buffer): Promise<ToolError | undefined> {
  const args = ['fast-import', '--quiet', '--done', '--date-format=raw']
  const child = spawn('git', args, { cwd: repo.cwd })
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-4000)))
  child.stdin?.end(stream)
  const { exitCode, signal } = await child.ended
  return exitCode === 0 ? undefined : new ToolError('git', args, { exitCode, signal, stderr: printable(stderr, 4000) })
}
