// What `status` says: each layer's state, and why it is not cached.
import { describe, expect } from 'vitest'
import { complains, refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

interface Layer {
  name: string
  key: string
  state: string
  reason: string
}

async function layers(rig: Rig, ...args: string[]): Promise<Layer[]> {
  const ran = await rig.vlb(['status', '--json', ...args])
  expect(ran.code, ran.all).toBe(0)
  return JSON.parse(ran.stdout).layers
}

const states = (found: Layer[]) => found.map(({ name, state }) => `${name} ${state}`)

describe('values given with --env', () => {
  const project = (rig: Rig) =>
    rig.project({ '10_a': 'echo a', '20_b': '# vlb: env NAME\necho "$NAME" > /b', '30_c': 'echo c' })

  rigTest('a layer that lacks one is missing, as is all above it, and nothing fails', async (rig) => {
    project(rig)
    await rig.build('--env', 'NAME=x')
    const found = await layers(rig)
    expect(states(found)).toEqual(['10_a cached', '20_b missing', '30_c missing'])
    expect(found[1]?.reason).toBe('needs a value for NAME: give --env NAME=…, or env: { NAME: … } in vlb.yaml')
    expect(found[2]?.reason).toBe('20_b below it has to be built')
    expect(found.map(({ key }) => key !== '')).toEqual([true, false, false])
    expect(await rig.ok('status')).toContain('needs a value for NAME')
  })

  rigTest('status, log and shell take them as build does', async (rig) => {
    project(rig)
    await rig.build('--env', 'NAME=x')
    expect(states(await layers(rig, '--env', 'NAME=x'))).toEqual(['10_a cached', '20_b cached', '30_c cached'])
    expect(states(await layers(rig, '--env', 'NAME=y'))).toEqual(['10_a cached', '20_b missing', '30_c missing'])
    expect(await rig.ok('log', '30_c', '--env', 'NAME=x')).toContain('c')
    complains(await rig.vlb(['log', '30_c']), { says: '20_b needs a value for NAME', hint: '--env NAME=' })
    expect(await rig.ok('log', '10_a')).toContain('a')
    const shell = await rig.vlb(['shell', '30_c', '--env', 'NAME=x'])
    expect(shell.code, shell.all).toBe(0)
    expect(shell.stderr, 'built again').not.toContain('30_c built')
    complains(await rig.vlb(['shell']), { says: '20_b needs a value for NAME', hint: '--env NAME=' })
    for (const verb of ['status', 'shell'])
      await refused(rig, [verb, '--env', 'NAEM=x'], { says: 'no layer declares the value NAEM', hint: 'NAME' })
    await refused(rig, ['status', '--env', 'NAME'], { says: '--env takes NAME=VALUE', hint: '# vlb: env NAME' })
  })
})
