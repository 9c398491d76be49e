// When to stop waiting for a guest.
import { describe, expect, test } from 'vitest'
import { hopeless } from '../../../src/vm/watch.ts'

const start = 'SeaBIOS (version 1.16.2-debian-1.16.2-1)\nBooting from Hard Disk...\n'

describe('a guest is given up', () => {
  test.each([
    ['without a boot loader', `${start}Boot failed: not a bootable disk\n\nNo bootable device.\n`, /no boot loader/],
    [
      'whose kernel stopped for good',
      `${start}[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs\n[    2.2] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---`,
      /panicked \(VFS: Unable to mount root fs\)$/,
    ],
    ['without anything that UEFI can start', 'BdsDxe: No bootable option or device was found.\n', /no boot loader/],
  ])('%s', (_, text, reason) => {
    expect(hopeless(text)?.what).toMatch(reason)
  })

  test.each([
    ['that is booting', start],
    ['that restarts', start.repeat(2)],
    [
      'whose kernel is about to restart by itself',
      `${start}Kernel panic - not syncing: hung_task\nRebooting in 10 seconds..`,
    ],
    ['that quotes the firmware', 'log: No bootable device.\n'],
  ])('but not one %s', (_, text) => {
    expect(hopeless(text)).toBeUndefined()
  })
})
