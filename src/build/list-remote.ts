// `git vlb ls-remote`: what the remote holds of this project, by its manifests alone.
import { layerKey, snapshotId } from '../core/ids.ts'
import { summaryOf } from '../core/oci.ts'
import type { RemoteListResult, RemoteSnapshot } from '../core/results-remote.ts'
import type { BuildContext } from './context.ts'
import { inParallel } from './parallel.ts'
import { loadWorkingTree } from './project.ts'
import { needRemote, signerOf } from './remote.ts'

export async function listRemote(context: BuildContext): Promise<RemoteListResult> {
  const source = await loadWorkingTree(context.project)
  try {
    const registry = await needRemote(context, source.config)
    try {
      const keys = (await registry.tags()).filter((tag) => /^[0-9a-f]{64}$/.test(tag))
      const found = await inParallel(context, keys, 6, async (_, key): Promise<RemoteSnapshot[]> => {
        const text = await registry.manifest(key)
        const summary = text === undefined ? undefined : summaryOf(text)
        if (!summary) return []
        const here = (await context.store.get(snapshotId(layerKey(key)))) !== undefined
        const { layer, bytes, chainBytes, builtAt, config, signature } = summary
        const signer = (await signerOf(context, { key, config, signature })) ?? null
        return [
          { layer, key, bytes, chainBytes, builtAt: builtAt || null, here, signer: signer === 'bad' ? null : signer },
        ]
      })
      const newest = (a: RemoteSnapshot, b: RemoteSnapshot) => ((a.builtAt ?? '') < (b.builtAt ?? '') ? 1 : -1)
      return { ok: true, remote: registry.name, snapshots: found.flat().sort(newest) }
    } finally {
      registry.close()
    }
  } finally {
    await source.objects.close()
  }
}
