// Guests for real: KVM used only when proven, and boots of tiny guests made here, watched over their serial console.
import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Event } from '../../src/core/events.ts'
import { chooseAccelerator } from '../../src/vm/accelerator.ts'
import { type BootOptions, type BootOutcome, bootGuest } from '../../src/vm/console.ts'
import { bootSector, type Ending } from '../rig/boot-sector.ts'
import { whyNot } from '../rig/need.ts'

const never = new AbortController().signal
const path = process.env['PATH']
const without = whyNot(['tool:qemu-system-x86_64'])
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vlb-vm-'))
  mkdirSync(join(folder, 'scratch'))
})
afterEach(() => {
  process.env['PATH'] = path
  expect(readdirSync(join(folder, 'scratch'))).toEqual([])
  expect(processesWith(folder)).toEqual([])
  rmSync(folder, { recursive: true })
})

/** Command lines that name `text`. */
function processesWith(text: string): string[] {
  return readdirSync('/proc').flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return []
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      return line.includes(text) ? [line.replaceAll('\0', ' ')] : []
    } catch {
      return []
    }
  })
}

function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** Puts a qemu first in PATH that does as told, and writes down each guest it is asked to run. */
function fakeQemu(underKvm: string, underTcg = 'exit 85'): void {
  const script = `#!/bin/sh
case "$*" in
--version) echo "QEMU emulator version 9.9"; exit ;;
*'-accel kvm'*) echo kvm >>'${folder}/calls'; ${underKvm} ;;
*) echo tcg >>'${folder}/calls'; ${underTcg} ;;
esac
`
  mkdirSync(join(folder, 'bin'), { recursive: true })
  writeFileSync(join(folder, 'bin/qemu-system-x86_64'), script, { mode: 0o755 })
  process.env['PATH'] = `${join(folder, 'bin')}:${path}`
}

const calls = () => readFileSync(join(folder, 'calls'), 'utf8').split('\n').filter(Boolean)
const choose = () => chooseAccelerator('auto', join(folder, 'cache'), never)

describe.skipIf(!hasKvm())('KVM', () => {
  test('is used when a guest ran under it, and proven once', async () => {
    fakeQemu('exit 85')
    expect(await choose()).toMatchObject({ accelerator: 'kvm', reason: expect.stringContaining('ran under KVM') })
    expect((await choose()).accelerator).toBe('kvm')
    expect(calls()).toEqual(['tcg', 'kvm'])
    expect(readdirSync(join(folder, 'cache'))).toEqual(['accelerator.json'])
  })

  test.each([
    ['hangs', 'exec sleep 60', /not done after 2\.\d s/],
    ['makes qemu abort', 'echo "Assertion failed" >&2; kill -ABRT $$', /SIGABRT: Assertion failed/],
    ['ends like any program', 'exit 0', /status 0/],
    ['is refused', 'echo "failed to initialize kvm" >&2; exit 1', /status 1: failed to initialize kvm/],
  ])('is not used when it %s, and the verdict is kept', async (_, action, reason) => {
    fakeQemu(action)
    const first = await choose()
    expect(first.accelerator).toBe('tcg')
    expect(first.reason).toMatch(reason)
    expect(await choose()).toEqual(first)
    expect(calls()).toEqual(['tcg', 'kvm'])
  })

  test('nothing is concluded from a host on which no guest runs', async () => {
    fakeQemu('exit 85', 'exit 1')
    expect((await choose()).accelerator).toBe('tcg')
    fakeQemu('exit 85')
    expect((await choose()).accelerator).toBe('kvm')
  })

  test('a damaged memory is no memory', async () => {
    fakeQemu('exit 85')
    await choose()
    for (const text of ['', '{', 'null', '{"key":"other"}']) {
      writeFileSync(join(folder, 'cache/accelerator.json'), text)
      expect((await choose()).accelerator, text).toBe('kvm')
    }
  })

  test('is used without proof when asked for', async () => {
    expect(await chooseAccelerator('kvm', join(folder, 'cache'), never)).toMatchObject({ accelerator: 'kvm' })
    expect(readdirSync(folder)).toEqual(['scratch'])
  })

  test.skipIf(without)('here: the verdict comes within seconds', { timeout: 20_000 }, async () => {
    const started = performance.now()
    const { reason } = await choose()
    expect(performance.now() - started).toBeLessThan(15_000)
    expect(reason).toMatch(/ran under KVM in|not proven to work/)
    expect(reason).not.toContain('did not even run')
  })
})

/** What a guest does after it has said its text. */
/** A disk whose boot sector writes `text` to the first serial port. */
function guestDisk(text: string, ending: Ending): string {
  const file = join(folder, 'guest, a:b.raw')
  rmSync(file, { force: true })
  writeFileSync(file, Buffer.concat([bootSector(text, ending).sector, Buffer.alloc(2 ** 20 - 512)]), { mode: 0o444 })
  return file
}

describe.skipIf(without)('a boot', () => {
  let events: Event[]
  const boot = (image: string, more: Partial<BootOptions> = {}, signal = never): Promise<BootOutcome> => {
    events = []
    const guest = { format: 'raw', memory: 64 * 2 ** 20, cpus: 1, accelerator: 'tcg', forwards: [] } as const
    const options = { ...guest, image, scratch: join(folder, 'scratch'), expect: [/^web login:/], timeout: 60, ...more }
    return bootGuest(options, { signal, emit: (event) => events.push(event) })
  }
  const said = () => Buffer.concat(events.flatMap((e) => (e.type === 'console' ? [e.chunk] : []))).toString()

  test('ends when the console says what is expected; the image is as before', async () => {
    const image = guestDisk('\r\nhello\r\nweb \x1b[1mlogin\x1b[0m: \r\n', 'hang')
    const before = readFileSync(image)
    expect(await boot(image)).toMatchObject({ ok: true, matched: 'web login:', hostFault: false })
    expect(said()).toContain('web \x1b[1mlogin')
    expect(readFileSync(image).equals(before)).toBe(true)
  })

  test('can be looked at while it runs', async () => {
    let looked = false
    const outcome = await boot(guestDisk('\nweb login:\n', 'hang'), {
      whenUp: async () => {
        looked = true
      },
    })
    expect(outcome.ok && looked).toBe(true)
    const failing = boot(guestDisk('\nweb login:\n', 'hang'), { whenUp: () => Promise.reject(new Error('no page')) })
    await expect(failing).rejects.toThrow('no page')
  })

  test('fails when time is up, with the last words', async () => {
    const outcome = await boot(guestDisk('\r\nwaiting for disk\r\n', 'hang'), { timeout: 2 })
    expect(outcome).toMatchObject({ ok: false, matched: null, hostFault: false })
    expect(outcome.reason).toMatch(
      /did not say \/\^web login:\/ within 2\.0 s; the guest hangs: silent for [\s\S]*; its last lines:[\s\S]*\n {2}waiting for disk/,
    )
  })

  test('fails when the check of the running guest takes too long', async () => {
    const whenUp = (signal: AbortSignal) =>
      new Promise<void>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const outcome = await boot(guestDisk('\nweb login:\n', 'hang'), { timeout: 2, whenUp })
    expect(outcome).toMatchObject({ ok: false, matched: 'web login:' })
    expect(outcome.reason).toContain('time was up')
  })

  test('fails at once when the guest powers off, restarts for ever or has no boot loader', async () => {
    const off = await boot(guestDisk('\nbye\n', 'powerOff'))
    expect(off.reason).toMatch(/the guest ended after .* had not said/)
    expect(off.verdict).toBe('ended')
    const restarting = await boot(guestDisk('\nhello\n', 'restart'))
    expect(restarting).toMatchObject({ verdict: 'restarts', reason: expect.stringContaining('kept restarting') })
    writeFileSync(join(folder, 'empty.raw'), Buffer.alloc(2 ** 20))
    const empty = await boot(join(folder, 'empty.raw'))
    expect(empty).toMatchObject({ verdict: 'no-boot-loader', reason: expect.stringContaining('no boot loader') })
  })

  test('ends when all that is expected came, in its order', async () => {
    const image = guestDisk('\r\nfirst\r\nsecond\r\nthird\r\n', 'hang')
    expect(await boot(image, { expect: [/^first/, /^third/] })).toMatchObject({ ok: true, matched: 'third' })
    const wrong = await boot(image, { expect: [/^second/, /^first/], timeout: 3 })
    expect(wrong.ok).toBe(false)
    expect(wrong.reason).toContain('did not say /^first/')
  })

  test('without anything expected lasts until the guest ends', async () => {
    const outcome = await boot(guestDisk('\nbye\n', 'powerOff'), { expect: [] })
    expect(outcome).toMatchObject({ ok: true, matched: null })
  })

  test('survives a flood', async () => {
    const outcome = await boot(guestDisk(`${'x'.repeat(300)}\n`, 'repeat'), { timeout: 3 })
    expect(outcome.reason).toContain('did not say')
    expect(said().length).toBeGreaterThan(100_000)
  })

  test('names a busy port', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const busy = boot(guestDisk('\n', 'hang'), { forwards: [{ host: port, guest: 80 }] })
    await expect(busy).rejects.toMatchObject({ code: 'VLB_USAGE', message: expect.stringContaining(`port ${port}`) })
    server.close()
  })

  test("a fault of qemu's is none of the image's", async () => {
    const outcome = await boot(join(folder, 'missing.raw'))
    expect(outcome).toMatchObject({ ok: false, hostFault: true })
    expect(outcome.reason).toMatch(/status 1 [\s\S]*missing\.raw/)
  })

  test('without qemu says how to get it', async () => {
    // As setpriv(1) does when there is no such program.
    mkdirSync(join(folder, 'bin'))
    writeFileSync(join(folder, 'bin/setpriv'), '#!/bin/sh\nexit 127\n', { mode: 0o755 })
    process.env['PATH'] = `${join(folder, 'bin')}:${path}`
    const missing = { code: 'VLB_HOST_TOOL', message: 'qemu-system-x86_64 is not installed' }
    await expect(boot(guestDisk('\n', 'hang'))).rejects.toMatchObject(missing)
  })

  test('is stopped when we are told to stop', async () => {
    const stop = new AbortController()
    setTimeout(() => stop.abort(new Error('enough')), 700)
    await expect(boot(guestDisk('\n', 'hang'), {}, stop.signal)).rejects.toThrow('enough')
  })
})
