// All files of a tree, as one flat list.
import { treeId } from '../core/ids.ts'
import type { Listing } from '../core/why.ts'
import type { Objects } from './objects.ts'

/** What a list may hold at most: beyond it nobody reads it. */
const limit = 20_000

/** The files below the tree `id`; undefined if they are too many. Throws VLB_GIT where git lacks an object. */
export async function listTree(objects: Objects, id: string): Promise<Listing | undefined> {
  const files: [string, string][] = []
  const folders: [path: string, id: string][] = [['', id]]
  for (let folder = folders.pop(); folder; folder = folders.pop()) {
    for (const { name, mode, oid } of await objects.tree(treeId(folder[1]))) {
      const path = folder[0] + name
      if (mode === '40000') folders.push([`${path}/`, oid])
      else files.push([path, `${mode} ${oid}`])
    }
    if (files.length > limit) return undefined
  }
  return Object.fromEntries(files)
}
