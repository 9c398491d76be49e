// Warns of secrets among the files of layers that are about to be shared. What a snapshot holds is known by nothing less than
// a look at all of it; what its script was given is in git.
import { printable } from '../core/errors.ts'
import type { Layer } from '../core/layer.ts'
import { lookedAt, mayHoldSecret, secretIn } from '../core/secret-files.ts'
import { listTree } from '../git/listing.ts'
import { beginningOf, type Objects } from '../git/objects.ts'
import type { Chain } from './chain.ts'
import type { BuildContext } from './context.ts'
import type { ChainToShip } from './parcels.ts'

/** So many are named for each layer. */
const most = 5

const advice = '# vlb: secret leaves no trace, # vlb: noshare keeps the layer here'

/** For the layers of a chain that are about to be sent. */
export function secretsWarning({ emit }: BuildContext, { source, steps }: Chain): ChainToShip['onMissing'] {
  const warn = (text: string) => emit({ type: 'warning', text })
  return async (keys) => {
    for (const { name, key, layer } of steps) {
      if (!layer || !keys.has(key)) continue
      const found = await secretsOf(source.objects, layer)
      for (const { path, what } of found.slice(0, most))
        warn(
          `${name}: ${printable(path)} holds ${what}; if its script put that into the image, all who pull have it: ${advice}`,
        )
      if (found.length > most) warn(`${name}: ${found.length - most} more files look like secrets`)
    }
  }
}

async function secretsOf(objects: Objects, { tree, includes }: Layer): Promise<{ path: string; what: string }[]> {
  const files = await filesBelow(objects, '', { mode: '40000', oid: tree })
  for (const [path, entry] of Object.entries(includes)) files.push(...(await filesBelow(objects, path, entry)))
  const found: { path: string; what: string }[] = []
  for (const [path, oid] of files.filter(([path]) => mayHoldSecret(path))) {
    const what = secretIn(path, await beginningOf(objects, oid, lookedAt))
    if (what !== undefined) found.push({ path, what })
  }
  return found
}

/** Regular files, by path. */
async function filesBelow(
  objects: Objects,
  path: string,
  { mode, oid }: { mode: string; oid: string },
): Promise<[path: string, oid: string][]> {
  if (mode !== '40000') return mode.startsWith('100') ? [[path, oid]] : []
  const listing = (await listTree(objects, oid)) ?? {}
  return Object.entries(listing)
    .map(([name, entry]) => [path === '' ? name : `${path}/${name}`, ...entry.split(' ')] as const)
    .flatMap(([name, kind = '', id = '']) => (kind.startsWith('100') ? [[name, id] as [string, string]] : []))
}
