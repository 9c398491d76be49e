// Layers as git holds them: what each folder is, and what its script asks for.
import type { Directives } from '../core/directives.ts'
import { printable, VlbError } from '../core/errors.ts'
import { type TreeId, treeId } from '../core/ids.ts'
import { findScript, type Layer, readScript, stepsFolder, type TreeEntry } from '../core/layer.ts'
import { checkStep, combineDirectives, stepEntries, stepPath } from '../core/rolled-up.ts'
import { submodule } from '../git/materialise.ts'
import { lookup, type Objects } from '../git/objects.ts'
import { symlinkedLayer } from '../git/worktree.ts'

/**
 * Reads the layer folder `entry`. `isDirty` tells whether a path of the project differs from what is committed; `above` is
 * the rolled-up layer that it is a step of.
 */
export async function readLayer(
  objects: Objects,
  entry: TreeEntry,
  isDirty: (path: string, oid: string) => Promise<boolean>,
  above?: string,
): Promise<Layer> {
  const { name } = entry
  const path = above === undefined ? name : stepPath(above, name)
  if (entry.mode === '120000') throw symlinkedLayer(path)
  if (entry.mode === '160000') throw submodule(path)
  const tree = treeId(entry.oid)
  const script = findScript(path, await objects.tree(tree))
  const known = { name, kind: script.name, tree, includes: {}, dirty: await isDirty(path, entry.oid) }
  if (above !== undefined) checkStep(above, known)
  if (script.name === stepsFolder) {
    const steps: Layer[] = []
    for (const step of stepEntries(name, await objects.tree(treeId(script.oid))))
      steps.push(await readLayer(objects, step, isDirty, name))
    return { ...known, directives: combineDirectives(steps), interpreter: undefined, steps }
  }
  const { directives, interpreter } = readScript(await objects.blob(script.oid), `${path}/${script.name}`)
  if (script.name !== 'build-layer') refuseOnHost(directives, `${path}/${script.name}`)
  return { ...known, directives, interpreter }
}

/** The layers with what their include directives name. */
export async function withIncludes(
  source: { objects: Objects; tree: TreeId | undefined },
  layers: readonly Layer[],
): Promise<Layer[]> {
  const complete: Layer[] = []
  for (const layer of layers) {
    const includes: Layer['includes'] = {}
    for (const path of layer.directives.includes) {
      const entry = source.tree && (await lookup(source.objects, source.tree, path))
      if (!entry) {
        throw new VlbError('VLB_INCLUDE', `${layer.name} includes ${printable(path)}, which git does not hold`, {
          hint: 'name a path below the folder of vlb.yaml, and git add it (is it ignored? git check-ignore -v PATH)',
        })
      }
      if (entry.mode === '160000') throw submodule(path)
      includes[path] = entry
    }
    const steps = layer.steps && (await withIncludes(source, layer.steps))
    complete.push({ ...layer, includes, ...(steps ? { steps } : {}) })
  }
  return complete
}

/** Such a script runs on the host: what is about the inside of the image means nothing there. */
function refuseOnHost(directives: Directives, file: string): void {
  const { secrets, caches, network, hostname, binds, mounts } = directives
  const names = [
    ...[secrets[0] && 'secret', caches[0] && 'cache', !network && 'network', hostname && 'hostname'],
    ...[binds[0] && 'bind', mounts[0] && 'mount'],
  ]
  const name = names.find((one) => one)
  if (!name) return
  throw new VlbError(
    'VLB_DIRECTIVE',
    `${file}: "# vlb: ${name}" is for build-layer scripts; this one runs on the host`,
    {
      hint: 'take the line out, or move what needs it to a layer above',
    },
  )
}
