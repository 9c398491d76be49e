// An OVA: a tar with the machine's description first, then the digests, then the disk. Its readers know plain USTAR only.

import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { pack as tar } from 'tar-stream'
import { type Machine, ovfDescriptor, plainName } from '../core/ovf.ts'
import { hashFile } from '../host/files.ts'

export interface OvaJob {
  machine: Machine
  /** A streamOptimized vmdk, and the virtual size of its disk. */
  vmdk: string
  capacity: number
  to: string
  /** Time of change of the files inside. */
  date: Date
  signal: AbortSignal
}

export async function writeOva(job: OvaJob): Promise<void> {
  const { machine, vmdk, signal } = job
  const name = plainName(machine.name)
  const disk = { file: `${name}-disk1.vmdk`, fileBytes: (await stat(vmdk)).size, capacity: job.capacity }
  const ovf = Buffer.from(ovfDescriptor(machine, disk))
  const sums = [
    [`${name}.ovf`, createHash('sha256').update(ovf).digest('hex')],
    [disk.file, await hashFile(vmdk, 'sha256', { signal })],
  ]
  const manifest = sums.map(([file, sum]) => `SHA256(${file})= ${sum}\n`).join('')
  const pack = tar()
  const common = { mode: 0o644, uid: 0, gid: 0, mtime: job.date, type: 'file' as const }
  const written = pipeline(pack, createWriteStream(job.to), { signal })
  pack.entry({ ...common, name: `${name}.ovf` }, ovf)
  pack.entry({ ...common, name: `${name}.mf` }, manifest)
  const filled = pipeline(createReadStream(vmdk), pack.entry({ ...common, name: disk.file, size: disk.fileBytes }), {
    signal,
  }).then(() => pack.finalize())
  // Whichever of the two fails first says why; the other is waited for all the same.
  const [first, second] = await Promise.allSettled([written, filled])
  if (first.status === 'rejected') throw first.reason
  if (second.status === 'rejected') throw second.reason
}
