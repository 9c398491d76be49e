// Chains of many layers.
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'

rigTest('a chain of 70 layers is built, flattened, and rolled up as status says', async (rig) => {
  const layers = Array.from({ length: 70 }, (_, i): [string, string] => [`${i + 10}_n`, `echo ${i} >> /count`])
  rig.project(Object.fromEntries(layers))
  rig.commit()
  expect(await rig.build()).toHaveLength(70)
  const count = rig.readFromImage(rig.path('build/image.qcow2'), '/count').trim().split('\n')
  expect(count).toEqual(layers.map((_, i) => String(i)))
  expect(new Set(await rig.build())).toEqual(new Set(layers.map(([name]) => `${name} cached`)))
  expect(await rig.ok('status'), 'a rollup is suggested').toContain(': git vlb rollup 10_n..69_n makes one of 60')
  expect((await rig.json('status', 'HEAD')).rollup).toBeNull()
  expect((await rig.json('status')).rollup).toEqual({ from: '10_n', to: '69_n', layers: 60 })
  await rig.ok('rollup', '10_n..69_n')
  expect((await rig.json('status')).rollup).toBeNull()
  expect(new Set(await rig.build()), 'and runs nothing again').toEqual(
    new Set(['10_n-to-n', ...layers.slice(60).map(([name]) => name)].map((name) => `${name} cached`)),
  )
})
