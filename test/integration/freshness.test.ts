// What is built again, and what never is.
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'

rigTest('a second build builds nothing, and does not write the image again', async (rig) => {
  rig.project({ '10_a': 'echo a > /a', '20_b': 'echo b > /b' })
  rig.commit()
  expect(await rig.build()).toEqual(['10_a built', '20_b built'])
  const first = await rig.json('build')
  expect(first.layers.map((l: { result: string }) => l.result)).toEqual(['cached', 'cached'])
  expect(first.image.written).toBe(false)
  expect(rig.readFromImage(first.image.path, '/b')).toBe('b\n')
})
