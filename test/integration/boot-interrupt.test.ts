// A boot that is stopped, however: qemu goes with it, and nothing of what it was given stays.
import { truncateSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect } from 'vitest'
import { bootSector } from '../rig/boot-sector.ts'
import { rigTest } from '../rig/rig.ts'

describe.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
  ['SIGKILL', null],
] as const)('%s', (signal, status) => {
  rigTest(
    'ends a guest that hangs, and the overlay that was to be kept goes with it',
    async (rig) => {
      rig.project({ '10_a': 'true' })
      const disk = rig.path('hangs.raw')
      writeFileSync(disk, bootSector('here it hangs\r\n', 'hang').sector)
      truncateSync(disk, 2 ** 20)
      const boot = rig.start(['test-boot', disk, '--accel', 'tcg', '--expect', 'never', '--timeout', '10m', '--keep'])
      await boot.says('here it hangs')
      expect(rig.processes('qemu-system-')).not.toEqual([])
      boot.kill(signal)
      expect((await boot.ended).code).toBe(status)
      for (let i = 0; i < 100 && rig.processes(rig.repo).length > 0; i++) await delay(100)
      expect(rig.processes(rig.repo)).toEqual([])
      expect(rig.exists('build/kept.qcow2')).toBe(false)
    },
    ['root', 'tool:qemu-img', 'tool:qemu-system-x86_64', 'tool:busybox', 'tool:mke2fs'],
  )
})
