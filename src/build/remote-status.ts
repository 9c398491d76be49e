// `git vlb status --remote`: which of the missing layers a build would pull.
import type { LayerStatus } from '../core/results-status.ts'
import type { Chain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { bestOffer, gapOf } from './offers.ts'
import { needRemote } from './remote.ts'

export async function withRemote(
  context: BuildContext,
  chain: Chain,
  layers: LayerStatus[],
  env: Record<string, string>,
): Promise<LayerStatus[]> {
  const registry = await needRemote(context, chain.source.config)
  try {
    const wish = { env, rebuild: new Set<string>() }
    const offer = gapOf(chain, wish) && (await bestOffer(context, registry, chain, wish))
    const offered = new Set(offer?.layers.map(({ manifest }) => manifest.key as string))
    return layers.map((layer) =>
      layer.state === 'missing' && offered.has(layer.key)
        ? { ...layer, state: 'remote', reason: `${registry.name} has it` }
        : layer,
    )
  } finally {
    registry.close()
  }
}
