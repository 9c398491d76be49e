// The seal: makes one disk safe to clone, before the image is written. It works on a throw-away overlay, so that no
// snapshot changes.
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { parseSeal, type SealedStep, type SealStep } from '../core/seal.ts'
import { createOverlay } from '../image/qcow2.ts'
import { seal } from '../image/sandbox.ts'
import { overlayName, snapshotReference } from '../store/places.ts'
import type { Snapshot } from '../store/store.ts'
import type { BuildContext } from './context.ts'
import { prepareMounts } from './mounts.ts'

export interface SealJob {
  top: Snapshot
  seal: readonly SealStep[]
  label: string
}

/** Gives `write` the disk to write images from. Returns what it returned, and what was taken away. */
export async function sealed<T>(
  context: BuildContext,
  job: SealJob,
  write: (disk: string) => Promise<T>,
): Promise<{ written: T; seal: SealedStep[] }> {
  if (job.seal.length === 0) return { written: await write(job.top.file), seal: [] }
  const work = await context.store.scratch.folder()
  try {
    const { steps, changed } = await sealOverlay(context, job, work)
    // With nothing taken away the image is the snapshot, bit by bit.
    return { written: await write(changed ? join(work, overlayName) : job.top.file), seal: steps }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function sealOverlay(context: BuildContext, { top, seal: steps, label }: SealJob, work: string) {
  const started = Date.now()
  context.emit({ type: 'seal-started', label })
  const { disk, id } = top.manifest
  const reference = snapshotReference(id).building
  await mkdir(join(work, 'ns'))
  await createOverlay(work, overlayName, { reference, format: 'qcow2' }, disk.size, context.signal)
  const { root } = await prepareMounts(work, disk)
  let said = ''
  const onOutput = (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4000)
  }
  try {
    const report = parseSeal(
      await seal(work, root, steps, { attach: context.attach, signal: context.signal, onOutput }),
    )
    for (const text of report.warnings) context.emit({ type: 'warning', text: `seal: ${printable(text)}` })
    context.emit({ type: 'seal-ended', label, steps: report.steps, seconds: (Date.now() - started) / 1000 })
    return report
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_SEAL') throw error
    const last = said.trimEnd().split('\n').at(-1)
    throw new VlbError('VLB_SEAL', `seal ${error.message}${last ? ` (${printable(last)})` : ''}`, {
      hint: 'correct it in a layer, or give vlb.yaml a list of the other steps: seal: [machine-id, …]',
    })
  }
}
