// Brings index, working tree and HEAD from one commit to another in which folders have moved. Three things that no file
// system changes at once: so a plan of it, the journal, lies in the worktree's git folder before anything is touched, and
// a small script does it in milliseconds, deaf to signals and in a session of its own, so that it ends what it began when
// we are killed. If it is killed, too, the next git vlb command finds the journal: where HEAD moved already, the rest is
// done; where not, all is undone.
import { existsSync } from 'node:fs'
import { copyFile, mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import type { Move } from '../core/rollup.ts'
import { spawn } from '../host/run.ts'
import { busy } from './moves.ts'
import { gitPath, headCommit, type Repository } from './repo.ts'

export interface Switch {
  /** Folder that the paths are in; absolute. */
  folder: string
  moves: readonly Move[]
  /** The folder that all move to: each `to` is below it. */
  name: string
  /** Folders that are empty then, inner ones first. */
  emptied: readonly string[]
  /** The index file to come, and what the present one was when that was made. */
  index: string
  before: string
  /** What HEAD is. */
  old: string
  /** What it is to be; undefined to leave it. */
  commit: string | undefined
  /** For the reflog. */
  message: string
}

const journalName = 'vlb-rollup'

/** Folders go to a stage first, which is renamed when it is complete: the new one may have the name of one of them. */
const script = `trap '' INT TERM HUP QUIT PIPE
mode=$1 journal=$2 index=$3 prepared=$4
exec 9>"$journal.lock"
if [ "$mode" = switch ]; then flock -w 10 9 || exit 15; else flock 9; fi
# By its last name it is complete, and counts. What it has without that, whoever wrote it was killed.
write_journal() {
  cp -R --preserve=mode -- "$prepared" "$journal.new" &&
    sync -- "$journal.new"/* "$journal.new" && mv -T -- "$journal.new" "$journal" && sync -- "$(dirname -- "$journal")"
}
rm -rf -- "$journal.new"
[ -f "$journal/ready" ] || rm -rf -- "$journal"
if [ "$mode" = switch ]; then
  [ ! -e "$journal" ] || exit 15
  write_journal || { rm -rf -- "$journal.new" "$journal"; exit 13; }
fi
[ -f "$journal/ready" ] || exit 0
{ IFS= read -r old; IFS= read -r new; IFS= read -r before; IFS= read -r name; IFS= read -r witness
  IFS= read -r message; IFS= read -r folder; } <"$journal/ready"
stage=.vlb-rollup
cd "$folder" || exit 13
tab=$(printf '\\t')
state() { stat -c '%d:%i:%s:%.9Y:%.9Z' -- "$index" 2>/dev/null; }
ours() { [ "$index.lock" -ef "$journal/index" ]; }
close() { rm -f "$journal/ready"; rm -rf "$journal"; }
back() {
  failed=
  # The stage has its last name already, and the folders are not where they were.
  if [ ! -d "$stage" ] && [ ! -e "$witness" ] && [ -d "$name" ]; then
    mv -T -- "$name" "$stage" || failed=yes
  fi
  while IFS=$tab read -r from to; do
    if [ -e "$stage/$to" ] && [ ! -e "$from" ]; then
      mkdir -p -- "$(dirname -- "$from")" && mv -T -- "$stage/$to" "$from" || failed=yes
    fi
  done <"$journal/moves"
  while read -r empty; do mkdir -p -- "$empty"; done <"$journal/emptied"
  if [ -d "$stage" ]; then rmdir -- "$stage/layers" "$stage"; fi
  ! ours || rm -f -- "$index.lock"
  # Whoever comes next tries again.
  [ -z "$failed" ] || exit 14
  close
}
undo() { back; exit "$1"; }
take_index() {
  ours || ln -- "$journal/index" "$index.lock" 2>/dev/null || return 1
}
if [ "$mode" = recover ]; then
  if [ -n "$new" ]; then
    [ "$(git rev-parse --verify --quiet HEAD 9>&-)" = "$new" ] || git merge-base --is-ancestor "$new" HEAD 9>&-
  else
    [ "$(state)" != "$before" ]
  fi 2>/dev/null && done=yes || done=
  [ -n "$done" ] || { back; echo back; exit 0; }
  if [ "$(state)" = "$before" ]; then
    take_index || exit 10
    mv -fT -- "$index.lock" "$index"
  else ! ours || rm -f -- "$index.lock"
  fi
  close; echo forth; exit 0
fi
take_index || { close; [ -e "$index.lock" ] && exit 10 || exit 13; }
[ "$(state)" = "$before" ] || undo 11
mkdir -- "$stage" "$stage/layers" || undo 13
while IFS=$tab read -r from to; do mv -T -- "$from" "$stage/$to" || undo 13; done <"$journal/moves"
while read -r empty; do rmdir -- "$empty" || undo 13; done <"$journal/emptied"
[ ! -e "$name" ] || { echo "$name is there already" >&2; undo 13; }
mv -T -- "$stage" "$name" || undo 13
if [ -n "$new" ]; then git update-ref --create-reflog -m "$message" HEAD "$new" "$old" 9>&- || undo 12; fi
mv -fT -- "$index.lock" "$index"
close`

/** Does it, or nothing: throws with everything as it was. `scratch`: a folder that does not outlive us. */
export async function switchTo(where: Repository, plan: Switch, scratch: string): Promise<void> {
  const repo = fromTop(where)
  const journal = join(repo.gitDir, journalName)
  const prepared = join(scratch, journalName)
  await prepareJournal(prepared, plan)
  const { exitCode, stderr } = await runScript(repo, 'switch', journal, prepared)
  if (exitCode === 0) return
  if (exitCode === undefined) {
    // Somebody killed it, and not us.
    if ((await recoverSwitch(repo)) !== 'back' && (await isDone(repo, plan))) return
    throw new VlbError(
      'VLB_KILLED',
      'the process that moves the layer folders was killed, and what it did was undone',
      {
        hint: 'run the command again',
      },
    )
  }
  if (exitCode === 14) throw stuck(journal, stderr)
  const nothing = 'nothing was changed'
  if (exitCode === 10 || exitCode === 15) throw busy(await gitPath(repo, 'index.lock'))
  if (exitCode === 11 || exitCode === 12) {
    const what = exitCode === 11 ? 'the index changed meanwhile' : `git did not move HEAD: ${lastLine(stderr)}`
    throw new VlbError('VLB_BUSY', what, { hint: `${nothing}; run the command again` })
  }
  throw new VlbError('VLB_GIT', `the layer folders could not be moved: ${lastLine(stderr)}`, {
    hint: `${nothing}; see who may write there, and that none of them is a mount point`,
  })
}

function stuck(journal: string, stderr: string): VlbError {
  return new VlbError('VLB_GIT', `layer folders could not be moved back: ${lastLine(stderr)}`, {
    hint: `they lie in .vlb-rollup/layers beside vlb.yaml; the next git vlb command tries again; to do it by hand, see ${join(journal, 'moves')}, and rm -r ${journal} in the end`,
  })
}

/** We may have been started in one of the folders that move. */
function fromTop(repo: Repository): Repository {
  return { ...repo, cwd: repo.worktree ?? repo.cwd }
}

async function isDone(repo: Repository, { folder, name, commit }: Switch): Promise<boolean> {
  if (commit !== undefined) return (await headCommit(repo)) === commit
  return (await stat(join(folder, name, 'layers')).catch(() => undefined)) !== undefined
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.slice(0, 300) || 'it did not say why'

/** The script copies it to where it counts, under its lock. */
async function prepareJournal(folder: string, plan: Switch): Promise<void> {
  const text = (lines: readonly string[]) => lines.map((line) => `${line}\n`).join('')
  const inStage = (to: string) => to.slice(plan.name.length + 1)
  const witness = plan.moves.find(({ from }) => from.split('/')[0] !== plan.name)?.from ?? ''
  const lines = [plan.old, plan.commit ?? '', plan.before, plan.name, witness, plan.message, plan.folder]
  if (lines.some((line) => line.includes('\n')))
    throw new VlbError('VLB_GIT', 'the path of the project holds a line break', { hint: 'rename its folder' })
  await mkdir(folder)
  await copyFile(plan.index, join(folder, 'index'))
  await writeFile(join(folder, 'moves'), text(plan.moves.map(({ from, to }) => `${from}\t${inStage(to)}`)))
  await writeFile(join(folder, 'emptied'), text(plan.emptied))
  await writeFile(join(folder, 'ready'), text(lines))
}

async function runScript(
  repo: Repository,
  mode: 'switch' | 'recover',
  journal: string,
  prepared = '',
): Promise<{ exitCode: number | undefined; stdout: string; stderr: string }> {
  const args = ['-c', script, 'git-vlb-switch', mode, journal, await gitPath(repo, 'index'), prepared]
  // Not tethered: it must end what it began.
  const child = spawn('sh', args, { cwd: repo.worktree ?? repo.cwd, tether: false })
  const said = { stdout: '', stderr: '' }
  child.stdin?.end()
  child.stdout?.on('data', (chunk: Buffer) => (said.stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => (said.stderr += chunk.toString()))
  return { exitCode: (await child.ended).exitCode, ...said }
}

/** Ends or undoes what was cut off, if there is anything. Costs the usual command a look at two names. Returns what it did. */
export async function recoverSwitch(where: Repository): Promise<'back' | 'forth' | undefined> {
  const journal = join(where.gitDir, journalName)
  if (!existsSync(journal) && !existsSync(`${journal}.new`)) return undefined
  const repo = fromTop(where)
  const { exitCode, stdout, stderr } = await runScript(repo, 'recover', journal)
  if (exitCode === 14) throw stuck(journal, stderr)
  const did = stdout.trim()
  if (exitCode === 0) return did === 'back' || did === 'forth' ? did : undefined
  throw new VlbError('VLB_GIT', `a rollup that was cut off cannot be ended: ${lastLine(stderr)}`, {
    hint: `if no other git command is at work here: rm ${await gitPath(repo, 'index.lock')}, and run the command again; to leave all as it is: rm -r ${journal}`,
  })
}
