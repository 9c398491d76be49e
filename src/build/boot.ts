// `git vlb test-boot`: finds or builds the image, and boots it without changing it.
import { open, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { stopBisect } from '../core/bisect.ts'
import { seedFolder } from '../core/cloud-init.ts'
import { compileExpect } from '../core/config.ts'
import { type ErrorCode, printable, VlbError } from '../core/errors.ts'
import { type DiskFormat, formatOf, type ImageFormat } from '../core/output.ts'
import type { BootResult } from '../core/results.ts'
import { inspectDisk, parseQcow2Header } from '../image/qcow2.ts'
import { seedFormat } from '../image/seed.ts'
import { imageRecord } from '../store/images.ts'
import { type AcceleratorSetting, chooseAccelerator } from '../vm/accelerator.ts'
import { bootGuest } from '../vm/console.ts'
import type { Forward } from '../vm/qemu.ts'
import { build } from './build.ts'
import { planChecks } from './checks.ts'
import { committedSeed, seedForBoot, workingSeed } from './cloud-init.ts'
import type { BuildContext } from './context.ts'
import { loadRevision, loadWorkingTree } from './project.ts'
import { testChecks } from './tested.ts'

export interface BootRequest {
  /** A file, a revision, or undefined for the working tree. */
  target: string | undefined
  cwd: string
  /** Instead of `boot:` in vlb.yaml. */
  expect: string | undefined
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
  /** Make a seed disk of the project's cloud-init/ for this boot. */
  cloudInit: boolean
  forwards: Forward[]
  accel: AcceleratorSetting
  /** Folder for what is remembered about this host. */
  cache: string
  /** Standard input is a terminal. */
  terminal: boolean
}

interface Image {
  path: string
  format: DiskFormat
}

export async function testBoot(context: BuildContext, request: BootRequest): Promise<BootResult> {
  const file = request.target === undefined ? undefined : resolve(request.cwd, request.target)
  const isFile = file !== undefined && ((await stat(file).catch(() => undefined))?.isFile() ?? false)
  const settings = await bootSettings(context, isFile ? undefined : request.target, request)
  const pattern = request.console ? undefined : (request.expect ?? settings.expect)
  const expect = pattern === undefined ? undefined : compileExpect(pattern)
  if (pattern !== undefined && !expect)
    throw new VlbError('VLB_USAGE', `--expect is no regular expression: ${printable(pattern)}`, {
      hint: 'as JavaScript has them; a special character as itself is written with a backslash before it',
    })
  if (request.check && request.console) {
    throw new VlbError('VLB_USAGE', '--check reads the console by itself: not with --console', {
      hint: 'git vlb test-boot --check',
    })
  }
  if (request.bisect && expect === undefined && !request.check) {
    throw new VlbError('VLB_USAGE', '--bisect takes a pattern to expect: without one, no image is good or bad', {
      hint: "git vlb test-boot --bisect --expect 'login:', or --check, or boot.expect in vlb.yaml; not with --console",
    })
  }
  // What is wrong with the request shows before anything is built.
  const choice = await chooseAccelerator(request.accel, request.cache, context.signal)
  const image =
    isFile && file
      ? await imageOfFile(context, file, request.target ?? file)
      : await imageOfRevision(context, request, settings)
  if ('failed' in image) throw image.failed
  if (settings.checks) {
    const test = { request, plan: settings.checks, source: settings.source, settings, image, choice, pattern, expect }
    return await testChecks(context, test)
  }
  context.emit({ type: 'note', text: `booting ${image.path} (${choice.accelerator}: ${printable(choice.reason, 90)})` })
  if (settings.seed) context.emit({ type: 'note', text: `with a seed disk of ${seedFolder}/ for cloud-init` })
  await context.store.prepare()
  const seed = settings.seed && (await seedForBoot(context, settings.seed))
  const outcome = await bootGuest(
    {
      image: image.path,
      format: image.format,
      memory: request.memory ?? settings.memory,
      cpus: request.cpus ?? settings.cpus,
      accelerator: choice.accelerator,
      forwards: request.forwards,
      seed,
      scratch: await context.store.scratch.folder(),
      expect,
      timeout: expect ? (request.timeout ?? settings.timeout) : request.timeout,
      terminal: request.terminal && expect === undefined,
    },
    context,
  )
  return {
    ok: outcome.ok,
    image: image.path,
    accelerator: choice.accelerator,
    expect: pattern ?? null,
    matched: outcome.matched,
    seconds: outcome.seconds,
    reason: outcome.reason,
    exitStatus: outcome.ok ? 0 : !outcome.hostFault ? 1 : request.bisect ? stopBisect : 3,
    forwards: request.forwards.map((forward) => `${forward.host}:${forward.guest}`),
  }
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
    if (seed) await seedFormat()
    // qemu reads all but an ova; a project that makes nothing else gets a qcow2 beside it.
    const formats: ImageFormat[] = output.formats.every((format) => format === 'ova') ? ['qcow2'] : []
    const checks = request.check ? await planChecks(context, source, boot.builtinChecks) : undefined
    return { ...boot, formats, seed, checks, source, directives: source.layers.map(({ directives }) => directives) }
  } finally {
    await source.objects.close()
  }
}

/** Builds what is missing; an image that is current costs a moment. */
async function imageOfRevision(
  context: BuildContext,
  request: BootRequest,
  { formats, directives }: Awaited<ReturnType<typeof bootSettings>>,
): Promise<Image | { failed: VlbError }> {
  const revision = request.target
  const values = Object.entries(request.env)
  const secrets = [...request.secrets]
  // Not all commits of a range declare what some of them need.
  const declaredValue = ([name]: [string, string]) => directives.some(({ env }) => Object.hasOwn(env, name))
  const declaredSecret = ([id]: [string, Buffer]) => directives.some((one) => one.secrets.includes(id))
  const result = await build(context, {
    revisions: revision === undefined ? [] : [revision],
    last: undefined,
    env: request.bisect ? Object.fromEntries(values.filter(declaredValue)) : request.env,
    secrets: request.bisect ? new Map(secrets.filter(declaredSecret)) : request.secrets,
    rebuild: [],
    frozen: false,
    dryRun: false,
    keepFailed: false,
    flatten: true,
    formats,
    compress: undefined,
    output: undefined,
    jobs: 1,
    digest: false,
  })
  for (const { path, format } of result.images) {
    const name = format as ImageFormat
    if (name !== 'ova') return { path, format: name }
  }
  const { code = 'VLB_LAYER_FAILED', message = 'the image could not be built', hint } = result.error ?? {}
  return { failed: new VlbError(code as ErrorCode, message, hint === undefined ? {} : { hint }) }
}

/** A file that somebody gives us is what its bytes say; one that names other files is booted only if we wrote it. */
async function imageOfFile(context: BuildContext, path: string, shown: string): Promise<Image> {
  const head = Buffer.alloc(512)
  const handle = await open(path, 'r')
  const { bytesRead } = await handle.read(head, 0, head.length, 0).finally(() => handle.close())
  if (parseQcow2Header(head.subarray(0, bytesRead))?.backing && (await imageRecord(context.store.root, path))) {
    return { path, format: 'qcow2' }
  }
  const named = formatOf(path)
  if (named === 'ova') {
    throw new VlbError('VLB_USAGE', `${shown} is an archive, which qemu cannot boot`, {
      hint: `take the disk out of it first: tar -xf ${shown}`,
    })
  }
  if (named !== 'qcow2' && named !== 'raw') return { path, format: named }
  return { path, format: (await inspectDisk(path, shown)).format }
}
