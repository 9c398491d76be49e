// Looks at this host: which tools are there and new enough, whether root can be had, what the kernel offers.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { hasErrorCode } from '../core/errors.ts'
import type { DoctorCheck, DoctorResult } from '../core/results.ts'
import { whyNotRoot } from './privilege.ts'
import { run } from './run.ts'
import { installCommand, programPath, type Tool, tools } from './tools.ts'

/** Checks all of it, and adds what others checked; what is missing comes with the command that installs it. */
export async function examine(others: readonly DoctorCheck[] = []): Promise<DoctorResult> {
  const found = await Promise.all(tools.map(async (tool) => ({ tool, check: await checkTool(tool) })))
  const checks = eitherWay([
    nodeCheck(),
    ...found.map(({ check }) => check),
    await rootCheck(),
    ...(await kernelChecks()),
    await nbdCheck(),
    ...others,
  ])
  const missing = found.filter(({ check }) => !check.ok).map(({ tool }) => tool.name)
  return {
    ok: checks.every((check) => check.ok || !check.required),
    checks,
    install: installCommand(missing) ?? null,
    missing,
  }
}

/** Where disks can be attached by nbd, what FUSE takes may be missing. */
function eitherWay(checks: DoctorCheck[]): DoctorCheck[] {
  const all = (...names: string[]) => names.every((name) => checks.some((check) => check.name === name && check.ok))
  if (all('qemu-storage-daemon', '/dev/fuse') || !all('qemu-nbd', nbd)) return checks
  return checks.map((check) => ({
    ...check,
    required: check.required && check.name !== 'qemu-storage-daemon' && check.name !== '/dev/fuse',
  }))
}

function nodeCheck(): DoctorCheck {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const ok = major > 20 || (major === 20 && minor >= 19)
  return {
    name: 'node',
    ok,
    required: true,
    found: process.versions.node + (ok ? '' : ' (needs 20.19)'),
    neededFor: 'everything',
  }
}

async function checkTool(tool: Tool): Promise<DoctorCheck> {
  const base = { name: tool.name, required: tool.required, neededFor: tool.neededFor }
  const path = await firstOf([tool.name, ...(tool.alternatives ?? [])])
  if (!path) return { ...base, ok: false, found: 'missing' }
  if (!tool.version) return { ...base, ok: true, found: path }
  const { stdout } = await run(path, tool.version.args, { ok: [0, 1] })
  const version = /\d+(\.\d+)+/.exec(stdout)?.[0] ?? '0'
  const ok = atLeast(version, tool.version.atLeast)
  return { ...base, ok, found: ok ? version : `${version}, needs ${tool.version.atLeast}` }
}

async function firstOf(names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const path = await programPath(name)
    if (path) return path
  }
  return undefined
}

/** Compares version numbers part by part. */
export function atLeast(version: string, wanted: string): boolean {
  const [a, b] = [version, wanted].map((text) => text.split('.').map(Number))
  for (const [i, part] of (b ?? []).entries()) {
    const have = a?.[i] ?? 0
    if (have !== part) return have > part
  }
  return true
}

async function accessible(path: string, mode: number): Promise<boolean> {
  try {
    await access(path, mode)
    return true
  } catch (error) {
    if (hasErrorCode(error, 'ENOENT', 'EACCES', 'ENOTDIR', 'EROFS')) return false
    throw error
  }
}

async function rootCheck(): Promise<DoctorCheck> {
  const why = await whyNotRoot()
  const how = process.getuid?.() === 0 ? 'this is root' : 'sudo -n works'
  return {
    name: 'root',
    ok: !why,
    required: true,
    found: why ? why.message : how,
    neededFor: 'mounts, in the privileged runner only',
  }
}

async function kernelChecks(): Promise<DoctorCheck[]> {
  const nodes: [path: string, neededFor: string][] = [
    ['/dev/fuse', 'attaching a snapshot by FUSE'],
    ['/dev/loop-control', 'mounting a snapshot (loop devices)'],
  ]
  return await Promise.all(
    nodes.map(async ([path, neededFor]) => {
      const ok = await accessible(path, constants.F_OK)
      return {
        name: path,
        ok,
        required: true,
        found: ok ? 'there' : `missing: modprobe ${path.includes('fuse') ? 'fuse' : 'loop'}`,
        neededFor,
      }
    }),
  )
}

const nbd = '/dev/nbd0'

async function nbdCheck(): Promise<DoctorCheck> {
  const ok = await accessible(nbd, constants.F_OK)
  const found = ok ? 'there' : 'missing: modprobe nbd max_part=0'
  return { name: nbd, ok, required: false, found, neededFor: 'attaching a snapshot by nbd, where FUSE does not work' }
}
