// The description of a machine in an OVA: well-formed, whatever its name, and with what importers look for.
import fc from 'fast-check'
import { XMLParser, XMLValidator } from 'fast-xml-parser'
import { expect, test } from 'vitest'
import { type Machine, ovfDescriptor, plainName } from '../../../src/core/ovf.ts'

const machine: Machine = { name: 'web', cpus: 4, memory: 1.5 * 2 ** 30, firmware: 'bios', arch: 'x86_64' }
const disk = { file: 'web-disk1.vmdk', fileBytes: 12_345_678_901, capacity: 20 * 2 ** 30 }
const parse = (text: string) => new XMLParser({ ignoreAttributes: false, parseTagValue: false }).parse(text).Envelope

test('it says what the machine has', () => {
  const ovf = parse(ovfDescriptor(machine, disk))
  expect(ovf.References.File).toMatchObject({ '@_ovf:href': 'web-disk1.vmdk', '@_ovf:size': '12345678901' })
  expect(ovf.DiskSection.Disk).toMatchObject({ '@_ovf:capacity': '21474836480', '@_ovf:fileRef': 'file1' })
  expect(ovf.DiskSection.Disk['@_ovf:format']).toMatch(/#streamOptimized$/)
  expect(ovf.VirtualSystem).toMatchObject({ '@_ovf:id': 'web', Name: 'web' })
  const { Item: items, 'vmw:Config': config } = ovf.VirtualSystem.VirtualHardwareSection
  const quantity = (type: string) => items.find((i: Record<string, string>) => i['rasd:ResourceType'] === type)
  expect(quantity('3')['rasd:VirtualQuantity']).toBe('4')
  expect(quantity('4')['rasd:VirtualQuantity']).toBe('1536')
  expect(quantity('17')['rasd:HostResource']).toBe('ovf:/disk/disk1')
  expect(items.filter((i: Record<string, string>) => i['rasd:ResourceType'] === '10')).toHaveLength(1)
  expect(config).toMatchObject({ '@_vmw:key': 'firmware', '@_vmw:value': 'bios' })
  expect(ovfDescriptor({ ...machine, firmware: 'uefi' }, disk)).toContain('vmw:value="efi"')
})

test("each item's elements are in alphabetical order, as the schema has them", () => {
  for (const item of parse(ovfDescriptor(machine, disk)).VirtualSystem.VirtualHardwareSection.Item) {
    expect(Object.keys(item)).toEqual(Object.keys(item).sort())
  }
})

test('it is well-formed, and the name in it the same, whatever characters that has', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (name) => {
      const text = ovfDescriptor({ ...machine, name }, disk)
      expect(XMLValidator.validate(text)).toBe(true)
      expect(text).toMatch(/^[\t\n -\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]*$/u)
      expect(plainName(name)).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,59}$/)
    }),
  )
  expect(parse(ovfDescriptor({ ...machine, name: 'a <b> & "c" é' }, disk)).VirtualSystem.Name).toBe('a <b> & "c" é')
})
