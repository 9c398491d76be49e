// What of a chain's missing steps a remote has to offer.
import { isPackedName, type SharedSnapshot } from '../core/oci.ts'
import { noKey, type Step } from '../core/plan.ts'
import type { Registry } from '../store/oci.ts'
import { isTooOld } from './again.ts'
import { type Chain, planAgain } from './chain.ts'
import type { BuildContext } from './context.ts'
import { offerOf } from './remote.ts'
import { storedBase } from './stored-bases.ts'

export interface PullWish {
  env: Record<string, string>
  /** Names of layers that are to be built whatever there is. */
  rebuild: ReadonlySet<string>
}

/** The missing steps that a remote may be asked for: from the lowest, up to where nothing is shared. */
export function gapOf({ steps, found }: Chain, { rebuild }: Pick<PullWish, 'rebuild'>): Step[] | undefined {
  const own = steps.findIndex((step) => !isShared(step) || rebuild.has(step.name))
  const shared = steps.slice(0, own < 0 ? steps.length : own)
  const start = shared.findIndex((step, i) => !found[i] || isTooOld(step, found[i].manifest))
  return start < 0 ? undefined : shared.slice(start)
}

/** What is built anew each time, or is to stay at home, is not shared; nor is what stands on it. */
export function isShared({ key, layer }: Step): boolean {
  return key !== noKey && !layer?.directives.nocache && !layer?.directives.noshare
}

/**
 * The topmost of the missing steps that the remote has. One request tells that it has nothing, two that it has all; only
 * between those it is asked step by step.
 */
export async function bestOffer(
  context: BuildContext,
  registry: Registry,
  chain: Chain,
  wish: PullWish,
): Promise<SharedSnapshot | undefined> {
  let steps = gapOf(chain, wish) ?? []
  let best: SharedSnapshot | undefined
  const ask = async (step: Step | undefined) => {
    const offer = step && step.key !== noKey ? await offerOf(context, registry, step.key) : undefined
    if (!offer || !isWanted(offer, chain) || !(await isOnOurBase(context, registry, chain, offer))) return false
    // A step that was built again elsewhere gives other keys to what stands on it.
    if (offer.contentId !== step?.content) steps = await gapWith(context, chain, wish, offer)
    best = offer
    return true
  }
  if (!(await ask(steps[0])) || (steps.length > 1 && (await ask(steps.at(-1))))) return best
  for (let i = 1; i < steps.length - 1; i++) if (!(await ask(steps[i]))) break
  return best
}

async function gapWith(
  context: BuildContext,
  chain: Chain,
  wish: PullWish,
  { key, contentId }: SharedSnapshot,
): Promise<Step[]> {
  const known = new Map([[key as string, { layer: '', key, contentId, seconds: 0, builtAt: '' }]])
  return gapOf(await planAgain(context, chain, { env: wish.env, known }), wish) ?? []
}

/** How to tell what is too old for these steps; undefined where that cannot be. */
export function oldBy(steps: readonly Step[]): ((offer: SharedSnapshot) => boolean) | undefined {
  const lasting = steps.every(({ layer }) =>
    (layer?.steps ?? [layer]).every((one) => one?.directives.ttl === undefined),
  )
  return lasting ? undefined : (offer) => hasOld(offer, steps)
}

function hasOld({ layers }: SharedSnapshot, steps: readonly Step[]): boolean {
  return layers.some(({ manifest }) => {
    const step = steps.find(({ key }) => key === manifest.key)
    return step !== undefined && isTooOld(step, manifest)
  })
}

/** It stands on our base, and none of our steps in it is too old for us. */
function isWanted(offer: SharedSnapshot, { steps, base }: Chain): boolean {
  if (offer.layers[0]?.manifest.base !== base?.digest) return false
  return !hasOld(offer, steps)
}

/** What was made from the same file must be the same disk: as the base that is here, or as vlb.yaml's digest says. */
async function isOnOurBase(
  context: BuildContext,
  registry: Registry,
  { base }: Chain,
  offer: SharedSnapshot,
): Promise<boolean> {
  const told = offer.base?.sha256
  if (told === undefined || !base) return true
  const [algorithm, hex] = base.digest.split(':')
  const named = algorithm === 'sha256' && !isPackedName(base.source) ? hex : undefined
  const own = (await storedBase(context, base.digest))?.sha256 ?? named
  if (own === undefined || own === told) return true
  const key = offer.key.slice(0, 12)
  const text = `what ${registry.name} has of ${key} is not taken: it stands on another disk than this base is`
  context.emit({ type: 'warning', text })
  return false
}
