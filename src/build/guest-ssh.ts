// `test-boot --ssh`: a key for one boot, handed over by cloud-init, and ssh to a guest that runs on this host.
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { composeSeed, type Seed, type SeedName, seedFolder } from '../core/cloud-init.ts'
import { VlbError } from '../core/errors.ts'
import { run, spawnInteractive } from '../host/run.ts'
import type { BuildContext } from './context.ts'

export interface GuestSsh {
  /** This host's port that leads to the guest's sshd. */
  port: number
  /** The project's seed, or one of its own, with the key. */
  seed: Seed
  /** Resolves when the guest lets us in; never, once it is told to stop. */
  up(signal: AbortSignal): Promise<string>
  /** The command, or a shell on our terminal; its exit status. */
  talk(): Promise<number>
}

export async function guestSsh(context: BuildContext, given: Seed | undefined, command: string): Promise<GuestSsh> {
  const folder = await context.store.scratch.folder()
  const key = join(folder, 'key')
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'git-vlb', '-f', key], { signal: context.signal })
  const port = await freePort()
  const args = [
    ...['-F', 'none', '-i', key, '-p', String(port), '-l', 'root', '-o', 'IdentitiesOnly=yes'],
    // The guest's own keys are made when it first starts: there is nothing to compare them with.
    ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'],
    ...['-o', 'ConnectTimeout=10', '-o', 'BatchMode=yes', '127.0.0.1'],
  ]
  return {
    port,
    seed: withKey(given, (await readFile(`${key}.pub`, 'utf8')).trim()),
    up: async (signal) => {
      while (!signal.aborted) {
        const { exitCode } = await run('ssh', [...args, 'true'], { ok: [0, 255] })
        if (exitCode === 0) return 'ssh lets us in'
        await delay(1000, undefined, { signal }).catch(() => {})
      }
      return await new Promise(() => {})
    },
    talk: async () => (await spawnInteractive('ssh', command === '' ? args : [...args, command])).exitCode ?? 1,
  }
}

/** A boothook runs before sshd starts, and beside whatever user-data says of users and keys. */
function withKey(given: Seed | undefined, key: string): Seed {
  if (given?.files.has('vendor-data')) {
    throw new VlbError('VLB_USAGE', `--ssh hands its key over as vendor-data, which ${seedFolder}/ has already`, {
      hint: 'put a key of yours into user-data, and use: git vlb test-boot --console --forward 2222:22',
    })
  }
  const hook = `#cloud-boothook
#!/bin/sh
umask 077
mkdir -p /root/.ssh
grep -qxF '${key}' /root/.ssh/authorized_keys 2>/dev/null || echo '${key}' >>/root/.ssh/authorized_keys
`
  const file = (name: SeedName, content: Buffer) => ({ name, path: name, content })
  const files = [...(given?.files ?? [])].map(([name, content]) => file(name, content))
  return composeSeed([...files, file('vendor-data', Buffer.from(hook))])
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer()
  return await new Promise((resolve, reject) => {
    server.on('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0))
    })
  })
}
