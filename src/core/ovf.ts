// The description of a virtual machine in an OVA: an OVF 1.x envelope (DMTF DSP0243), as VMware, VirtualBox and others
// import it. All hardware in it is what every hypervisor and every Linux kernel knows: LSI Logic SCSI and E1000.

export interface Machine {
  /** Of the project, as its owner wrote it. */
  name: string
  cpus: number
  /** Bytes. */
  memory: number
  firmware: 'bios' | 'uefi'
  /** As `uname -m` names it. */
  arch: string
}

export interface OvfDisk {
  /** File name in the OVA. */
  file: string
  fileBytes: number
  /** Virtual size in bytes. */
  capacity: number
}

const namespaces = {
  xmlns: 'http://schemas.dmtf.org/ovf/envelope/1',
  'xmlns:ovf': 'http://schemas.dmtf.org/ovf/envelope/1',
  'xmlns:rasd': 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData',
  'xmlns:vssd': 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData',
  'xmlns:vmw': 'http://www.vmware.com/schema/ovf',
}
const vmdkFormat = 'http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized'

/** A name for files and ids inside the OVA, of characters that every reader takes. */
export function plainName(name: string): string {
  return (
    name
      .replace(/[^A-Za-z0-9._-]+/g, '-')
      .replace(/^[.-]+/, '')
      .slice(0, 60) || 'image'
  )
}

export function ovfDescriptor(machine: Machine, disk: OvfDisk): string {
  const megabytes = Math.max(1, Math.ceil(machine.memory / 2 ** 20))
  const network = 'VM Network'
  return `<?xml version="1.0" encoding="UTF-8"?>\n${element('Envelope', namespaces, [
    element('References', {}, [
      element('File', { 'ovf:id': 'file1', 'ovf:href': disk.file, 'ovf:size': disk.fileBytes }),
    ]),
    element('DiskSection', {}, [
      text('Info', 'Virtual disks'),
      element('Disk', {
        'ovf:diskId': 'disk1',
        'ovf:fileRef': 'file1',
        'ovf:capacity': disk.capacity,
        'ovf:capacityAllocationUnits': 'byte',
        'ovf:format': vmdkFormat,
      }),
    ]),
    element('NetworkSection', {}, [
      text('Info', 'Networks'),
      element('Network', { 'ovf:name': network }, [text('Description', 'The network of the first adapter')]),
    ]),
    element('VirtualSystem', { 'ovf:id': plainName(machine.name) }, [
      text('Info', 'A virtual machine'),
      text('Name', machine.name),
      operatingSystem(machine.arch),
      element('VirtualHardwareSection', {}, [
        text('Info', 'Virtual hardware'),
        element('System', {}, [
          text('vssd:ElementName', 'Virtual Hardware Family'),
          text('vssd:InstanceID', 0),
          text('vssd:VirtualSystemIdentifier', plainName(machine.name)),
          text('vssd:VirtualSystemType', 'vmx-10'),
        ]),
        ...hardware(machine.cpus, megabytes, network),
        element('vmw:Config', {
          'ovf:required': 'false',
          'vmw:key': 'firmware',
          'vmw:value': machine.firmware === 'uefi' ? 'efi' : 'bios',
        }),
      ]),
    ]),
  ])}`
}

/** Numbers of CIM_OperatingSystem.OSType: 101 is Linux on 64 bits, 36 Linux. */
function operatingSystem(arch: string): string {
  const wide = !['i686', 'armv7l'].includes(arch)
  const type = wide ? 'otherLinux64Guest' : 'otherLinuxGuest'
  return element('OperatingSystemSection', { 'ovf:id': wide ? 101 : 36, 'vmw:osType': type }, [
    text('Info', 'The guest operating system'),
    text('Description', wide ? 'Linux 64-Bit' : 'Linux'),
  ])
}

/** Resource types of CIM_ResourceAllocationSettingData; the schema wants each item's elements in alphabetical order. */
function hardware(cpus: number, megabytes: number, network: string): string[] {
  return [
    item({
      AllocationUnits: 'hertz * 10^6',
      ElementName: `${cpus} virtual CPU(s)`,
      InstanceID: 1,
      ResourceType: 3,
      VirtualQuantity: cpus,
    }),
    item({
      AllocationUnits: 'byte * 2^20',
      ElementName: `${megabytes} MB of memory`,
      InstanceID: 2,
      ResourceType: 4,
      VirtualQuantity: megabytes,
    }),
    item({ Address: 0, ElementName: 'SCSI controller 0', InstanceID: 3, ResourceSubType: 'lsilogic', ResourceType: 6 }),
    item({
      AddressOnParent: 0,
      ElementName: 'Hard disk 1',
      HostResource: 'ovf:/disk/disk1',
      InstanceID: 4,
      Parent: 3,
      ResourceType: 17,
    }),
    item({
      AddressOnParent: 7,
      AutomaticAllocation: 'true',
      Connection: network,
      ElementName: 'Network adapter 1',
      InstanceID: 5,
      ResourceSubType: 'E1000',
      ResourceType: 10,
    }),
  ]
}

function item(fields: Record<string, string | number>): string {
  return element(
    'Item',
    {},
    Object.entries(fields).map(([name, value]) => text(`rasd:${name}`, value)),
  )
}

function element(name: string, attributes: Record<string, string | number>, children: readonly string[] = []): string {
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(value)}"`)
  const inner = children.map((child) => child.replace(/^(?=.)/gm, '  ')).join('')
  return children.length === 0
    ? `<${name}${written.join('')}/>\n`
    : `<${name}${written.join('')}>\n${inner}</${name}>\n`
}

function text(name: string, value: string | number): string {
  return `<${name}>${escaped(value)}</${name}>\n`
}

/** One line, of characters that XML 1.0 has. */
function escaped(value: string | number): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
  return String(value)
    .replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\ufffe\uffff]/gu, ' ')
    .replace(/[&<>"]/g, (c) => names[c] ?? c)
}
