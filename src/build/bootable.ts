// What `git vlb test-boot` boots: the image of a revision, the top of its chain, or a file that somebody gives us.
import { open } from 'node:fs/promises'
import type { Directives } from '../core/directives.ts'
import { type ErrorCode, VlbError } from '../core/errors.ts'
import { type DiskFormat, formatOf, type ImageFormat } from '../core/output.ts'
import { checkEnvironment } from '../core/plan.ts'
import { wrongIn } from '../image/foreign.ts'
import { inspectDisk, parseQcow2Header } from '../image/qcow2.ts'
import { imageRecord } from '../store/images.ts'
import { holdBehind } from './behind.ts'
import { build } from './build.ts'
import type { BuildContext } from './context.ts'
import { loadRevision, loadWorkingTree } from './project.ts'
import { buildChain } from './walk.ts'

export interface Image {
  path: string
  /** Of the top of its chain, where it was built here. */
  contentId?: string | null | undefined
  format: DiskFormat
}

interface Request {
  /** A revision, or undefined for the working tree. */
  target: string | undefined
  env: Record<string, string>
  secrets: ReadonlyMap<string, Buffer>
  bisect: boolean
}

/** What the revision says. */
interface Wanted {
  /** Instead of what vlb.yaml has, if there are any. */
  formats: ImageFormat[]
  directives: readonly Directives[]
}

/** The values and secrets that go to the build: not all commits of a range declare what some of them need. */
function declared(request: Request, directives: readonly Directives[]) {
  const values = Object.entries(request.env)
  const secrets = [...request.secrets]
  const declaredValue = ([name]: [string, string]) => directives.some(({ env }) => Object.hasOwn(env, name))
  const declaredSecret = ([id]: [string, Buffer]) => directives.some((one) => one.secrets.includes(id))
  return {
    env: request.bisect ? Object.fromEntries(values.filter(declaredValue)) : request.env,
    secrets: request.bisect ? new Map(secrets.filter(declaredSecret)) : request.secrets,
  }
}

/** The top snapshot itself, which the guest cannot write to. */
export async function chainOfRevision(
  context: BuildContext,
  request: Request,
  { directives }: Wanted,
): Promise<Image | { failed: VlbError }> {
  await context.store.prepare()
  const source =
    request.target === undefined
      ? await loadWorkingTree(context.project)
      : await loadRevision(context.project, request.target)
  try {
    const { env, secrets } = declared(request, directives)
    checkEnvironment(source.layers, env)
    const options = { rebuild: new Set<string>(), frozen: false, dryRun: false, keepFailed: false, since: Date.now() }
    const chain = await buildChain(context, source, { ...options, env, secrets })
    if (chain.failed) return { failed: chain.failed.error }
    if (!chain.top) throw new Error('a chain without a top')
    return { path: chain.top.file, format: 'qcow2' }
  } finally {
    await source.objects.close()
  }
}

/** Builds what is missing; an image that is current costs a moment. */
export async function imageOfRevision(
  context: BuildContext,
  request: Request,
  { formats, directives }: Wanted,
): Promise<Image | { failed: VlbError }> {
  const revision = request.target
  const result = await build(context, {
    revisions: revision === undefined ? [] : [revision],
    last: undefined,
    ...declared(request, directives),
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
    remote: true,
  })
  for (const { path, format } of result.images) {
    const name = format as ImageFormat
    if (name !== 'ova') return { path, format: name, contentId: result.layers.at(-1)?.contentId }
  }
  const { code = 'VLB_LAYER_FAILED', message = 'the image could not be built', hint } = result.error ?? {}
  return { failed: new VlbError(code as ErrorCode, message, hint === undefined ? {} : { hint }) }
}

/** A file that somebody gives us is what its bytes say; one that names other files is booted only if we wrote it. */
export async function imageOfFile(context: BuildContext, path: string, shown: string): Promise<Image> {
  const head = Buffer.alloc(512)
  const handle = await open(path, 'r')
  const { bytesRead } = await handle.read(head, 0, head.length, 0).finally(() => handle.close())
  if (parseQcow2Header(head.subarray(0, bytesRead))?.backing && (await imageRecord(context.store, path))) {
    await holdBehind(context, path)
    return { path, format: 'qcow2' }
  }
  const named = formatOf(path)
  if (named === 'ova') {
    throw new VlbError('VLB_USAGE', `${shown} is an archive, which qemu cannot boot`, {
      hint: `take the disk out of it first: tar -xf ${shown}`,
    })
  }
  if (named === 'vmdk' || named === 'vdi') await refuseOthers(path, shown, named)
  if (named !== 'qcow2' && named !== 'raw') return { path, format: named }
  return { path, format: (await inspectDisk(path, shown)).format }
}

/** qemu would open whatever files such an image names. */
async function refuseOthers(path: string, shown: string, format: 'vmdk' | 'vdi'): Promise<void> {
  const wrong = await wrongIn(path, { format, capacity: 0 })
  if (wrong === undefined) return
  throw new VlbError('VLB_BASE_BACKING', `${shown} is not booted: it ${wrong}`, {
    hint: `if you trust it: qemu-img convert -O qcow2 ${shown} disk.qcow2, and boot that`,
  })
}
