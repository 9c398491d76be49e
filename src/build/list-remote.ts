// `git vlb ls-remote`: what the remote holds of this project, by its manifests alone.
import { layerKey, snapshotId } from '../core/ids.ts'
import { statementOf, summaryOf } from '../core/oci.ts'
import { imageStatement, imageSummary, mayBeImage } from '../core/oci-image.ts'
import type { RemoteImage, RemoteListResult, RemoteSnapshot } from '../core/results-remote.ts'
import type { Registry } from '../store/oci.ts'
import type { BuildContext } from './context.ts'
import { inParallel } from './parallel.ts'
import { loadWorkingTree } from './project.ts'
import { needRemote, signerOf } from './remote.ts'

export async function listRemote(context: BuildContext): Promise<RemoteListResult> {
  const source = await loadWorkingTree(context.project)
  try {
    const registry = await needRemote(context, source.config)
    try {
      const tags = await registry.tags()
      const keys = tags.filter((tag) => /^[0-9a-f]{64}$/.test(tag))
      const snapshots = await inParallel(context, keys, 6, (_, key) => snapshotAt(context, registry, key))
      const images = await inParallel(context, tags.filter(mayBeImage), 6, (_, tag) => imageAt(context, registry, tag))
      return {
        ok: true,
        remote: registry.name,
        snapshots: snapshots.flat().sort(newest),
        images: images.flat().sort(newest),
      }
    } finally {
      registry.close()
    }
  } finally {
    await source.objects.close()
  }
}

function newest(a: { builtAt: string | null }, b: { builtAt: string | null }): number {
  return (a.builtAt ?? '') < (b.builtAt ?? '') ? 1 : -1
}

async function snapshotAt(context: BuildContext, registry: Registry, key: string): Promise<RemoteSnapshot[]> {
  const text = await registry.manifest(key)
  const summary = text === undefined ? undefined : summaryOf(text)
  if (!summary) return []
  const here = (await context.store.get(snapshotId(layerKey(key)))) !== undefined
  const { layer, bytes, chainBytes, builtAt, config, signature } = summary
  const signer = await knownSigner(context, statementOf(key, config), signature)
  return [{ layer, key, bytes, chainBytes, builtAt: builtAt || null, here, signer }]
}

/** Other people's tags may lie in the same repository. */
async function imageAt(context: BuildContext, registry: Registry, tag: string): Promise<RemoteImage[]> {
  const text = await registry.manifest(tag)
  const summary = text === undefined ? undefined : imageSummary(text)
  if (!summary) return []
  const { bytes, builtAt, revision, config, signature } = summary
  const signer = await knownSigner(context, imageStatement(tag, config), signature)
  return [{ tag, bytes, builtAt: builtAt || null, revision: revision || null, signer }]
}

async function knownSigner(
  context: BuildContext,
  statement: string,
  signature: string | undefined,
): Promise<string | null> {
  const signer = (await signerOf(context, statement, signature)) ?? null
  return signer === 'bad' ? null : signer
}
