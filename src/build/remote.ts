// The remote of a project: which one, how it is reached, and what it offers for the steps of a chain.
import { resolve } from 'node:path'
import type { Config } from '../core/config.ts'
import { VlbError } from '../core/errors.ts'
import type { LayerKey } from '../core/ids.ts'
import { blobsOf, configLimit, parseOciManifest, parseSnapshot, type SharedSnapshot, statementOf } from '../core/oci.ts'
import { parseRemote } from '../core/remote.ts'
import { settingFlag, settingValues } from '../git/repo.ts'
import { verifyText } from '../git/signatures.ts'
import { type Patience, readCertificates } from '../host/http.ts'
import { Registry } from '../store/oci.ts'
import { Connection } from '../store/oci-connection.ts'
import { isDamaged } from '../store/shared.ts'
import type { BuildContext } from './context.ts'
import type { Project } from './project.ts'

/** Somebody waits for this very thing. */
export const patient: Patience = { connect: 10_000, silence: 60_000, tries: 5 }
/** A build gets on without: a remote that is slow or down must not hold it up. */
export const hasty: Patience = { connect: 3000, silence: 5000, tries: 2 }

/** The remote of a project, or undefined if it has none. `vlb.remote` comes before vlb.yaml; set to nothing, there is none. */
export async function openRemote(
  context: BuildContext,
  config: Config,
  patience: Patience,
): Promise<Registry | undefined> {
  const { repo, settings, folder } = context.project
  const setting = settings.get('remote')
  const given = setting ?? config.remote
  if (given === undefined || given === '') return undefined
  const insecure = settings.has('insecureregistry') ? await settingValues(repo, 'vlb.insecureRegistry') : []
  const remote = parseRemote(given, setting === undefined ? 'remote in vlb.yaml' : 'vlb.remote', new Set(insecure))
  const file = settings.get('remoteca')
  const ca = await readCertificates(file === undefined ? undefined : resolve(folder, file))
  return new Registry(new Connection({ remote, patience, signal: context.signal, ca, cwd: repo.cwd }))
}

/** The same for a command that is about nothing else. */
export async function needRemote(context: BuildContext, config: Config): Promise<Registry> {
  const registry = await openRemote(context, config, patient)
  if (registry) return registry
  throw new VlbError('VLB_NO_REMOTE', 'this project has no remote to share through', {
    hint: 'name a repository of an OCI registry: "remote: registry.example.com/team/web" in vlb.yaml, or git config vlb.remote',
  })
}

/** Whether only what is signed by somebody known is taken from remotes. */
export async function requiresSignature({ project }: BuildContext): Promise<boolean> {
  if (!project.settings.has('requiresignature')) return false
  return (await settingFlag(project.repo, 'vlb.requireSignature')) ?? false
}

/** Who signed a statement; undefined for a signature of nobody known, and where there is none. */
export async function signerOf(
  context: BuildContext,
  statement: string,
  signature: string | undefined,
): Promise<string | undefined | 'bad'> {
  if (signature === undefined) return undefined
  const folder = await context.store.scratch.folder()
  const verdict = await verifyText(context.project.repo, statement, signature, folder)
  if (verdict.state === 'bad') return 'bad'
  return verdict.state === 'good' ? verdict.signer : undefined
}

export interface Trust {
  /** Somebody known here. */
  signer: string | undefined
  /** Why it is not to be taken; undefined if it is. */
  untrusted: string | undefined
}

/** Whether what a statement is about may be taken: never with a signature of something else. */
export async function trustIn(context: BuildContext, statement: string, signature: string | undefined): Promise<Trust> {
  const signer = await signerOf(context, statement, signature)
  if (signer === 'bad') return { signer: undefined, untrusted: 'its signature does not fit it' }
  if (signer !== undefined || !(await requiresSignature(context))) return { signer, untrusted: undefined }
  return { signer, untrusted: signature === undefined ? 'it is not signed' : 'it is signed by nobody known here' }
}

/** What a remote has of a key, checked as far as it can be before its blobs are here; undefined if that is nothing sound. */
export async function offerOf(
  context: BuildContext,
  registry: Registry,
  key: LayerKey,
): Promise<SharedSnapshot | undefined> {
  const text = await registry.manifest(key)
  if (text === undefined) return undefined
  const manifest = parseOciManifest(text)
  const refuse = (reason: string): undefined => {
    const what = `what ${registry.name} has of ${key.slice(0, 12)} is not taken: ${reason}`
    context.emit({ type: 'warning', text: what })
    return undefined
  }
  if (typeof manifest === 'string') return refuse(manifest)
  if (await isDamaged(context.store, registry.name, manifest.config.digest)) return undefined
  const { untrusted } = await trustIn(context, statementOf(key, manifest.config.digest), manifest.signature)
  if (untrusted) return refuse(untrusted)
  const config = (await registry.blob(manifest.config, configLimit)).toString('utf8')
  const snapshot = parseSnapshot(config, key, manifest.blobs)
  if (typeof snapshot === 'string') return refuse(snapshot)
  for (const { digest } of blobsOf(snapshot))
    if (await isDamaged(context.store, registry.name, digest)) return undefined
  return snapshot
}

const remoteCodes: readonly string[] = ['VLB_REMOTE', 'VLB_REMOTE_LOGIN', 'VLB_REMOTE_DAMAGED']

/** An error that is the remote's, and so no reason for a build to fail. */
export function isRemoteError(error: unknown): error is VlbError {
  return error instanceof VlbError && remoteCodes.includes(error.code)
}

/** Projects whose remote did not answer as it should in this run. */
const failed = new WeakSet<Project>()

export function remoteFailed({ project }: BuildContext): boolean {
  return failed.has(project)
}

/** For a build, one line of it. */
export function tellRemoteError(context: BuildContext, error: VlbError): void {
  if (error.code !== 'VLB_REMOTE_DAMAGED') failed.add(context.project)
  const hint = error.code === 'VLB_REMOTE_LOGIN' && error.hint ? ` (${error.hint})` : ''
  context.emit({ type: 'warning', text: `${error.message}${hint}; going on without it` })
}
