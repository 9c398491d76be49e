// KVM only when proven: where this host is itself a guest, there may be a /dev/kvm under which guests hang, crawl or
// make qemu abort. A tiny guest is run once after each start of the host, and the verdict remembered.
import { constants } from 'node:fs'
import { open, readFile, truncate, writeFile } from 'node:fs/promises'
import { release } from 'node:os'
import { dirname, join } from 'node:path'
import { hasErrorCode, printable, VlbError } from '../core/errors.ts'
import { writeAtomic } from '../host/files.ts'
import { run, spawn } from '../host/run.ts'
import { Scratch } from '../host/scratch.ts'
import { type Accelerator, machineArguments, qemu } from './qemu.ts'

export type AcceleratorSetting = 'auto' | Accelerator

export interface AcceleratorChoice {
  accelerator: Accelerator
  /** Why, for people. */
  reason: string
}

/** The value of `vlb.accel`. Throws VLB_USAGE. */
export function parseAccelerator(text: string): AcceleratorSetting {
  if (text === 'auto' || text === 'kvm' || text === 'tcg') return text
  throw new VlbError('VLB_USAGE', `no accelerator: "${printable(text, 80)}"`, {
    hint: 'git config vlb.accel auto (or kvm, or tcg)',
  })
}

/**
 * What to run a guest with. `auto` takes KVM if a guest has been seen to run under it; the proof takes up to some
 * seconds, once after each start of the host. `cache` is a folder of this user's that need not exist yet. Throws
 * VLB_HOST_TOOL without qemu.
 */
export async function chooseAccelerator(
  setting: AcceleratorSetting,
  cache: string,
  signal: AbortSignal,
): Promise<AcceleratorChoice> {
  if (setting !== 'auto') return { accelerator: setting, reason: 'asked for' }
  const lacking = await whyNoKvm()
  if (lacking) return { accelerator: 'tcg', reason: lacking }
  const key = await hostKey(signal)
  const file = join(cache, 'accelerator.json')
  const known = await recall(file, key)
  if (known) return known
  const { choice, certain } = await proveKvm(cache, signal)
  if (certain) await remember(file, key, choice)
  return choice
}

async function whyNoKvm(): Promise<string | undefined> {
  try {
    const device = await open('/dev/kvm', constants.O_RDWR)
    await device.close()
    return undefined
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT')) return 'this host has no /dev/kvm'
    return `/dev/kvm cannot be opened: ${(error as Error).message.split(',')[0]}`
  }
}

/** Kernel, start of the host, and qemu: another of these, another verdict. */
async function hostKey(signal: AbortSignal): Promise<string> {
  const { stdout } = await run(qemu, ['--version'], { signal })
  const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8')
  return [release(), boot.trim(), stdout.split('\n')[0]].join(' / ')
}

async function recall(file: string, key: string): Promise<AcceleratorChoice | undefined> {
  try {
    const known = JSON.parse(await readFile(file, 'utf8')) as Partial<AcceleratorChoice & { key: string }> | null
    const { accelerator, reason } = known ?? {}
    if (known?.key !== key || (accelerator !== 'kvm' && accelerator !== 'tcg')) return undefined
    return { accelerator, reason: String(reason) }
  } catch (error) {
    if (error instanceof SyntaxError || hasErrorCode(error, 'ENOENT', 'EACCES', 'ENOTDIR')) return undefined
    throw error
  }
}

async function remember(file: string, key: string, choice: AcceleratorChoice): Promise<void> {
  const scratch = new Scratch(dirname(file))
  try {
    await writeAtomic(file, `${JSON.stringify({ key, ...choice }, undefined, 2)}\n`, scratch.beside(file))
  } catch (error) {
    // Then the next run proves it again.
    if (!hasErrorCode(error, 'EACCES', 'EPERM', 'EROFS', 'VLB_HOST_SPACE')) throw error
  } finally {
    await scratch.close()
  }
}

/** What the test guest writes to the exit port, and the status qemu makes of it: `(value << 1) | 1`, unlike any other. */
const exitValue = 42
const proofStatus = (exitValue << 1) | 1

/**
 * The test guest: a boot sector in real mode that counts (a KVM that emulates each instruction crawls here), reads a
 * port of the chipset (each read leaves the guest), sleeps until the timer's interrupt twice, and ends qemu.
 */
export function proofBootSector(): Buffer {
  const sector = Buffer.alloc(512)
  sector.set([
    0xfb, // sti
    ...[0x66, 0xb9, 0x80, 0x96, 0x98, 0x00], // mov ecx, 10000000
    ...[0x66, 0x49], // count: dec ecx
    ...[0x75, 0xfc], // jnz count
    ...[0xb9, 0x00, 0x10], // mov cx, 4096
    ...[0xe4, 0x61], // read: in al, 0x61
    ...[0xe2, 0xfc], // loop read
    ...[0xf4, 0xf4], // hlt; hlt
    ...[0xb0, exitValue], // mov al, 42
    ...[0xe6, 0xf4], // out 0xf4, al
    ...[0xf4, 0xeb, 0xfd], // stop: hlt; jmp stop
  ])
  sector.set([0x55, 0xaa], 510)
  return sector
}

const proofDisk = 'proof.raw'

interface Attempt {
  done: boolean
  seconds: number
  /** Why it was not done. */
  reason: string
}

/** Seconds that are plenty for the test guest: 0.3 under a sound KVM. */
const limit = 2

/** `certain`: false if the host was in no state to tell. */
async function proveKvm(cache: string, signal: AbortSignal): Promise<{ choice: AcceleratorChoice; certain: boolean }> {
  const scratch = new Scratch(cache)
  try {
    const folder = await scratch.folder()
    await writeFile(join(folder, proofDisk), proofBootSector())
    // SeaBIOS cannot read from a virtio disk of one sector.
    await truncate(join(folder, proofDisk), 2 ** 20)
    // First without KVM, which tells how busy the host is, and has qemu's files read from the disk.
    const measure = await runProof(folder, 'tcg', 5 * limit, signal)
    if (!measure.done) return unproven(`the test guest did not even run without it: ${measure.reason}`, false)
    const attempt = await runProof(folder, 'kvm', Math.max(limit, 4 * measure.seconds), signal)
    if (!attempt.done) return unproven(`${attempt.reason} (without KVM: done in ${measure.seconds.toFixed(1)} s)`, true)
    const reason = `a test guest ran under KVM in ${attempt.seconds.toFixed(1)} s`
    return { choice: { accelerator: 'kvm', reason }, certain: true }
  } catch (error) {
    if (!hasErrorCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EDQUOT', 'ENOTDIR')) throw error
    return unproven(`no place for the test guest: ${(error as Error).message}`, false)
  } finally {
    await scratch.close()
  }
}

function unproven(why: string, certain: boolean): { choice: AcceleratorChoice; certain: boolean } {
  return { choice: { accelerator: 'tcg', reason: `/dev/kvm is there, but not proven to work: ${why}` }, certain }
}

async function runProof(
  folder: string,
  accelerator: Accelerator,
  seconds: number,
  signal: AbortSignal,
): Promise<Attempt> {
  signal.throwIfAborted()
  const started = performance.now()
  const args = [
    ...machineArguments(accelerator),
    ...['-m', '64M', '-smp', '2', '-serial', 'none', '-monitor', 'none'],
    ...['-drive', `file=${proofDisk},format=raw,if=virtio,readonly=on`],
    ...['-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
  ]
  // In the scratch folder, for a qemu that aborts may leave a core file.
  const child = spawn(qemu, args, { cwd: folder })
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4096)
  })
  child.stdout?.resume()
  const kill = () => child.kill('SIGKILL')
  const timer = setTimeout(kill, seconds * 1000)
  signal.addEventListener('abort', kill, { once: true })
  const { exitCode, signal: killedBy } = await child.ended
  const timeUp = performance.now() - started >= seconds * 1000
  clearTimeout(timer)
  signal.removeEventListener('abort', kill)
  signal.throwIfAborted()
  const last = printable(said.trim().split('\n').at(-1) ?? '')
  const reason = timeUp
    ? `the test guest was not done after ${seconds.toFixed(1)} s`
    : `qemu ended with ${killedBy ?? `status ${exitCode}`}: ${last}`
  return { done: exitCode === proofStatus, seconds: (performance.now() - started) / 1000, reason }
}
