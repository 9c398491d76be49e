// When only the last layer is missing, the image is written while that is being built, and gets what the layer changed
// written over it. It must be what the chain is, whatever the layer does, and however it ends.
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

const noise = 'dd if=/dev/urandom of=/noise bs=1024 count=6000 2>/dev/null'
const image = 'build/image.qcow2'

/** Builds, and returns the conversions it took: of what is whole, and of what an overlay changed. */
async function conversions(rig: Rig, ...args: string[]): Promise<string[]> {
  const ran = await rig.vlb(['build', ...args], { env: { VLB_TRACE: '1' } })
  expect(ran.code, ran.all).toBe(0)
  return [...ran.stderr.matchAll(/^\+ (?:nice -n 10 )?qemu-img convert (-n )?/gm)].map(([, delta]) =>
    delta ? 'changes' : 'whole',
  )
}

/** The image holds the disk that the chain is. */
async function expectChain(rig: Rig, path = image, format = 'qcow2'): Promise<void> {
  const thin = join(rig.folder, 'thin.qcow2')
  await rig.ok('build', '--no-flatten', '-o', thin)
  rig.tool('qemu-img', 'compare', '-f', format, '-F', 'qcow2', rig.path(path), thin)
}

for (const format of ['qcow2', 'raw']) {
  rigTest(`the last layer edited: it is written over a ${format} that was begun before`, async (rig) => {
    rig.project({ '10_a': noise, '20_b': 'echo b > /b' }, `seal: false\noutput: { format: ${format} }\n`)
    rig.commit()
    expect(await conversions(rig)).toEqual(['whole'])
    rig.layer('20_b', 'echo changed > /b; dd if=/dev/urandom of=/noise bs=1024 seek=100 count=50 conv=notrunc')
    expect(await conversions(rig)).toEqual(['whole', 'changes'])
    await expectChain(rig, `build/image.${format}`, format)
    expect(rig.readFromImage(rig.path(`build/image.${format}`), '/b')).toBe('changed\n')
    if (format === 'qcow2') rig.tool('qemu-img', 'check', rig.path(image))
    rig.layer('10_a', 'echo less > /noise')
    expect(await conversions(rig), 'two layers to build').toEqual(['whole'])
  })
}

rigTest('what the seal takes away is not in it either', async (rig) => {
  rig.project({ '10_a': noise, '20_b': 'mkdir -p /etc; echo 0123456789abcdef0123456789abcdef > /etc/machine-id' })
  rig.commit()
  await rig.build()
  rig.layer('20_b', 'mkdir -p /etc; echo fedcba9876543210fedcba9876543210 > /etc/machine-id; echo b > /b')
  expect(await conversions(rig)).toEqual(['whole', 'changes', 'changes'])
  expect(rig.readFromImage(rig.path(image), '/etc/machine-id')).toBe('')
  expect(rig.readFromImage(rig.path(image), '/b')).toBe('b\n')
  rig.tool('qemu-img', 'check', rig.path(image))
  // The same as one written whole from the same seal.
  const whole = join(rig.folder, 'whole.qcow2')
  expect(await conversions(rig, '-o', whole)).toEqual(['whole'])
  for (const file of ['/etc/machine-id', '/b'])
    expect(rig.readFromImage(whole, file)).toBe(rig.readFromImage(rig.path(image), file))
})

rigTest('a layer that frees much: the image is written whole, and is no larger for it', async (rig) => {
  rig.project({ '10_a': noise, '20_b': 'echo b > /b' }, 'seal: false\n')
  rig.commit()
  await rig.build()
  const before = statSync(rig.path(image)).size
  rig.layer('20_b', 'rm /noise')
  expect((await conversions(rig)).filter((what) => what === 'whole')).toHaveLength(2)
  await expectChain(rig)
  expect(statSync(rig.path(image)).size).toBeLessThan(before - 5_000_000)
})

rigTest('it cannot be written ahead, or not written over: it is written whole', async (rig) => {
  rig.project({ '10_a': noise, '20_b': 'echo 0 > /b' }, 'seal: false\n')
  rig.commit()
  await rig.build()
  const shims = join(rig.folder, 'shims')
  mkdirSync(shims)
  for (const [round, match] of ['*".tmp "', '" convert -n "*'].entries()) {
    const once = join(rig.folder, `once-${round}`)
    const fail = `mkdir "${once}" 2>/dev/null && { echo "qemu-img: Input/output error" >&2; exit 1; }`
    const test = match.startsWith('*') ? `*" convert "*${match}` : `${match}`
    writeFileSync(
      join(shims, 'qemu-img'),
      `#!/bin/sh\ncase " $* " in ${test}) ${fail} ;; esac\nPATH=\${PATH#*:} exec qemu-img "$@"\n`,
      { mode: 0o755 },
    )
    rig.layer('20_b', `echo round ${round} > /b`)
    const ran = await rig.vlb(['build'], { env: { PATH: `${shims}:${rig.env['PATH']}` } })
    expect(ran.code, ran.all).toBe(0)
    expect(rig.exists('..', `once-${round}`), 'it was made to fail').toBe(true)
    await expectChain(rig)
    expect(rig.readFromImage(rig.path(image), '/b')).toBe(`round ${round}\n`)
    expect(readdirSync(rig.path('build'))).toEqual(['image.qcow2'])
  }
})

rigTest('the layer fails, or all is killed: the image before is still there, and nothing beside it', async (rig) => {
  rig.project({ '10_a': noise, '20_b': 'echo b > /b' }, 'seal: false\n')
  rig.commit()
  await rig.build()
  const { ino } = statSync(rig.path(image))
  rig.layer('20_b', 'exit 3')
  expect((await rig.vlb(['build'])).code).toBe(1)
  const hold = await rig.hold()
  rig.layer('20_b', hold.line)
  const build = rig.start(['build'])
  await hold.reached()
  build.kill('SIGKILL')
  await build.ended
  expect(await rig.leaks()).toEqual([])
  expect(readdirSync(rig.path('build'))).toEqual(['image.qcow2'])
  expect(statSync(rig.path(image)).ino).toBe(ino)
})
