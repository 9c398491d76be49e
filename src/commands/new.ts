// git vlb new: the next layer, with a script to fill in.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { compareLayerNames, isLayerName } from '../core/layer.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, text, withProject } from './context.ts'
import type { Options } from './table.ts'
import { contentOf, templateFiles, writeLayer } from './templates.ts'

export async function newLayer(
  context: CommandContext,
  [name = '']: string[],
  options: Options,
): Promise<CommandResult> {
  const { layerFolders } = await import('../git/worktree.ts')
  return await withProject(context, async ({ project, store }) => {
    if (!(await stat(join(project.folder, 'vlb.yaml')).catch(() => undefined))) {
      throw new VlbError('VLB_NO_PROJECT', `no vlb.yaml in ${project.folder} or above it`, {
        hint: 'start a project here: git vlb init',
      })
    }
    const folder = nextName(await layerFolders(project.folder), name, text(options, 'after'))
    const { root } = await templateFiles('layer')
    const content = await contentOf(join(root, 'build-layer'))
    const script = await writeLayer(store.scratch, join(project.folder, folder), content)
    return { kind: 'new', data: { name: folder, script } }
  })
}

/** The next free number in steps of ten; after a given layer, one between it and the next. */
export function nextName(existing: string[], name: string, after: string | undefined): string {
  if (!/^[A-Za-z0-9._-]+$/.test(name) || /^\d+_/.test(name)) {
    throw new VlbError('VLB_LAYER_NAME', `"${printable(name)}" is no name for a layer`, {
      hint: 'letters, digits, ".", "_" and "-", without a number: the number is found for you',
    })
  }
  const numbers = [...existing].sort(compareLayerNames).map((layer) => Number.parseInt(layer, 10))
  if (after === undefined) return layerName((Math.floor((numbers.at(-1) ?? -10) / 10) + 1) * 10, name)
  // Its number, or its whole name.
  const from = /^\d+$/.test(after) || existing.includes(after) ? Number.parseInt(after, 10) : Number.NaN
  if (!numbers.includes(from)) {
    throw new VlbError('VLB_LAYER_UNKNOWN', `no layer with the number ${printable(after)}`, {
      hint: `layers: ${[...existing].sort(compareLayerNames).join(', ') || 'none yet'}`,
    })
  }
  const next = numbers.find((number) => number > from)
  if (next === undefined) return layerName(from % 10 === 0 ? from + 10 : from + 1, name)
  if (next - from < 2) {
    throw new VlbError('VLB_LAYER_NAME', `no number is free between ${from} and ${next}`, {
      hint: 'renumber first (git mv): a new number changes no key',
    })
  }
  return layerName(Math.floor((from + next) / 2), name)
}

function layerName(number: number, name: string): string {
  const folder = `${String(number).padStart(2, '0')}_${name}`
  if (!isLayerName(folder)) throw new Error(`${folder} is no layer name`)
  return folder
}
