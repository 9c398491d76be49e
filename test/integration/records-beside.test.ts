// The record of a build is written while its image is: what becomes of it when the image fails.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'

rigTest('an image that fails sooner than the record is written: the record is, and the program ends', async (rig) => {
  rig.project({ '10_a': 'echo a > /a' }, 'seal: false\n')
  rig.commit()
  const folder = join(rig.folder, 'shims')
  mkdirSync(folder)
  for (const [tool, line] of [
    ['qemu-img', 'case $1 in convert) echo Disk quota exceeded >&2; exit 1 ;; esac'],
    ['git', 'case "$*" in *fast-import*) sleep 2 ;; esac'],
  ] as const) {
    const real = rig.tool('sh', '-c', `command -v ${tool}`).trim()
    writeFileSync(join(folder, tool), `#!/bin/sh\n${line}\nexec ${real} "$@"\n`)
    chmodSync(join(folder, tool), 0o755)
  }
  const building = rig.start(['build'], { env: { PATH: `${folder}:${process.env['PATH']}` } })
  const ran = await Promise.race([building.ended, delay(30_000)])
  expect(ran ? ran.code : 'still there').toBe(3)
  expect(rig.git('notes', '--ref=vlb', 'show')).toContain('"10_a"')
})
