// Damage in what a chain is made of, found before it is used or when using it failed: what is damaged is dropped, and the
// chain planned anew.
import { VlbError } from '../core/errors.ts'
import type { Digest, SnapshotId } from '../core/ids.ts'
import { ToolError } from '../host/run.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import type { StepOutcome } from './job.ts'
import { tellDamage } from './locked.ts'
import { baseIsSound } from './stored-bases.ts'

/** Thrown where something that was there is gone: dropped as damaged, or by gc. */
export class SnapshotGone extends Error {}

/** False where something was damaged: it is gone now, or for a base will be brought anew when it is asked for. */
export async function areSound(
  context: BuildContext,
  ids: readonly SnapshotId[],
  base: Digest | undefined,
  how: 'tables' | 'whole' = 'tables',
): Promise<boolean> {
  const snapshots = await context.store.areSound(ids, (damage) => tellDamage(context, damage), how)
  return (base === undefined || (await baseIsSound(context, base, how))) && snapshots
}

/** All that a disk is made of, from the top down. */
export async function partsOf(
  context: BuildContext,
  top: Snapshot,
): Promise<{ ids: SnapshotId[]; base: Digest | undefined }> {
  const ids: SnapshotId[] = []
  for (let next: Snapshot | undefined = top; next; ) {
    const { id, parent, base }: Snapshot['manifest'] = next.manifest
    ids.push(id)
    if (parent === undefined) return { ids, base: base as Digest | undefined }
    next = ids.includes(parent) ? undefined : await context.store.get(parent)
  }
  return { ids, base: undefined }
}

/**
 * After a failure that damage below could be the reason of: looks into all bytes, which takes a while. Throws SnapshotGone
 * if something was damaged.
 */
export async function blameDamage(
  context: BuildContext,
  failed: unknown,
  ids: readonly SnapshotId[],
  base: Digest | undefined,
): Promise<void> {
  if (context.signal.aborted || !couldBeDamage(failed)) return
  context.emit({ type: 'note', text: 'looking for damage in what it stands on' })
  if (!(await areSound(context, ids, base, 'whole'))) throw new SnapshotGone()
}

const suspicious = /Input\/output error|I\/O error|Structure needs cleaning|Bad message|Image is corrupt/i

function couldBeDamage(failed: unknown): boolean {
  if (failed instanceof ToolError) return failed.tool.startsWith('qemu-')
  if (!(failed instanceof VlbError)) return false
  if (['VLB_HOST_IO', 'VLB_KILLED', 'VLB_STORE_DAMAGED', 'VLB_HOST_KERNEL'].includes(failed.code)) return true
  if (failed.code === 'VLB_DISK') return failed.message.includes('is damaged')
  return failed.code === 'VLB_HOST_ATTACH' && failed.message.includes('did not export the disk')
}

/** The same of a step that failed: its script may have read what is damaged. */
export function suspectOf(outcome: StepOutcome): unknown {
  if (!('failure' in outcome)) return undefined
  const told = outcome.lastLines.some((line) => suspicious.test(line))
  return told ? new VlbError('VLB_HOST_IO', outcome.error.message) : outcome.error
}
