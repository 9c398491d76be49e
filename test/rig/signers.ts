// People with keys of ssh, and clones that trust some of them.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clone } from './clone.ts'
import type { Rig } from './rig.ts'

/** A key of ssh; what of it an allowed signers file holds. */
export function sshKey(rig: Rig, name: string): string {
  const file = join(rig.folder, name)
  rig.tool('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', file)
  const [kind, key] = rig.tool('cat', `${file}.pub`).split(' ')
  return `${name}@example.com ${kind} ${key}\n`
}

export function signWith(rig: Rig, name: string): void {
  rig.git('config', 'gpg.format', 'ssh')
  rig.git('config', 'user.signingKey', join(rig.folder, `${name}.pub`))
  rig.git('config', 'vlb.sign', 'true')
}

/** It takes from remotes what these signers signed, alone. */
export function trustOnly(clone: Clone, allowed: string): void {
  const file = join(clone.folder, '.git/allowed')
  writeFileSync(file, allowed)
  clone.git('config', 'gpg.ssh.allowedSignersFile', file)
  clone.git('config', 'vlb.requireSignature', 'true')
}
