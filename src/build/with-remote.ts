// What commands about the remote alone have in common: a revision read, the remote opened, both closed in the end.
import type { Registry } from '../store/oci.ts'
import type { BuildContext } from './context.ts'
import { type LoadedSource, loadRevision, loadWorkingTree } from './project.ts'
import { needRemote } from './remote.ts'

/** Does some work with the remote and a revision, by default the working tree. Throws VLB_NO_REMOTE where there is none. */
export async function withRemote<T>(
  context: BuildContext,
  revision: string | undefined,
  work: (source: LoadedSource, registry: Registry) => Promise<T>,
): Promise<T> {
  const { project } = context
  const source = revision === undefined ? await loadWorkingTree(project) : await loadRevision(project, revision)
  try {
    const registry = await needRemote(context, source.config)
    try {
      await context.store.prepare()
      return await work(source, registry)
    } finally {
      registry.close()
    }
  } finally {
    await source.objects.close()
  }
}
