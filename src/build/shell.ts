// `git vlb shell`: a shell in a snapshot, or in what a failed script left, on an overlay that is thrown away.
import { cp, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { checkEnvironment, findLayer } from '../core/plan.ts'
import { readPlain } from '../host/files.ts'
import { createOverlay } from '../image/qcow2.ts'
import type { ScriptRun } from '../image/sandbox.ts'
import { shellInImage } from '../image/shell.ts'
import { failureOfLayer, lastFailure } from '../store/failures.ts'
import { failureUse } from '../store/lease.ts'
import { overlayName, snapshotReference } from '../store/places.ts'
import type { Attempt, Failure, Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { standardEnvironment } from './job.ts'
import { prepareMounts } from './mounts.ts'
import { type LoadedSource, loadRevision, loadWorkingTree } from './project.ts'
import { buildChain } from './walk.ts'

export interface ShellRequest {
  /** A layer, a revision, or undefined for the working tree. */
  target: string | undefined
  failed: boolean
  /** Remember what is typed. */
  record: boolean
  secrets: ReadonlyMap<string, Buffer>
  /** Declared values, by name. */
  env: Record<string, string>
  terminal: boolean
  /** TERM of the caller. */
  terminalType: string
}

/** A command that was typed, and how it ended. */
export interface Typed {
  command: string
  status: number
}

export interface ShellOutcome {
  exitCode: number
  layer: string
  typed: Typed[]
}

export async function openShell(context: BuildContext, request: ShellRequest): Promise<ShellOutcome> {
  await context.store.prepare()
  return request.failed ? await shellInFailure(context, request) : await shellInSnapshot(context, request)
}

async function shellInSnapshot(context: BuildContext, request: ShellRequest): Promise<ShellOutcome> {
  const { layer, snapshot } = await builtSnapshot(context, request)
  const { id, disk } = snapshot.manifest
  const work = await shellFolder(context, request, { reference: snapshotReference(id).building })
  await mkdir(join(work, 'src'), { recursive: true })
  context.emit({ type: 'note', text: `a shell in ${layer}, as root; exit leaves, and nothing is kept` })
  const attempt = { disk, env: standardEnvironment(layer), network: true, hostname: 'localhost', secrets: [] }
  return { exitCode: await enter(context, request, work, attempt), layer, typed: await readTyped(work) }
}

/** The snapshot that is asked for, built if it is not there. */
async function builtSnapshot(
  context: BuildContext,
  request: ShellRequest,
): Promise<{ layer: string; snapshot: Snapshot }> {
  const { source, last } = await findTarget(context, request.target)
  const { secrets } = request
  try {
    checkEnvironment(source.layers, request.env)
    const options = {
      env: request.env,
      rebuild: new Set<string>(),
      frozen: false,
      dryRun: false,
      keepFailed: false,
      since: Date.now(),
    }
    const chain = await buildChain(context, source, { ...options, last, secrets })
    if (chain.failed) throw chain.failed.error
    if (!chain.top) throw new Error('a chain without a top')
    return { layer: chain.layers.at(-1)?.name ?? '', snapshot: chain.top }
  } finally {
    await source.objects.close()
  }
}

/** A layer of the working tree, by name or number; else a revision. */
async function findTarget(
  context: BuildContext,
  target: string | undefined,
): Promise<{ source: LoadedSource; last: string | undefined }> {
  const source = await loadWorkingTree(context.project)
  if (target === undefined) return { source, last: undefined }
  try {
    return { source, last: findLayer(source.layers, target).name }
  } catch (error) {
    await source.objects.close()
    if (!(error instanceof VlbError) || error.code !== 'VLB_LAYER_UNKNOWN') throw error
    const revision = await loadRevision(context.project, target).catch((other: unknown) => {
      throw other instanceof VlbError && other.code === 'VLB_REV'
        ? new VlbError(
            'VLB_LAYER_UNKNOWN',
            `no layer and no revision "${target}"`,
            error.hint ? { hint: error.hint } : {},
          )
        : other
    })
    return { source: revision, last: undefined }
  }
}

async function shellInFailure(context: BuildContext, request: ShellRequest): Promise<ShellOutcome> {
  const failure = await findFailure(context, request.target)
  const folder = context.store.path('failed', failure.key)
  const attempt = failure.attempt
  await context.store.lease.add([failureUse(failure.key)], context.signal)
  if (!attempt || !(await stat(join(folder, overlayName)).catch(() => undefined))) {
    throw new VlbError('VLB_NOTHING_KEPT', `the disk of ${failure.layer}'s failure is not kept any more`, {
      hint: 'build it again: git vlb build --keep-failed',
    })
  }
  const missing = attempt.secrets.find((id) => !request.secrets.has(id))
  if (missing) {
    throw new VlbError('VLB_SECRET', `the script of ${failure.layer} had the secret ${missing}`, {
      hint: `give it again: git vlb shell --failed --secret id=${missing},src=FILE`,
    })
  }
  const work = await shellFolder(context, request, { reference: `../../failed/${failure.key}/${overlayName}` })
  for (const name of ['src', 'include']) {
    await cp(join(folder, name), join(work, name), { recursive: true, verbatimSymlinks: true }).catch(
      (error: unknown) => {
        if (name === 'src') throw error
      },
    )
  }
  await tellFailure(context, failure)
  return { exitCode: await enter(context, request, work, attempt), layer: failure.layer, typed: await readTyped(work) }
}

async function findFailure(context: BuildContext, target: string | undefined): Promise<Failure> {
  const failure = target === undefined ? await lastFailure(context.store) : await failureOfLayer(context.store, target)
  if (failure) return failure
  throw new VlbError(
    'VLB_NOTHING_KEPT',
    target === undefined ? 'no failed build is kept' : `no failed build of ${target} is kept`,
    {
      hint: 'a shell in what was built: git vlb shell',
    },
  )
}

/** How the script ended, and where it was by then, before the shell opens. */
async function tellFailure(context: BuildContext, failure: Failure): Promise<void> {
  const log = await readFile(failure.log, 'utf8').catch(() => '')
  const note = (text: string) => context.emit({ type: 'note', text })
  note(`${failure.layer}/build-layer ended with status ${failure.exitCode}; its last lines:`)
  for (const line of log.trimEnd().split('\n').slice(-5)) note(`  | ${line}`)
  note('this is the state it left, as root; exit leaves, and nothing is kept')
}

async function shellFolder(
  context: BuildContext,
  request: ShellRequest,
  backing: { reference: string },
): Promise<string> {
  const work = await context.store.scratch.folder()
  await mkdir(join(work, 'ns'))
  if (request.record) await writeRecorder(work)
  await createOverlay(work, overlayName, { ...backing, format: 'qcow2' }, undefined, context.signal)
  return work
}

async function enter(context: BuildContext, request: ShellRequest, work: string, attempt: Attempt): Promise<number> {
  const { mounts = [], binds = [] } = attempt
  const { root } = await prepareMounts(work, attempt.disk, { mounts, binds }, 'build-layer')
  const run: ScriptRun = {
    script: '',
    interpreter: undefined,
    network: attempt.network,
    hostname: attempt.hostname,
    env: { ...attempt.env, ...(request.terminal ? { TERM: request.terminalType } : {}) },
  }
  const secrets = new Map([...request.secrets].filter(([id]) => attempt.secrets.includes(id)))
  return await shellInImage(work, root, run, {
    attach: context.attach,
    memory: context.memory,
    signal: context.signal,
    secrets,
    terminal: request.terminal,
  })
}

/**
 * bash's own record of what was typed: `history 1` has a command as it was written, also one of several lines
 * (lithist). Looked at before each prompt, with the status of what has just ended.
 */
const recorder = `[ ! -f ~/.bashrc ] || . ~/.bashrc
shopt -s cmdhist lithist
unset HISTFILE HISTTIMEFORMAT HISTIGNORE HISTFILESIZE
HISTCONTROL= HISTSIZE=100000
__vlb_record() {
  local status=$? entry number
  entry=$(builtin history 1)
  entry=\${entry#"\${entry%%[! ]*}"}
  number=\${entry%% *}
  [ "$number" != "$__vlb_last" ] || return "$status"
  __vlb_last=$number
  entry=\${entry#"$number"}
  printf '%s\\0%s\\0' "$status" "\${entry#  }" >>/run/vlb-record/typed
  return "$status"
}
__vlb_last=
PROMPT_COMMAND=__vlb_record
`

async function writeRecorder(work: string): Promise<void> {
  await mkdir(join(work, 'record'))
  await writeFile(join(work, 'record/rc'), recorder)
}

const mostTyped = 2 ** 20

async function readTyped(work: string): Promise<Typed[]> {
  const fields = (await readPlain(join(work, 'record/typed'), mostTyped)).split('\0')
  const typed: Typed[] = []
  for (let i = 0; i + 1 < fields.length; i += 2) typed.push({ status: Number(fields[i]), command: fields[i + 1] ?? '' })
  return typed.filter(({ command }) => !/^(exit|logout)\b/.test(command.trim()) && command.trim() !== '')
}

/** The script of a layer that does what was typed. What failed would end it, so it stands there as a comment. */
export function recordedScript(typed: readonly Typed[]): string {
  const commands = typed.map(({ command, status }) =>
    status === 0
      ? command
      : [`# ended with status ${status}:`, ...command.split('\n').map((line) => `# ${line}`)].join('\n'),
  )
  return `#!/bin/bash\nset -eu\n\n${commands.join('\n')}\n`
}
