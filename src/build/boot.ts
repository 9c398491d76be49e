// `git vlb test-boot`: finds or builds the image, and boots it without changing it.
import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { stopBisect } from '../core/bisect.ts'
import { seedFolder } from '../core/cloud-init.ts'
import { compileExpect, type Firmware } from '../core/config.ts'
import { printable, VlbError } from '../core/errors.ts'
import type { ImageFormat } from '../core/output.ts'
import type { BootResult } from '../core/results-boot.ts'
import { makeFolders } from '../host/files.ts'
import { seedFormat } from '../image/seed.ts'
import { type AcceleratorSetting, chooseAccelerator } from '../vm/accelerator.ts'
import { bootGuest } from '../vm/console.ts'
import { findUefi, freshVariables } from '../vm/firmware.ts'
import { type Display, type Forward, randomMac } from '../vm/qemu.ts'
import { chainOfRevision, imageOfFile, imageOfRevision } from './bootable.ts'
import { planChecks } from './checks.ts'
import { committedSeed, seedForBoot, workingSeed } from './cloud-init.ts'
import type { BuildContext } from './context.ts'
import { guestSsh } from './guest-ssh.ts'
import { keepOverlay, overlayToKeep } from './kept.ts'
import { loadRevision, loadWorkingTree } from './project.ts'
import { testChecks } from './tested.ts'

export interface BootRequest {
  /** A file, a revision, or undefined for the working tree. */
  target: string | undefined
  cwd: string
  /** Instead of `boot:` in vlb.yaml; all of them, in their order. */
  expect: readonly string[]
  /** Hand the console over even if vlb.yaml says what to expect. */
  console: boolean
  timeout: number | undefined
  memory: number | undefined
  cpus: number | undefined
  /** Declared values and secrets, for what has to be built. */
  env: Record<string, string>
  secrets: ReadonlyMap<string, Buffer>
  /** The exit status is for `git bisect run`. */
  bisect: boolean
  /** Run the project's checks and the built-in ones in the guest. */
  check: boolean
  /** Boot even an image that is known to pass. */
  force: boolean
  firmware: Firmware | undefined
  display: Display | undefined
  /** The name of a bridge whose network the guest takes part in. */
  bridge: string | undefined
  /** File for a picture of the guest's screen. */
  screenshot: string | undefined
  /** Boot the top of the chain itself; no image is written, nothing sealed. */
  noFlatten: boolean
  /** Keep what the guest wrote, in build/. */
  keep: boolean
  /** Run this in the guest by ssh; empty: a shell. */
  ssh: string | undefined
  /** Make a seed disk of the project's cloud-init/ for this boot. */
  cloudInit: boolean
  forwards: Forward[]
  accel: AcceleratorSetting
  /** Folder for what is remembered about this host. */
  cache: string
  /** Standard input is a terminal. */
  terminal: boolean
  /** Of the terminal. */
  size: { rows: number; columns: number } | undefined
}

export async function testBoot(context: BuildContext, request: BootRequest): Promise<BootResult> {
  const file = request.target === undefined ? undefined : resolve(request.cwd, request.target)
  const isFile = file !== undefined && ((await stat(file).catch(() => undefined))?.isFile() ?? false)
  const settings = await bootSettings(context, isFile ? undefined : request.target, request)
  const patterns = patternsOf(request, settings.expect)
  const expect = patterns.map(compiled)
  checkRequest(request, isFile, patterns)
  if (request.screenshot !== undefined) await checkScreenshot(request.screenshot)
  // What is wrong with the request shows before anything is built.
  const choice = await chooseAccelerator(request.accel, request.cache, context.signal)
  const uefi = (request.firmware ?? settings.firmware) === 'uefi' ? await findUefi() : undefined
  const image =
    isFile && file
      ? await imageOfFile(context, file, request.target ?? file)
      : request.noFlatten
        ? await chainOfRevision(context, request, settings)
        : await imageOfRevision(context, request, settings)
  if ('failed' in image) throw image.failed
  if (settings.checks) {
    const test = {
      request,
      plan: settings.checks,
      source: settings.source,
      settings,
      image,
      choice,
      patterns,
      expect,
    }
    return await testChecks(context, test)
  }
  context.emit({ type: 'note', text: `booting ${image.path} (${choice.accelerator}: ${printable(choice.reason, 90)})` })
  if (settings.seed) context.emit({ type: 'note', text: `with a seed disk of ${seedFolder}/ for cloud-init` })
  await context.store.prepare()
  const kept = request.keep ? await overlayToKeep(context, image) : undefined
  const ssh = request.ssh === undefined ? undefined : await guestSsh(context, settings.seed, request.ssh)
  const seed = ssh?.seed ?? settings.seed
  const forwards = ssh ? [...request.forwards, { host: ssh.port, guest: 22 }] : request.forwards
  const terminal = request.terminal && expect.length === 0 && !ssh
  let status: number | undefined
  let talk: Promise<number> | undefined
  const ended = new AbortController()
  if (terminal && request.size) tellSize(context, request.size)
  const running = bootGuest(
    {
      image: kept?.path ?? image.path,
      format: kept ? 'qcow2' : image.format,
      writable: kept !== undefined,
      memory: request.memory ?? settings.memory,
      cpus: request.cpus ?? settings.cpus,
      accelerator: choice.accelerator,
      forwards,
      seed: seed && (await seedForBoot(context, seed)),
      uefi: uefi && {
        code: uefi.code,
        variables: await freshVariables(uefi, await context.store.scratch.folder()),
      },
      display: request.display,
      bridge: request.bridge === undefined ? undefined : { name: request.bridge, mac: randomMac(randomBytes(3)) },
      screenshot: request.screenshot,
      scratch: await context.store.scratch.folder(),
      expect,
      timeout: expect.length > 0 || ssh ? (request.timeout ?? settings.timeout) : request.timeout,
      terminal,
      ...(ssh && {
        ...(expect.length > 0 ? {} : { up: ssh.up(AbortSignal.any([ended.signal, context.signal])) }),
        // What is done there takes as long as it takes.
        upTime: sshSeconds,
        whenUp: async (signal: AbortSignal) => {
          if (expect.length > 0) await ssh.up(AbortSignal.any([signal, ended.signal]))
          if (request.ssh === '')
            context.emit({ type: 'note', text: 'a root shell by ssh; the guest is stopped when it ends' })
          talk = ssh.talk()
          status = await talk
        },
      }),
    },
    { ...context, emit: (event) => (talk && event.type === 'console' ? undefined : context.emit(event)) },
  ).finally(() => ended.abort())
  // Where the guest ended first, ssh hears of it then, and gives the terminal back.
  const outcome = await running.finally(() => talk?.catch(() => {}))
  return {
    ok: outcome.ok,
    verdict: outcome.verdict,
    image: image.path,
    accelerator: choice.accelerator,
    firmware: uefi ? 'uefi' : 'bios',
    expect: patterns.at(-1) ?? null,
    expected: patterns,
    matched: outcome.matched,
    seconds: outcome.seconds,
    reason: outcome.reason,
    screenshot: outcome.screenshot ? (request.screenshot ?? null) : null,
    kept: kept ? await keepOverlay(context, kept) : null,
    exitStatus: outcome.ok ? (status ?? 0) : !outcome.hostFault ? 1 : request.bisect ? stopBisect : 3,
    forwards: request.forwards.map((forward) => `${forward.host}:${forward.guest}`),
  }
}

/** A week. */
const sshSeconds = 7 * 86_400

function patternsOf(request: BootRequest, configured: string | undefined): string[] {
  if (request.console) return []
  return request.expect.length > 0 ? [...request.expect] : configured === undefined ? [] : [configured]
}

function compiled(pattern: string): RegExp {
  const expect = compileExpect(pattern)
  if (expect) return expect
  throw new VlbError('VLB_USAGE', `--expect is no regular expression: ${printable(pattern)}`, {
    hint: 'as JavaScript has them; a special character as itself is written with a backslash before it',
  })
}

function checkRequest(request: BootRequest, isFile: boolean, patterns: readonly string[]): void {
  if (request.check && request.console) {
    throw new VlbError('VLB_USAGE', '--check reads the console by itself: not with --console', {
      hint: 'git vlb test-boot --check',
    })
  }
  const without = (['bridge', 'display', 'screenshot', 'noFlatten', 'ssh'] as const).find(
    (name) => request[name] !== undefined && request[name] !== false,
  )
  if (request.check && without) {
    const option = without === 'noFlatten' ? 'no-flatten' : without
    throw new VlbError('VLB_USAGE', `--${option} is not for --check, which has machines and overlays of its own`, {
      hint: `git vlb test-boot --${option} without --check, with a pattern to expect`,
    })
  }
  if (request.bisect && patterns.length === 0 && !request.check) {
    throw new VlbError('VLB_USAGE', '--bisect takes a pattern to expect: without one, no image is good or bad', {
      hint: "git vlb test-boot --bisect --expect 'login:', or --check, or boot.expect in vlb.yaml; not with --console",
    })
  }
  if (request.ssh !== undefined && (request.bridge !== undefined || request.console || !request.cloudInit)) {
    throw new VlbError('VLB_USAGE', '--ssh is not for --bridge, --console or --no-cloud-init', {
      hint: 'it takes a seed disk, and the network that qemu makes up: git vlb test-boot --ssh',
    })
  }
  if (request.bridge !== undefined && request.forwards.length > 0) {
    throw new VlbError('VLB_USAGE', '--forward belongs to the network that qemu makes up, which --bridge replaces', {
      hint: 'on the bridge, the guest has an address of its own',
    })
  }
  if (isFile && request.noFlatten) {
    throw new VlbError('VLB_USAGE', '--no-flatten is for the working tree or a revision, not for an image file', {
      hint: 'git vlb test-boot --no-flatten [REV]',
    })
  }
}

async function checkScreenshot(path: string): Promise<void> {
  await makeFolders(dirname(path))
  if (!(await stat(path).catch(() => undefined))?.isDirectory()) return
  throw new VlbError('VLB_USAGE', `--screenshot names a folder: ${printable(path)}`, {
    hint: 'name a file: --screenshot screen.png',
  })
}

/** A serial line knows no window sizes, so programs in the guest take 80 columns for granted. */
function tellSize(context: BuildContext, { rows, columns }: { rows: number; columns: number }): void {
  const text = `^a x leaves; the size of this terminal, for the guest's shell: stty rows ${rows} cols ${columns}`
  context.emit({ type: 'note', text })
}

async function bootSettings(context: BuildContext, revision: string | undefined, request: BootRequest) {
  const source =
    revision === undefined ? await loadWorkingTree(context.project) : await loadRevision(context.project, revision)
  try {
    const { boot, output } = source.config
    const seed = !request.cloudInit
      ? undefined
      : revision === undefined
        ? await workingSeed(context)
        : await committedSeed(context, source)
    // A host without a program for it says so before anything is built.
    if (seed || request.ssh !== undefined) await seedFormat()
    // qemu reads all but an ova; a project that makes nothing else gets a qcow2 beside it.
    const formats: ImageFormat[] = output.formats.every((format) => format === 'ova') ? ['qcow2'] : []
    const checks = request.check ? await planChecks(context, source, boot.builtinChecks) : undefined
    return { ...boot, formats, seed, checks, source, directives: source.layers.map(({ directives }) => directives) }
  } finally {
    await source.objects.close()
  }
}
