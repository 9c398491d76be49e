// Which UEFI is taken, out of the descriptions that distributions install.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { findUefi } from '../../../src/vm/firmware.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vlb-firmware-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function describeFirmware(file: string, name: string, more: Record<string, unknown> = {}): void {
  for (const part of ['CODE', 'VARS']) writeFileSync(join(folder, `${name}-${part}.fd`), '')
  const image = (part: string) => ({ filename: join(folder, `${name}-${part}.fd`), format: 'raw' })
  const description = {
    'interface-types': ['uefi'],
    mapping: { device: 'flash', executable: image('CODE'), 'nvram-template': image('VARS') },
    targets: [{ architecture: 'x86_64', machines: ['pc-q35-*'] }],
    features: ['acpi-s3'],
    ...more,
  }
  writeFileSync(join(folder, file), JSON.stringify(description))
}

test('the first for a Q35 that needs neither keys nor SMM, and is there', async () => {
  writeFileSync(join(folder, '00-broken.json'), '{')
  writeFileSync(join(folder, '10-off.json'), '')
  describeFirmware('20-arm.json', 'arm', { targets: [{ architecture: 'aarch64', machines: ['virt-*'] }] })
  describeFirmware('30-keys.json', 'keys', { features: ['enrolled-keys'] })
  describeFirmware('40-smm.json', 'smm', { features: ['requires-smm', 'secure-boot'] })
  describeFirmware('50-bios.json', 'bios', { 'interface-types': ['bios'] })
  describeFirmware('60-gone.json', 'gone')
  rmSync(join(folder, 'gone-VARS.fd'))
  await expect(findUefi([folder])).rejects.toMatchObject({
    code: 'VLB_HOST_TOOL',
    hint: expect.stringMatching(/ovmf/i),
  })
  describeFirmware('70-good.json', 'good')
  describeFirmware('80-later.json', 'later')
  const expected = { code: join(folder, 'good-CODE.fd'), template: join(folder, 'good-VARS.fd') }
  expect(await findUefi([join(folder, 'no such folder'), folder])).toEqual(expected)
})
