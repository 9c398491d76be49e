// The command line of qemu for a throw-away boot: pure, and nothing in it lets the guest write to the image.

import { printable, VlbError } from '../core/errors.ts'
import type { DiskFormat } from '../core/output.ts'
import { qmpDescriptor } from './qmp.ts'

export const qemu = 'qemu-system-x86_64'

export type Accelerator = 'kvm' | 'tcg'

/** A TCP port of this host's loopback address that leads to one of the guest. */
export interface Forward {
  host: number
  guest: number
}

export interface Guest {
  /** Absolute path of the disk image; may be read-only, and may have backing files. */
  image: string
  /** Told to qemu, which must never guess: a raw disk could hold a qcow2 header that names files of the host. */
  format: DiskFormat
  /** Bytes; rounded up to whole MiB. */
  memory: number
  cpus: number
  accelerator: Accelerator
  forwards: readonly Forward[]
  /** Absolute path of a disk for cloud-init, which the guest can read only. */
  seed?: string | undefined
  /** The guest reaches neither this host nor what lies behind it; ports are still forwarded to it. */
  isolated?: boolean
  /** Further arguments: devices of whoever runs it. */
  devices?: readonly string[]
  /** UEFI: its program, and a copy of its variables for this boot alone. Undefined: BIOS. */
  uefi?: { code: string; variables: string } | undefined
  display?: Display | undefined
  /** Take part in this bridge's network instead of one that qemu makes up. */
  bridge?: Bridge | undefined
  /** Another `image` that may be written to: an overlay of our own. */
  writable?: boolean | undefined
}

/** Where the guest's screen is shown. */
export const displays = ['none', 'vnc', 'gtk'] as const
export type Display = (typeof displays)[number]

export interface Bridge {
  name: string
  /** On a network with others qemu's own address, the same for each guest, would meet itself. */
  mac: string
}

/** `8080:80`. Throws VLB_USAGE for anything but two port numbers. */
export function parseForward(text: string): Forward {
  const match = /^(\d{1,5}):(\d{1,5})$/.exec(text)
  const [host, guest] = [Number(match?.[1]), Number(match?.[2])]
  if (isPort(host) && isPort(guest)) return { host, guest }
  throw new VlbError('VLB_USAGE', `not a port forwarding: "${printable(text, 80)}"`, {
    hint: 'give HOST:GUEST, two port numbers from 1 to 65535: --forward 8080:80',
  })
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65_535
}

/** Throws VLB_HOST_TOOL where images of this host's kind cannot be booted. `arch` as in `process.arch`. */
export function checkHost(arch: string = process.arch): void {
  if (arch === 'x64') return
  throw new VlbError('VLB_HOST_TOOL', `booting images is made for x86-64 hosts; this one is ${arch}`, {
    hint: 'take the image to an x86-64 host, or boot it with a qemu command line of your own',
  })
}

/** A text as the value of one of qemu's comma-separated options (qemu's util/qemu-option.c: a comma is doubled). */
export function optionValue(text: string): string {
  return text.replaceAll(',', ',,')
}

/**
 * The virtual computer without its devices. Q35: boots MBR disks through SeaBIOS as the older `pc` does, as fast, and
 * is what every qemu has. `graphics=off` has SeaBIOS write to the serial port too, such as "No bootable device."
 */
export function machineArguments(accelerator: Accelerator, display: Display = 'none'): string[] {
  // TCG's default CPU lacks x86-64-v2, which several distributions need; with la57 old kernels and boot loaders fail.
  const cpu = accelerator === 'kvm' ? 'host' : 'max,la57=off'
  const machine = display === 'none' ? 'q35,graphics=off' : 'q35'
  return [
    '-nodefaults',
    '-no-user-config',
    ...displayArguments(display),
    '-machine',
    machine,
    '-accel',
    accelerator,
    '-cpu',
    cpu,
  ]
}

function displayArguments(display: Display): string[] {
  // The first free port from 5900 on, for this host alone; QMP tells which it is.
  return display === 'vnc' ? ['-vnc', '127.0.0.1:0,to=99'] : ['-display', display]
}

/**
 * qemu's arguments for `guest`, its serial console on standard input and output. `monitor`: for a person at a terminal;
 * `^a x` leaves, `^a h` lists what else there is, and Ctrl-C goes to the guest.
 */
export function qemuArguments(guest: Guest, monitor: boolean): string[] {
  return [
    ...machineArguments(guest.accelerator, guest.display),
    ...['-name', 'git-vlb', '-vga', 'std'],
    ...['-m', `${Math.ceil(guest.memory / 2 ** 20)}M`, '-smp', String(guest.cpus)],
    ...['-chardev', `stdio,id=console,signal=off,mux=${monitor ? 'on' : 'off'}`, '-serial', 'chardev:console'],
    ...(monitor ? ['-mon', 'chardev=console,mode=readline'] : []),
    ...['-chardev', `socket,id=control,fd=${qmpDescriptor}`, '-mon', 'chardev=control,mode=control'],
    ...(guest.uefi ? uefiArguments(guest.uefi) : []),
    ...['-drive', driveOption(guest)],
    // With an order given, OVMF tries nothing else: not the network, which takes it minutes.
    ...['-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
    ...(guest.seed === undefined ? [] : ['-drive', seedOption(guest.seed)]),
    ...['-netdev', networkOption(guest)],
    // No network boot: it needs a ROM that not every host has, and only delays "No bootable device."
    ...['-device', `virtio-net-pci,netdev=net,romfile=${guest.bridge ? `,mac=${guest.bridge.mac}` : ''}`],
    ...['-device', 'virtio-rng-pci'],
    ...(guest.devices ?? []),
  ]
}

function uefiArguments({ code, variables }: { code: string; variables: string }): string[] {
  const flash = (unit: number, path: string, more: string) =>
    `if=pflash,unit=${unit},format=raw,file.driver=file,file.filename=${optionValue(path)}${more}`
  return ['-drive', flash(0, code, ',readonly=on'), '-drive', flash(1, variables, '')]
}

/**
 * `snapshot=on`: the image and what backs it are opened read-only with shared locks; writes go to a file in TMPDIR that
 * qemu unlinks as soon as it is open, so that the kernel frees it however qemu ends. `file.filename` instead of `file`:
 * a name with a colon is a name, not a protocol. `werror=report`: with no space left there the guest gets write errors,
 * and says so, instead of being paused in silence.
 */
function driveOption(guest: Guest): string {
  const writes = guest.writable ? '' : ',snapshot=on'
  return `file.driver=file,file.filename=${optionValue(guest.image)},format=${guest.format},if=none,id=disk${writes},werror=report`
}

/** Behind the image, so that it is the second disk. virtio: kernels made for clouds often know neither CDs nor SATA. */
function seedOption(path: string): string {
  return `file.driver=file,file.filename=${optionValue(path)},format=raw,if=virtio,readonly=on`
}

function networkOption({ bridge, forwards, isolated }: Guest): string {
  if (bridge) return `bridge,id=net,br=${bridge.name}`
  const limits = isolated ? ['restrict=on'] : []
  return ['user,id=net', ...limits, ...forwards.map((f) => `hostfwd=tcp:127.0.0.1:${f.host}-:${f.guest}`)].join(',')
}

/** The name of a network interface, as the kernel takes it. Throws VLB_USAGE. */
export function parseBridge(name: string): string {
  if (/^[A-Za-z0-9_.:-]{1,15}$/.test(name)) return name
  throw new VlbError('VLB_USAGE', `no name of a bridge: "${printable(name, 80)}"`, {
    hint: 'see: ip link show type bridge',
  })
}

/** An address out of the range that qemu's guests have. */
export function randomMac(random: Uint8Array): string {
  return ['52', '54', '00', ...[...random.subarray(0, 3)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':')
}
