// How a disk image is attached to the host: `vlb.attach` and `--nbd`.
import { printable, VlbError } from './errors.ts'
import { nearest } from './nearest.ts'

const ways = ['auto', 'fuse', 'nbd'] as const

/** auto: by FUSE, else by nbd; nbd: with a free device; otherwise the path of the nbd device to use. */
export type Attach = (typeof ways)[number] | `/dev/nbd${number}`

/** The value of `vlb.attach`; undefined: not set. Throws VLB_USAGE. */
export function parseAttach(text = 'auto'): Attach {
  const way = ways.find((word) => word === text)
  if (way) return way
  throw new VlbError('VLB_USAGE', `vlb.attach takes one of ${ways.join(', ')}, not "${printable(text, 80)}"`, {
    hint: `git config vlb.attach ${nearest(text, ways) ?? 'auto'}`,
  })
}

/** The value of `--nbd`. Nothing else may pass for a device: what is on it would be overwritten. Throws VLB_USAGE. */
export function parseDevice(text: string): Attach {
  if (/^\/dev\/nbd(0|[1-9]\d{0,4})$/.test(text)) return text as Attach
  throw new VlbError('VLB_USAGE', `--nbd takes an nbd device such as /dev/nbd0, not "${printable(text, 80)}"`, {
    hint: 'to let a free one be found: git config vlb.attach nbd',
  })
}
