// The accelerator setting, and the guest that proves KVM.
import { expect, test } from 'vitest'
import { parseAccelerator, proofBootSector } from '../../../src/vm/accelerator.ts'
import { complaint } from '../errors.ts'

test('the setting is one of three', () => {
  expect(['auto', 'kvm', 'tcg'].map(parseAccelerator)).toEqual(['auto', 'kvm', 'tcg'])
  for (const text of ['', 'KVM', 'hvf']) {
    expect(complaint('VLB_USAGE', () => parseAccelerator(text))).toContain('git config vlb.accel')
  }
})

test('the proof is a boot sector', () => {
  const sector = proofBootSector()
  expect(sector.length).toBe(512)
  expect(sector.readUInt16LE(510)).toBe(0xaa55)
})
