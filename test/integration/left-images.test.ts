// What is left of an image when the program and the janitor that watches over its files are killed at once.
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const halves = (rig: Rig) =>
  existsSync(rig.path('build')) ? readdirSync(rig.path('build')).filter((name) => name.endsWith('.tmp')) : []

rigTest(
  'half an image beside its place is gone with the next build; what has such a name and is not ours stays',
  async (rig) => {
    rig.project({ '10_a': 'echo a > /a' })
    rig.commit()
    const shims = join(rig.folder, 'shims')
    mkdirSync(shims)
    const real = rig.tool('sh', '-c', 'command -v qemu-img').trim()
    // Writes the beginning of an image, and comes to no end.
    const held = 'for last; do :; done; head -c 4096 /dev/zero >"$last"; exec sleep 600'
    writeFileSync(join(shims, 'qemu-img'), `#!/bin/sh\ncase $1 in convert) ${held} ;; esac\nexec ${real} "$@"\n`)
    chmodSync(join(shims, 'qemu-img'), 0o755)
    const running = rig.start(['build'], { env: { PATH: `${shims}:${process.env['PATH']}` } })
    while (halves(rig).length === 0) await delay(20)
    const pids = running.descendants()
    // Stopped, it cannot react to what its children come to.
    running.kill('SIGSTOP')
    for (const pid of pids) process.kill(pid, 'SIGKILL')
    running.kill('SIGKILL')
    await running.ended
    expect(halves(rig)).toHaveLength(1)
    rig.write({ 'build/.other.qcow2.1.abcdef.tmp': 'of another' })
    await rig.ok('build')
    expect(halves(rig)).toEqual(['.other.qcow2.1.abcdef.tmp'])
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/a')).toBe('a\n')
    rig.tool('rm', rig.path('build/.other.qcow2.1.abcdef.tmp'))
  },
)
