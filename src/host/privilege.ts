// Becoming root for just the privileged runner: as root directly, otherwise through sudo without a password.
import { VlbError } from '../core/errors.ts'
import { type Command, run, tethered } from './run.ts'

/** The command that runs `tool` as root. Throws when this user cannot become root without being asked. */
export async function asRoot(tool: string, args: readonly string[]): Promise<Command> {
  if (process.getuid?.() === 0) return tethered(tool, args)
  const lacking = await whyNotRoot()
  if (lacking) throw lacking
  return { tool: 'sudo', args: ['-n', '--', tool, ...args] }
}

/** Undefined when root can be had; otherwise the error that says why not. */
export async function whyNotRoot(): Promise<VlbError | undefined> {
  if (process.getuid?.() === 0) return undefined
  // Not "sudo -v" first: that holds for the terminal, and what we start has none (sudoers(5), timestamp_type).
  const hint = 'run as root, or allow sudo without a password for this user: see NOPASSWD in sudoers(5)'
  try {
    const { exitCode } = await run('sudo', ['-n', 'true'], { ok: [0, 1] })
    if (exitCode === 0) return undefined
    return new VlbError('VLB_HOST_PRIVILEGE', 'building needs root for mounts, and sudo asks for a password', { hint })
  } catch (error) {
    if (!(error instanceof VlbError)) throw error
    return new VlbError(
      'VLB_HOST_PRIVILEGE',
      'building needs root for mounts; this is not root, and there is no sudo',
      { hint },
    )
  }
}
