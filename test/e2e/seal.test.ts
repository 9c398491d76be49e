// The seal on a real Debian: machines from one image are two machines, with sshd answering on each; without the seal they
// are one and the same.
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { debianBase } from '../rig/debian-base.ts'
import { freePort } from '../rig/ports.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

const needs = [
  'root',
  'fuse',
  'loop',
  'tool:mmdebstrap',
  'tool:extlinux',
  'tool:qemu-system-x86_64',
  'tool:ssh-keyscan',
] as const

const planted = 'aa6bd21c5f0e4f2f9c3a5d8e7b1c0d9e'

/** A machine that has run: with an id and host keys. It tells on its console who it is. */
const used = `set -eu
echo ${planted} >/etc/machine-id
ssh-keygen -q -A
echo 'ssh root@example.com' >/root/.bash_history
cat >/etc/systemd/system/tell.service <<'END'
[Unit]
After=ssh.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "I am $(cat /etc/machine-id), failed: $(systemctl --failed --plain --no-legend | wc -l), cycles: $(journalctl --boot | grep -c ordering.cycle), keys: $(ls /etc/ssh/ssh_host_*_key | wc -l)" >/dev/ttyS0'
[Install]
WantedBy=multi-user.target
END
systemctl enable tell.service`

/** As Debian's package is: nothing makes keys when the machine boots. */
const plain = 'rm -r /etc/systemd/system/ssh-host-key@.service /etc/systemd/system/ssh.service.d'

/** What sshd says first. */
async function banner(port: number): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  try {
    return await new Promise<string>((resolve, reject) => {
      socket.once('data', (data) => resolve(data.toString()))
      socket.once('error', reject)
      socket.once('close', () => reject(new Error('closed without a word')))
    })
  } finally {
    socket.destroy()
  }
}

interface Machine {
  id: string
  key: string
  failed: string
  cycles: string
  keys: string
  seconds: number
}

/** Boots an image until it has told its id, and asks for its host key. */
async function boot(rig: Rig, image: string): Promise<Machine> {
  const port = await freePort()
  const started = Date.now()
  const guest = rig.start(['test-boot', image, '--console', '--forward', `${port}:22`])
  try {
    let told: RegExpExecArray | null = null
    for (let i = 0; i < 6000 && !told && guest.child.exitCode === null; i++) {
      await delay(100)
      told = /I am ([0-9a-f]*), failed: (\d+), cycles: (\d+), keys: (\d+)/.exec(guest.stdout + guest.stderr)
    }
    if (!told) throw new Error(`it never said who it is:\n${guest.stdout}${guest.stderr}`)
    const [, id = '', failed = '', cycles = '', keys = ''] = told
    expect(await banner(port)).toMatch(/^SSH-2\.0-OpenSSH/)
    const line = rig.tool('ssh-keyscan', '-T', '60', '-t', 'ed25519', '-p', String(port), '127.0.0.1')
    const key = /ssh-ed25519 (\S+)/.exec(line)?.[1] ?? ''
    expect(key, line).not.toBe('')
    return { id, key, failed, cycles, keys, seconds: (Date.now() - started) / 1000 }
  } finally {
    guest.kill('SIGTERM')
    await guest.ended
  }
}

rigTest(
  'two machines from a sealed image have different ids and host keys; from one that is not, the same',
  async (rig) => {
    rig.write({ 'vlb.yaml': `version: 1\nbase: { path: ${debianBase()} }\n`, '.gitignore': '/build/\n' })
    rig.layer('10_used', used)
    rig.layer('20_plain', plain)
    rig.commit()

    const { image } = await rig.json('build')
    expect(image.seal.find(({ step }: { step: string }) => step === 'ssh-host-keys').files).toBe(6)
    const first = await boot(rig, image.path)
    const second = await boot(rig, image.path)
    for (const machine of [first, second]) {
      expect(machine).toMatchObject({
        id: expect.stringMatching(/^[0-9a-f]{32}$/),
        failed: '0',
        cycles: '0',
        keys: '3',
      })
      expect(machine.id).not.toBe(planted)
    }
    expect(first.id).not.toBe(second.id)
    expect(first.key).not.toBe(second.key)

    // The template brings its own way to make keys, of two types.
    const own = rig.path('build/own.qcow2')
    await rig.ok('build', '--last', '10_used', '-o', own)
    const third = await boot(rig, own)
    expect(third).toMatchObject({ failed: '0', cycles: '0', keys: '2' })
    expect([planted, first.id, second.id]).not.toContain(third.id)
    expect([first.key, second.key]).not.toContain(third.key)

    rig.write({ 'vlb.yaml': `${rig.read('vlb.yaml')}seal: false\n` })
    const raw = await rig.json('build')
    expect(raw.image.seal).toEqual([])
    const twin = await boot(rig, raw.image.path)
    const other = await boot(rig, raw.image.path)
    expect([twin.id, other.id]).toEqual([planted, planted])
    expect(twin.key).toBe(other.key)
    if (process.env['VLB_TEST_OUTPUT'] === '1') console.log(image.seal, { first, second, third, twin, other })
  },
  needs,
)
