// A project's year in one test: branches that are built in the background, layers rolled up on one of them, and a release
// whose changelog another clone can tell without having built anything.
import { join } from 'node:path'
import { expect } from 'vitest'
import { Background } from '../rig/background.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const branches = ['main', 'one', 'two'] as const

function installs(version: string): Record<string, string> {
  return {
    'build-layer': '#!/bin/sh\nset -eu\nmkdir -p /var/lib/dpkg\ncp status /var/lib/dpkg/status\n',
    status: `Package: openssl\nStatus: install ok installed\nArchitecture: amd64\nVersion: ${version}\n`,
  }
}

function project(rig: Rig): void {
  rig.project({ '10_base': 'echo base > /base', '20_packages': installs('3.0.11-1'), '30_app': 'echo main > /app' })
  rig.commit('start')
  rig.git('tag', 'v1')
  for (const name of ['one', 'two']) {
    rig.git('checkout', '--quiet', '-b', name, 'main')
    rig.layer('30_app', `echo ${name} > /app`)
    rig.layer('40_more', `echo ${name} > /more`)
    rig.commit(`app ${name}`)
  }
  rig.git('checkout', '--quiet', 'main')
}

function withoutHooks(rig: Rig, branch: string): void {
  rig.git('-c', 'core.hooksPath=/dev/null', 'checkout', '--quiet', branch)
}

/** Copies the disk that the chain is, as a guest sees it and before any seal. */
async function unsealed(rig: Rig, name: string): Promise<string> {
  const [thin, copy] = [join(rig.folder, `${name}-thin.qcow2`), join(rig.folder, `${name}.qcow2`)]
  await rig.ok('build', '--no-flatten', '-o', thin)
  rig.tool('qemu-img', 'convert', '-O', 'qcow2', thin, copy)
  return copy
}

async function expectNothingToBuild(rig: Rig, layers: string[]): Promise<void> {
  expect(await rig.build()).toEqual(layers.map((name) => `${name} cached`))
}

rigTest(
  'branches are built before they are asked for, a rollup changes no image, a release tells its changes',
  async (rig) => {
    const background = new Background(rig)
    project(rig)
    await rig.build()
    await rig.ok('hooks', 'install')
    let before = background.state()
    for (const name of ['one', 'two', 'main']) {
      background.git('checkout', '--quiet', name)
      before = await background.ended(before)
      expect(before, background.log()).toMatchObject({ state: 'done' })
    }
    const layers = { main: ['10_base', '20_packages', '30_app'], one: [] as string[], two: [] as string[] }
    layers.one = layers.two = [...layers.main, '40_more']
    for (const name of branches) {
      withoutHooks(rig, name)
      await expectNothingToBuild(rig, layers[name])
    }

    withoutHooks(rig, 'one')
    const disk = await unsealed(rig, 'before')
    await rig.ok('rollup', '10..30', '--name', 'stack')
    expect(await rig.build()).toEqual(['10_stack cached', '40_more cached'])
    rig.tool('qemu-img', 'compare', disk, await unsealed(rig, 'after'))
    for (const name of ['main', 'two'] as const) {
      withoutHooks(rig, name)
      await expectNothingToBuild(rig, layers[name])
    }

    withoutHooks(rig, 'main')
    rig.layer('20_packages', installs('3.0.15-1'))
    background.git('commit', '--quiet', '--all', '-m', 'openssl 3.0.15')
    await rig.build()
    rig.git('tag', 'v2')
    await rig.ok('build', 'v1')

    const clone = join(rig.folder, 'clone')
    rig.git('clone', '--quiet', `file://${rig.repo}`, clone)
    rig.tool('git', '-C', clone, 'fetch', '--quiet', 'origin', 'refs/notes/vlb:refs/notes/vlb')
    const told = await rig.vlb(['changelog', 'v1..v2'], { cwd: clone })
    expect([told.code, told.stdout], told.all).toEqual([
      0,
      expect.stringContaining('| openssl | 3.0.11-1 | 3.0.15-1 |'),
    ])
    expect((await rig.vlb(['changelog', 'origin/one~..origin/one'], { cwd: clone })).stdout).toContain(
      'no change of content',
    )
  },
)
