// --sbom: the bill of materials of the image that was built, whatever was built of it.
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { expect } from 'vitest'
import { rigTest } from '../rig/rig.ts'

const install = (name: string) =>
  `mkdir -p /var/lib/dpkg; printf 'Package: ${name}\\nStatus: install ok installed\\nArchitecture: amd64\\nVersion: 1.0\\n\\n' >> /var/lib/dpkg/status`

rigTest('a bill of materials of the image, the same from the store as when built', async (rig) => {
  rig.project({ '10_a': install('aa'), '20_b': install('bb') }, 'name: web\n')
  rig.commit()
  const file = rig.path('build/web.spdx.json')
  const { sbom } = await rig.json('build', '--sbom', file)
  expect(sbom).toEqual({ path: file, packages: 2 })
  const text = readFileSync(file, 'utf8')
  const document = JSON.parse(text)
  expect(document).toMatchObject({ spdxVersion: 'SPDX-2.3', name: 'web' })
  expect(document.packages.map((one: { name: string }) => one.name)).toEqual(['web', 'aa', 'bb'])
  expect(document.packages[1].externalRefs[0].referenceLocator).toBe('pkg:deb/tiny/aa@1.0?arch=amd64')
  writeFileSync(file, 'old')
  const again = await rig.ok('build', '--sbom', 'build/web.spdx.json')
  expect(again).toContain('sbom build/web.spdx.json  2 packages')
  expect(readFileSync(file, 'utf8')).toBe(text)
  expect(readdirSync(rig.path('build')).sort()).toEqual(['image.qcow2', 'web.spdx.json'])
  await rig.ok('build', '--last', '10_a', '--sbom', 'new/folder/a.json')
  const less = JSON.parse(rig.read('new/folder/a.json'))
  expect(less.packages).toHaveLength(2)
  expect(less.documentNamespace).not.toBe(document.documentNamespace)
})

rigTest('snapshots without a list are looked into', async (rig) => {
  rig.project({ '10_a': install('aa') })
  rig.commit()
  await rig.build()
  const [id = ''] = readdirSync(rig.store('snapshots'))
  rmSync(rig.store('snapshots', id, 'packages.json'))
  const overlay = rig.store('snapshots', id, 'layer.qcow2')
  const before = readFileSync(overlay)
  expect((await rig.json('build', '--sbom', 'a.json')).sbom.packages).toBe(1)
  expect(readFileSync(overlay).equals(before), 'without a trace').toBe(true)
})

rigTest('what cannot be, and what is not to be', async (rig) => {
  rig.project({ '10_a': 'true' })
  rig.commit()
  for (const [args, says] of [
    [['HEAD', 'main', '--sbom', 'x.json'], 'one file, but several revisions'],
    [['--sbom', 'build/image.qcow2'], 'the build writes anyway'],
  ] as const) {
    const ran = await rig.vlb(['build', ...args])
    expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining(says)])
  }
  expect((await rig.json('build', '--dry-run', '--sbom', 'x.json')).sbom).toBeUndefined()
  expect(rig.exists('x.json')).toBe(false)
  rig.layer('10_a', 'false')
  expect((await rig.vlb(['build', '--sbom', 'x.json'])).code).toBe(1)
  expect(rig.exists('x.json')).toBe(false)
  rig.layer('10_a', 'true')
  await rig.ok('build', '--sbom', 'x.json')
  expect(statSync(rig.path('x.json')).size).toBeGreaterThan(100)
})
