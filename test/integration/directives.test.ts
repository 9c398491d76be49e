// What a directive gives to a script, and what of it is absent from snapshot, log and key.
import { readdirSync, readFileSync } from 'node:fs'
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'

function everySnapshot(rig: { store: (...parts: string[]) => string }): Buffer {
  const folders = readdirSync(rig.store('snapshots'))
  return Buffer.concat(
    folders.flatMap((id) =>
      ['layer.qcow2', 'manifest.json', 'build.log'].map((name) => readFileSync(rig.store('snapshots', id, name))),
    ),
  )
}

rigTest('secret: there for the script, and nowhere else', async (rig) => {
  const value = 'correct-horse-battery-staple'
  rig.write({ '../token': `${value}\n` })
  const script =
    '# vlb: secret token\nstat -c "%a %u" /run/secrets/token; cat /run/secrets/token; sleep 0; ls /run/secrets >/seen; wc -c </run/secrets/token >>/seen'
  rig.project({ '10_a': script, '20_b': 'ls /run/secrets | wc -l >/count' })
  const ran = await rig.vlb(['build', '--secret', 'id=token,src=../token'])
  expect(ran.code, ran.all).toBe(0)
  expect(ran.all).not.toContain(value)
  expect(ran.stderr).toContain('10_a | 400 0')
  expect(ran.stderr).toContain('10_a | ***')
  expect(await rig.ok('log', '10_a')).toContain('***')
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/seen')).toBe(`token\n${value.length + 1}\n`)
  // A layer that does not declare it does not see it.
  expect(rig.readFromImage(image, '/count').trim()).toBe('0')
  expect(everySnapshot(rig).includes(value)).toBe(false)
  // Not part of the key: another value, or none, and all is there.
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
})

rigTest(
  'secret: from the environment; one that is missing or strange is refused before anything is built',
  async (rig) => {
    rig.project({ '10_a': 'true', '20_b': '# vlb: secret token\ncp /run/secrets/token /copy' })
    const missing = await rig.vlb(['build'])
    expect(missing.code).toBe(2)
    expect(missing.stderr).toContain('20_b needs the secret token')
    expect(missing.stderr).not.toContain('10_a: building')
    const stray = await rig.vlb(['build', '--secret', 'id=other,env=HOME'])
    expect(stray.code).toBe(2)
    expect(stray.stderr).toContain('no layer declares the secret other')
    const unset = await rig.vlb(['build', '--secret', 'id=token,env=NOT_SET'])
    expect(unset.stderr).toContain('the environment has no NOT_SET')
    const ran = await rig.vlb(['build', '--secret', 'id=token,env=MY_TOKEN'], { env: { MY_TOKEN: 'abc\tdef' } })
    expect(ran.code, ran.all).toBe(0)
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/copy')).toBe('abc\tdef')
  },
)

rigTest('cache: kept from build to build, shared by layers, not in the snapshot', async (rig) => {
  const script = (n: number) =>
    `# vlb: cache /var/cache/deep/down\necho ${n} >>/var/cache/deep/down/list; cat /var/cache/deep/down/list >/seen${n}`
  rig.project({ '10_a': script(1), '20_b': script(2) })
  await rig.build()
  const image = rig.path('build/image.qcow2')
  expect(rig.readFromImage(image, '/seen2')).toBe('1\n2\n')
  expect(rig.readFromImage(image, '/var/cache/deep/down/list')).toBe('')
  rig.layer('20_b', script(3))
  await rig.build()
  expect(rig.readFromImage(image, '/seen3')).toBe('1\n2\n3\n')
})

rigTest('cache: two builds at once do not get into each other', async (rig) => {
  const hold = await rig.hold()
  const script = `# vlb: cache /cache\n# vlb: env N\necho $N >>/cache/list; ${hold.line}; cp /cache/list /seen`
  rig.project({ '10_a': script })
  const first = rig.start(['build', '--env', 'N=1', '-o', 'build/1.qcow2'])
  await hold.reached()
  const second = rig.start(['build', '--env', 'N=2', '-o', 'build/2.qcow2'])
  await second.says('10_a: building')
  hold.release()
  expect([(await first.ended).code, (await second.ended).code]).toEqual([0, 0])
  expect(rig.readFromImage(rig.path('build/1.qcow2'), '/seen')).toBe('1\n')
  expect(rig.readFromImage(rig.path('build/2.qcow2'), '/seen')).toMatch(/^(1\n)?2\n$/)
})

rigTest('cache: what cannot be copied for a second build is not shared with it either', async (rig) => {
  const hold = await rig.hold()
  rig.project({
    '10_a': `# vlb: cache /cache\n# vlb: env N\necho $N >>/cache/list; ${hold.line}; cp /cache/list /seen`,
  })
  const fails = rig.path('../fails')
  rig.write({ '../fails': '#!/bin/sh\nexit 1\n' })
  rig.tool('chmod', '755', fails)
  const first = rig.start(['build', '--env', 'N=1', '-o', 'build/1.qcow2'])
  await hold.reached()
  const by = ['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" "$(command -v cp)" && exec "$@"', fails]
  const second = rig.start(['build', '--env', 'N=2', '-o', 'build/2.qcow2'], { by })
  await expect.poll(() => hold.calls).toBe(2)
  hold.release()
  expect([(await first.ended).code, (await second.ended).code]).toEqual([0, 0])
  expect(rig.readFromImage(rig.path('build/1.qcow2'), '/seen')).toBe('1\n')
  expect(rig.readFromImage(rig.path('build/2.qcow2'), '/seen')).toBe('2\n')
})

rigTest('include: read-only, as git holds it, and part of the key of those who include it', async (rig) => {
  const script =
    '# vlb: include common/lib.sh\n# vlb: include common/data\n. "$VLB_INCLUDE/common/lib.sh"; cat "$VLB_INCLUDE/common/data/x" >>/out; touch "$VLB_INCLUDE/common/new" || echo read-only >>/out'
  rig.project({ '10_a': 'true', '20_b': script })
  rig.write({ 'common/lib.sh': 'echo lib >/out\n', 'common/data/x': 'x\n', 'common/other': '1\n' })
  expect(await rig.build()).toEqual(['10_a built', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/out')).toBe('lib\nx\nread-only\n')
  rig.commit()
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  expect(await rig.build('HEAD')).toEqual(['10_a cached', '20_b cached'])
  rig.write({ 'common/other': '2\n' })
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
  rig.write({ 'common/data/x': 'y\n' })
  expect(await rig.build()).toEqual(['10_a cached', '20_b built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/out')).toBe('lib\ny\nread-only\n')
  rig.git('checkout', '--quiet', 'common/data/x')
  expect(await rig.build()).toEqual(['10_a cached', '20_b cached'])
})

rigTest('include: what git does not hold is refused', async (rig) => {
  rig.project({ '10_a': '# vlb: include nothing/here\ntrue' })
  const ran = await rig.vlb(['build'])
  expect(ran.code).toBe(2)
  expect(ran.stderr).toContain('10_a includes nothing/here, which git does not hold')
})
