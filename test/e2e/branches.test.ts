// Working with branches, from end to end: hooks build in the background what a checkout needs.
import { readdirSync } from 'node:fs'
import { expect } from 'vitest'
import { Background } from '../rig/background.ts'
import { rigTest } from '../rig/rig.ts'

rigTest('three branches, hooks on: what is checked out is there when it is wanted', async (rig) => {
  const background = new Background(rig)
  rig.project({ '10_base': 'echo base > /base', '20_app': 'echo main > /app' })
  rig.commit('start')
  await rig.build()
  for (const name of ['one', 'two']) {
    rig.git('checkout', '--quiet', '-b', name, 'main')
    rig.layer('20_app', `echo ${name} > /app`)
    rig.layer('30_more', `echo ${name} > /more`)
    rig.commit(`app ${name}`)
  }
  rig.git('checkout', '--quiet', 'main')
  await rig.ok('hooks', 'install')

  let before = background.state()
  for (const name of ['one', 'two', 'main']) {
    background.git('checkout', '--quiet', name)
    before = await background.ended(before)
    expect(before, background.log()).toMatchObject({
      state: 'done',
      built: name === 'main' ? [] : ['20_app', '30_more'],
    })
    expect(readdirSync(rig.path('build'))).toEqual(['image.qcow2'])
  }
  for (const name of ['one', 'two', 'main']) {
    rig.git('-c', 'core.hooksPath=/dev/null', 'checkout', '--quiet', name)
    const layers = await rig.build()
    expect(layers.filter((layer) => !layer.endsWith(' cached'))).toEqual([])
    expect(layers.length).toBe(name === 'main' ? 2 : 3)
    expect(rig.readFromImage(rig.path('build/image.qcow2'), '/app')).toBe(`${name}\n`)
  }

  // What is in git alone moves, too: a merge, and an amended commit.
  rig.git('-c', 'core.hooksPath=/dev/null', 'checkout', '--quiet', 'main')
  rig.layer('20_app', 'echo merged > /app')
  rig.git('checkout', '--quiet', '-b', 'three')
  rig.commit('app three')
  rig.git('-c', 'core.hooksPath=/dev/null', 'checkout', '--quiet', 'main')
  background.git('merge', '--quiet', 'three')
  before = await background.ended(before)
  expect(before.built).toEqual(['20_app'])
  rig.layer('20_app', 'echo amended > /app')
  background.git('commit', '--quiet', '--all', '--amend', '--message', 'amended')
  before = await background.ended(before)
  expect(before.built).toEqual(['20_app'])
  expect(await rig.build()).toEqual(['10_base cached', '20_app cached'])
})
