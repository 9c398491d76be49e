// Texts signed as git signs commits, by ssh or gpg (git-config(1), gpg.format), and signatures checked as git would.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { printable, VlbError } from '../core/errors.ts'
import { identityEnvironment } from '../host/env.ts'
import { ask, type Output } from '../host/run.ts'
import { type Repository, settingPath, settingValues } from './repo.ts'

/** `bad`: it is of another text, or none at all. `unknown`: it fits, but nobody here vouches for who made it. */
export type Verdict = { state: 'good'; signer: string } | { state: 'unknown' } | { state: 'bad' }

/** ssh-keygen(1), -n: a signature for one purpose is none for another. */
const namespace = 'git-vlb'
/** All but that of a program that is not there. */
const any = Array.from({ length: 256 }, (_, status) => status).filter((status) => status !== 127)

/** A signature in its armor. */
export async function signText(repo: Repository, text: string): Promise<string> {
  const [key] = (await settingValues(repo, 'user.signingKey')).slice(-1)
  const ssh = (await lastSetting(repo, 'gpg.format')) === 'ssh'
  const options = { cwd: repo.cwd, env: identityEnvironment(), input: text, ok: any }
  if (ssh) {
    const file = await settingPath(repo, 'user.signingKey')
    if (file === undefined || /^(key::|ssh-|ecdsa-|sk-)/.test(key ?? '')) throw noKey()
    const program = (await lastSetting(repo, 'gpg.ssh.program')) ?? 'ssh-keygen'
    return signature(await ask(program, ['-Y', 'sign', '-n', namespace, '-f', file], options), program)
  }
  const program = (await lastSetting(repo, 'gpg.program')) ?? 'gpg'
  const as = key === undefined ? [] : ['--local-user', key]
  return signature(await ask(program, ['--batch', '--armor', '--detach-sign', ...as], options), program)
}

function noKey(): VlbError {
  return new VlbError('VLB_SIGNATURE', 'what is pushed is to be signed, but git knows no key file for that', {
    hint: 'git config user.signingKey ~/.ssh/id_ed25519.pub, or git config vlb.sign false',
  })
}

function signature({ exitCode, stdout, stderr }: Output, program: string): string {
  if (exitCode === 0 && stdout.startsWith('-----BEGIN ')) return stdout
  const said = printable(stderr.trim().split('\n').at(-1) ?? '')
  throw new VlbError('VLB_SIGNATURE', `${program} does not sign: ${said}`, {
    hint: 'see whether git can sign: git commit-tree -S; or push without: git config vlb.sign false',
  })
}

/** Checks a signature of `text`; `folder` is for a file of it. */
export async function verifyText(repo: Repository, text: string, armor: string, folder: string): Promise<Verdict> {
  const file = join(folder, 'signature')
  await writeFile(file, armor)
  const kind = /^-----BEGIN (SSH|PGP) SIGNATURE-----/.exec(armor)?.[1]
  try {
    if (kind === 'SSH') return await verifySsh(repo, text, file)
    return kind === 'PGP' ? await verifyGpg(repo, text, file) : { state: 'bad' }
  } catch (error) {
    if (!(error instanceof VlbError) || error.code !== 'VLB_HOST_TOOL') throw error
    return { state: 'unknown' }
  }
}

async function verifySsh(repo: Repository, text: string, file: string): Promise<Verdict> {
  const program = (await lastSetting(repo, 'gpg.ssh.program')) ?? 'ssh-keygen'
  const options = { cwd: repo.cwd, input: text, ok: any }
  const fits = await ask(program, ['-Y', 'check-novalidate', '-n', namespace, '-s', file], options)
  if (fits.exitCode !== 0) return { state: 'bad' }
  const allowed = await settingPath(repo, 'gpg.ssh.allowedSignersFile')
  if (allowed === undefined) return { state: 'unknown' }
  const revoked = await settingPath(repo, 'gpg.ssh.revocationFile')
  const without = revoked === undefined ? [] : ['-r', revoked]
  const { stdout } = await ask(program, ['-Y', 'find-principals', '-f', allowed, '-s', file], { ...options, input: '' })
  for (const signer of stdout.split('\n').filter(Boolean)) {
    const who = ['-Y', 'verify', '-n', namespace, '-f', allowed, '-I', signer, '-s', file, ...without]
    if ((await ask(program, who, options)).exitCode === 0) return { state: 'good', signer: printable(signer, 100) }
  }
  return { state: 'unknown' }
}

async function verifyGpg(repo: Repository, text: string, file: string): Promise<Verdict> {
  const program = (await lastSetting(repo, 'gpg.program')) ?? 'gpg'
  const args = ['--batch', '--status-fd=1', '--keyid-format=long', '--verify', file, '-']
  const { stdout, exitCode } = await ask(program, args, { cwd: repo.cwd, input: text, ok: any })
  const signer = /^\[GNUPG:\] GOODSIG \S+ (.*)$/m.exec(stdout)?.[1]
  if (exitCode === 0 && signer !== undefined) return { state: 'good', signer: printable(signer, 100) }
  // Of a key that is missing, has ended or was revoked it cannot say more.
  return { state: /^\[GNUPG:\] (ERRSIG|EXPKEYSIG|REVKEYSIG|EXPSIG)\b/m.test(stdout) ? 'unknown' : 'bad' }
}

async function lastSetting(repo: Repository, name: string): Promise<string | undefined> {
  return (await settingValues(repo, name)).at(-1)
}
