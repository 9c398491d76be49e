// Lock files that nobody needs are removed; whoever waits for one meanwhile shares its lock with nobody.
import { existsSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { removeLockFile, takeLock, tryLock } from '../../src/host/lock.ts'
import { rigTest } from '../rig/rig.ts'

const { signal } = new AbortController()

rigTest('a lock whose file is removed while somebody waits is taken on the file that is there then', async (rig) => {
  const file = join(rig.folder, 'lock')
  const first = await takeLock(file, signal, () => {})
  let waits = 0
  let waiting = () => {}
  const waited = new Promise<void>((resolve) => (waiting = resolve))
  const second = takeLock(file, signal, () => {
    waits++
    waiting()
  })
  await waited
  await removeLockFile(file)
  expect(existsSync(file)).toBe(true)
  rmSync(file)
  await first.release()
  const held = await second
  expect(waits).toBe(1)
  expect(await tryLock(file, signal)).toBeUndefined()
  await removeLockFile(file)
  expect(existsSync(file)).toBe(true)
  await held.release()
  await removeLockFile(file)
  expect(existsSync(file)).toBe(false)
  const third = await tryLock(file, signal)
  expect(third).toBeDefined()
  await third?.release()
})

rigTest('gc removes lock files of a day ago, but not one that is held', async (rig) => {
  const hold = await rig.hold()
  rig.project({ '10_a': hold.line })
  rig.commit()
  const running = rig.start(['build'])
  await hold.reached()
  const [{ key }] = (await rig.json('status')).layers
  writeFileSync(rig.store('locks/old'), '1')
  const yesterday = Date.now() / 1000 - 2 * 86_400
  for (const name of ['old', key]) utimesSync(rig.store('locks', name), yesterday, yesterday)
  await rig.ok('gc')
  expect([existsSync(rig.store('locks/old')), existsSync(rig.store('locks', key))]).toEqual([false, true])
  hold.release()
  expect((await running.ended).code).toBe(0)
})
