// qemu's command line, and the port forwardings as people write them.
import { describe, expect, test } from 'vitest'
import {
  checkHost,
  type Guest,
  optionValue,
  parseBridge,
  parseForward,
  qemuArguments,
  randomMac,
} from '../../../src/vm/qemu.ts'
import { complaint } from '../errors.ts'

const guest: Guest = {
  image: '/a/image.qcow2',
  format: 'qcow2',
  memory: 2 ** 30,
  cpus: 2,
  accelerator: 'tcg',
  forwards: [],
}

/** The values of an option that may come more than once. */
function values(args: readonly string[], name: string): string[] {
  return args.flatMap((arg, i) => (arg === name ? [args[i + 1] ?? ''] : []))
}

describe('arguments', () => {
  test('the image is told its format and never written', () => {
    const drives = values(qemuArguments({ ...guest, format: 'raw' }, false), '-drive')
    expect(drives).toEqual([
      'file.driver=file,file.filename=/a/image.qcow2,format=raw,if=none,id=disk,snapshot=on,werror=report',
    ])
  })

  test('commas in a path are doubled, and a colon makes no protocol', () => {
    const [drive] = values(qemuArguments({ ...guest, image: '/a,b/nbd:x,snapshot=off.raw' }, false), '-drive')
    expect(drive).toContain('file.filename=/a,,b/nbd:x,,snapshot=off.raw,format=')
    expect(optionValue(',,a,')).toBe(',,,,a,,')
  })

  test.each([
    [2 ** 30, '1024M'],
    [512 * 2 ** 20, '512M'],
    [2 ** 20 + 1, '2M'],
    [1.5 * 2 ** 30, '1536M'],
    [1, '1M'],
  ])('%d bytes of memory: %s', (memory, expected) => {
    expect(values(qemuArguments({ ...guest, memory }, false), '-m')).toEqual([expected])
  })

  test('ports are forwarded from the loopback address only', () => {
    const forwards = [
      { host: 8080, guest: 80 },
      { host: 2222, guest: 22 },
    ]
    expect(values(qemuArguments({ ...guest, forwards }, false), '-netdev')).toEqual([
      'user,id=net,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:2222-:22',
    ])
    expect(values(qemuArguments(guest, false), '-netdev')).toEqual(['user,id=net'])
    expect(values(qemuArguments({ ...guest, isolated: true }, false), '-netdev')).toEqual(['user,id=net,restrict=on'])
  })

  test('the monitor is there for people only', () => {
    expect(values(qemuArguments(guest, true), '-mon')).toContain('chardev=console,mode=readline')
    expect(values(qemuArguments(guest, false), '-mon')).toEqual(['chardev=control,mode=control'])
    expect(values(qemuArguments(guest, false), '-chardev')).toContain('stdio,id=console,signal=off,mux=off')
  })

  test('a seed is the second disk, and cannot be written to', () => {
    const drives = values(qemuArguments({ ...guest, seed: '/s,1.iso' }, false), '-drive')
    expect(drives[1]).toBe('file.driver=file,file.filename=/s,,1.iso,format=raw,if=virtio,readonly=on')
    expect(drives[0]).toContain('image.qcow2')
  })

  test('of UEFI only the variables can be written to', () => {
    const uefi = { code: '/o/CODE.fd', variables: '/s/VARS.fd' }
    const [code, variables] = values(qemuArguments({ ...guest, uefi }, false), '-drive')
    expect(code).toBe('if=pflash,unit=0,format=raw,file.driver=file,file.filename=/o/CODE.fd,readonly=on')
    expect(variables).toBe('if=pflash,unit=1,format=raw,file.driver=file,file.filename=/s/VARS.fd')
  })

  test('only an overlay of our own is written to', () => {
    expect(values(qemuArguments({ ...guest, writable: true }, false), '-drive')[0]).not.toContain('snapshot')
  })

  test('a screen', () => {
    expect(values(qemuArguments(guest, false), '-display')).toEqual(['none'])
    expect(values(qemuArguments({ ...guest, display: 'gtk' }, false), '-display')).toEqual(['gtk'])
    const vnc = qemuArguments({ ...guest, display: 'vnc' }, false)
    expect(values(vnc, '-vnc')).toEqual(['127.0.0.1:0,to=99'])
    expect(vnc).not.toContain('-display')
  })

  test('a bridge, with an address of its own', () => {
    const mac = randomMac(new Uint8Array([1, 0xab, 0xff]))
    const args = qemuArguments({ ...guest, bridge: { name: 'br0', mac } }, false)
    expect(values(args, '-netdev')).toEqual(['bridge,id=net,br=br0'])
    expect(values(args, '-device')).toContain('virtio-net-pci,netdev=net,romfile=,mac=52:54:00:01:ab:ff')
    expect(parseBridge('virbr-1.2')).toBe('virbr-1.2')
    for (const name of ['', 'br0,helper=/tmp/x', 'a b', 'averyverylongname'])
      expect(complaint('VLB_USAGE', () => parseBridge(name))).toContain('ip link')
  })

  test('the accelerator brings its processor', () => {
    expect(values(qemuArguments({ ...guest, accelerator: 'kvm' }, false), '-cpu')).toEqual(['host'])
    expect(values(qemuArguments(guest, false), '-cpu')).toEqual(['max,la57=off'])
  })
})

describe('port forwardings', () => {
  test.each([
    ['8080:80', { host: 8080, guest: 80 }],
    ['1:65535', { host: 1, guest: 65_535 }],
  ])('%s', (text, expected) => {
    expect(parseForward(text)).toEqual(expected)
  })

  test.each([
    '',
    '8080',
    '8080:',
    ':80',
    '0:80',
    '80:0',
    '65536:80',
    '1:2:3',
    'http:80',
    '80:-1',
    ' 80:80',
    '8e1:80',
    '80:80,x',
  ])('"%s" is none', (text) => {
    expect(complaint('VLB_USAGE', () => parseForward(text))).toContain('--forward 8080:80')
  })

  test('what is shown of a bad one cannot steer the terminal', () => {
    expect(complaint('VLB_USAGE', () => parseForward('\x1b[2J'))).not.toContain('\x1b')
  })
})

test('other hosts than x86-64 are refused by name', () => {
  expect(() => checkHost('x64')).not.toThrow()
  expect(complaint('VLB_HOST_TOOL', () => checkHost('arm64'))).toContain('arm64')
})
