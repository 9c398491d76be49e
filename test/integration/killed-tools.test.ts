// A program of the host that somebody or something kills while git vlb waits for it, such as a kernel out of memory: no bug of
// ours, and told as what it is.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

/** A stand-in for a tool: `body` in sh, in which $real is the tool itself. */
function standIn(rig: Rig, tool: string, body: string): Record<string, string> {
  const folder = join(rig.folder, 'shims')
  mkdirSync(folder)
  const real = rig.tool('sh', '-c', `command -v ${tool}`).trim()
  writeFileSync(join(folder, tool), `#!/bin/sh\nreal=${real}\n${body}\nexec $real "$@"\n`)
  chmodSync(join(folder, tool), 0o755)
  return { PATH: `${folder}:${process.env['PATH']}` }
}

describe('a tool that is killed: status 1, and no word of a bug', () => {
  for (const [name, tool, body] of [
    ['flock', 'flock', 'kill -9 $$'],
    ['what flock runs', 'flock', 'exit 137'],
    ['qemu-img, making an overlay', 'qemu-img', 'case $1 in create) kill -9 $$ ;; esac'],
    ['qemu-img, writing the image', 'qemu-img', 'case $1 in convert) kill -9 $$ ;; esac'],
  ] as const)
    rigTest(name, async (rig) => {
      rig.project({ '10_a': 'echo a > /a' })
      rig.commit()
      const ran = await rig.vlb(['build'], { env: standIn(rig, tool, body) })
      expect(ran.code, ran.all).toBe(1)
      expect(ran.stderr).toContain(`error: ${tool} was killed by SIGKILL\nhint: `)
      expect(ran.stderr).not.toContain('bug in git vlb')
      await rig.ok('build')
      expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
    })
})
