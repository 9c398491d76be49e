// `git vlb test-boot --check`: the checks of a project and the built-in ones, carried into a throw-away overlay on the
// image, run there by an agent after the system has come up, and reported over a serial line of their own.
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, rename, writeFile } from 'node:fs/promises'
import { availableParallelism, freemem } from 'node:os'
import { join } from 'node:path'
import {
  allPassed,
  type BuiltinCheck,
  builtin,
  type Check,
  type CheckResult,
  checksFolder,
  findChecks,
  verdict,
} from '../core/checks.ts'
import type { MachineSettings } from '../core/config.ts'
import { chooseRoot, parseProbe, rootPartition } from '../core/disk.ts'
import { printable, VlbError } from '../core/errors.ts'
import type { Event } from '../core/events.ts'
import { machineNames, runSideBySide } from '../core/machines.ts'
import type { DiskFormat } from '../core/output.ts'
import type { BootVerdict, CheckedMachine } from '../core/results-boot.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import { materialise } from '../git/materialise.ts'
import { createOverlay, virtualSize } from '../image/qcow2.ts'
import { installChecks, probe } from '../image/sandbox.ts'
import { overlayName } from '../store/places.ts'
import agent from '../vm/agent.sh'
import { CheckLine } from '../vm/check-line.ts'
import { type BootOutcome, bootGuest } from '../vm/console.ts'
import { freshVariables, type Uefi } from '../vm/firmware.ts'
import type { Accelerator, Forward } from '../vm/qemu.ts'
import { Transcript } from '../vm/transcript.ts'
import type { BuildContext } from './context.ts'
import { copyToKeep, keepOverlay } from './kept.ts'
import { prepareMounts } from './mounts.ts'
import type { LoadedSource } from './project.ts'

/** Bytes of output that the agent keeps of one check. */
const outputBytes = 32 * 1024

/** What goes into the guest, until it is the runner's turn: that clears src/ after each of its actions. */
const guestFiles = 'guest'

/** Seconds for what the agent does around a check, on a slow host; and for what it does before and after all. */
const perCheck = 15
const around = 60

/** What is to be run, with the project's files written to a scratch folder. */
export interface CheckPlan {
  checks: Check[]
  /** Scratch folder that becomes the one to attach from. */
  work: string
  /** `disk.root` of vlb.yaml. */
  root: string | undefined
  /** Bytes that the disk must have, where vlb.yaml says. */
  diskSize: number | undefined
}

/** Reads and writes out what `source` has of checks. Throws VLB_CHECK or VLB_DIRECTIVE for one that cannot run. */
export async function planChecks(
  context: BuildContext,
  source: LoadedSource,
  builtins: readonly BuiltinCheck[],
): Promise<CheckPlan> {
  const { objects, config } = source
  const entries = source.checks ? await objects.tree(source.checks) : []
  const own = await findChecks(entries, (entry) => objects.blob(entry.oid))
  const checks = [...builtins.map(builtin), ...own]
  if (checks.length === 0) {
    throw new VlbError('VLB_USAGE', 'there is nothing to check: no checks/NN_name, and no built-in check', {
      hint: `write one to ${checksFolder}/10_name, executable; or leave boot.builtin-checks out of vlb.yaml`,
    })
  }
  await context.store.prepare()
  const work = await context.store.scratch.folder()
  await mkdir(join(work, guestFiles))
  const target = join(work, guestFiles, checksFolder)
  if (source.checks) {
    const git = { repo: context.project.repo, objects, env: source.env, signal: context.signal }
    await materialise(git, source.checks, target, checksFolder)
  } else await mkdir(target)
  return { checks, work, root: config.disk.root, diskSize: config.disk.size }
}

export interface CheckRun {
  plan: CheckPlan
  image: { path: string; format: DiskFormat }
  machines: readonly MachineSettings[]
  accelerator: Accelerator
  forwards: readonly Forward[]
  seed: string | undefined
  /** What the console must say, too. */
  expect: readonly RegExp[]
  /** Boot by UEFI. */
  uefi: Uefi | undefined
  /** Seconds until the system must have come up. */
  timeout: number
  /** Keep the overlays that the guests write to, in build/. */
  keep: boolean
}

/** Boots each machine and runs all checks on it. `hostFault`: what went wrong says nothing about the image. */
export async function runChecks(
  context: BuildContext,
  run: CheckRun,
): Promise<{ machines: CheckedMachine[]; verdict: BootVerdict; hostFault: boolean }> {
  const nonce = randomBytes(16).toString('hex')
  const init = await prepareOverlay(context, run, nonce)
  const names = machineNames(run.machines, formatBytes)
  const host = { cpus: availableParallelism(), memory: freemem() }
  const done = await runSideBySide(run.machines, host, async (machine, i) => {
    const alone = run.machines.length === 1
    const job = { run, machine, init, nonce, name: names[i] ?? '', alone, number: alone ? undefined : i + 1 }
    return await checkMachine(context, job)
  })
  const verdict = done.map((one) => one.verdict).find((one) => one !== 'booted') ?? 'booted'
  return { machines: done.map(({ machine }) => machine), verdict, hostFault: done.some(({ hostFault }) => hostFault) }
}

/** An overlay on the image with the checks in it; what starts them. */
async function prepareOverlay(context: BuildContext, run: CheckRun, nonce: string): Promise<'systemd' | 'other'> {
  const { plan, image } = run
  const { work } = plan
  await mkdir(join(work, 'ns'))
  await createOverlay(work, overlayName, { reference: image.path, format: image.format }, undefined, context.signal)
  const overlay = join(work, overlayName)
  let said = ''
  const runner = {
    attach: context.attach,
    signal: context.signal,
    onOutput: (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(-4000)
    },
  }
  try {
    const found = parseProbe(await probe(work, overlay, 'qcow2', runner), await virtualSize(overlay))
    const layout = chooseRoot(found, plan.root, printable(image.path))
    const settings = {
      nonce,
      limit: outputBytes,
      disk: plan.diskSize ?? layout.size,
      root: rootPartition(layout).size,
      sync: run.keep ? 1 : 0,
    }
    await writeGuestFiles(plan, settings)
    const { root } = await prepareMounts(work, layout)
    await rename(join(work, guestFiles), join(work, 'src'))
    return await installChecks(work, root, runner)
  } catch (error) {
    if (!(error instanceof VlbError)) throw error
    const last = said.trimEnd().split('\n').at(-1)
    const hint =
      error.code === 'VLB_CHECK' ? 'the checks need a shell and an init in the image, and room for them' : error.hint
    throw new VlbError(error.code, last ? `${error.message} (${printable(last)})` : error.message, {
      hint: hint ?? '',
    })
  }
}

/** What the agent reads: values of settings are hexadecimal or decimal numbers, names have been checked. */
async function writeGuestFiles({ checks, work }: CheckPlan, settings: Record<string, string | number>): Promise<void> {
  const lines = checks.map(({ name, builtin, timeout }, i) => {
    const what = builtin ? `builtin ${name.replaceAll('-', '_')}` : `own ${name}`
    return `${i} ${timeout} ${what}\n`
  })
  const values = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`)
  await writeFile(join(work, guestFiles, 'plan'), lines.join(''))
  await writeFile(join(work, guestFiles, 'settings'), values.join(''))
  await writeFile(join(work, guestFiles, 'agent'), agent)
  await chmod(join(work, guestFiles, 'agent'), 0o755)
}

interface Job {
  run: CheckRun
  machine: MachineSettings
  init: 'systemd' | 'other'
  nonce: string
  name: string
  /** No other machine's console would mix with this one's. */
  alone: boolean
  /** Where there are others. */
  number: number | undefined
}

async function checkMachine(
  context: BuildContext,
  job: Job,
): Promise<{ machine: CheckedMachine; verdict: BootVerdict; hostFault: boolean }> {
  const { run, name, alone } = job
  const { checks } = run.plan
  const started = performance.now()
  const transcript = new Transcript()
  const emit = (event: Event) => {
    if (event.type === 'console') transcript.push(event.chunk)
    if (event.type !== 'console' || alone) context.emit(event)
  }
  const folder = await context.store.scratch.folder()
  const overlay = join(run.plan.work, overlayName)
  const kept = run.keep ? await copyToKeep(context, { image: run.image, overlay, number: job.number }) : undefined
  const disk = { image: kept?.path ?? overlay, writable: kept !== undefined }
  const line = await CheckLine.open(folder, {
    checks,
    nonce: job.nonce,
    onNews: (news) => {
      if (news.type === 'ended') emit({ type: 'note', text: progress(news.result, alone ? undefined : name) })
    },
  })
  try {
    const outcome = await boot(context, job, { line, folder, disk, emit })
    const seconds = (performance.now() - started) / 1000
    const checked = machineResult(job, outcome, line, {
      seconds,
      tail: transcript.lastLines(12),
      kept: kept ? await keepOverlay(context, kept) : null,
    })
    return { machine: checked, verdict: outcome.verdict, hostFault: outcome.hostFault }
  } finally {
    await line.close()
  }
}

/** `check 10_web: passed (0.3 s)`. */
function progress({ name, state, seconds }: CheckResult, machine: string | undefined): string {
  const what = { passed: 'passed', failed: 'failed', timeout: 'took too long', skipped: 'skipped', 'not-run': '' }[
    state
  ]
  return `check ${name}${machine ? ` (${machine})` : ''}: ${what} (${formatSeconds(seconds)})`
}

async function boot(
  context: BuildContext,
  { run, machine, init }: Job,
  {
    line,
    folder,
    disk,
    emit,
  }: {
    line: CheckLine
    folder: string
    disk: { image: string; writable: boolean }
    emit: (event: Event) => void
  },
): Promise<BootOutcome> {
  const { checks } = run.plan
  // Only systemd can be asked whether the system has come up; others have when they ask for a login.
  const expect = run.expect.length > 0 ? run.expect : init === 'systemd' ? [] : [/login:/u]
  const program = machine.firmware === 'uefi' ? run.uefi : undefined
  const uefi = program && {
    code: program.code,
    variables: await freshVariables(program, await context.store.scratch.folder()),
  }
  const time = checks.reduce((sum, { timeout }) => sum + timeout + perCheck, around)
  return await bootGuest(
    {
      ...disk,
      format: 'qcow2',
      memory: machine.memory,
      cpus: machine.cpus,
      accelerator: run.accelerator,
      forwards: run.forwards,
      seed: run.seed,
      isolated: !checks.some(({ needsNetwork }) => needsNetwork),
      devices: line.arguments,
      uefi,
      scratch: folder,
      expect,
      ...(expect.length > 0 ? {} : { up: line.ready.then((state) => `the system is ${state}`) }),
      timeout: run.timeout,
      // What the console says may come before the system has.
      upTime: time + (expect.length > 0 ? run.timeout : 0),
      whenUp: (signal) => line.run(signal),
    },
    { signal: context.signal, emit },
  )
}

function machineResult(
  { machine, name }: Job,
  outcome: BootOutcome,
  { results, silent }: Pick<CheckLine, 'results' | 'silent'>,
  { seconds, tail, kept }: { seconds: number; tail: string[]; kept: string | null },
): CheckedMachine {
  const checks = results.map((result) => ({ ...result }))
  const ok = outcome.ok && allPassed(checks)
  const stopped = silent === undefined ? '' : `the guest stopped answering ${silent}; `
  const failed = [stopped + verdict(checks), ...(tail.length > 0 ? ['the last lines of the console:', ...tail] : [])]
  return {
    name,
    ...machine,
    ok,
    reason: ok ? verdict(checks) : outcome.ok ? failed.join('\n  ') : outcome.reason,
    bootSeconds: outcome.matched === null ? null : outcome.seconds,
    seconds,
    checks,
    kept,
  }
}
