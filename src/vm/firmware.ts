// UEFI for guests: found by the descriptions that distributions install beside it (qemu's docs/interop/firmware.json).
import { access, constants, copyFile, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { VlbError } from '../core/errors.ts'
import { firmwareHint } from '../host/tools.ts'

export interface Uefi {
  /** The program, read-only. */
  code: string
  /** What its variables are before a first boot. */
  template: string
}

interface Description {
  'interface-types'?: string[]
  mapping?: {
    device?: string
    executable?: { filename?: string; format?: string }
    'nvram-template'?: { filename?: string; format?: string }
  }
  targets?: { architecture?: string; machines?: string[] }[]
  features?: string[]
}

/** Where qemu's own documentation has them, the ones that come first taking precedence. */
const folders = ['/etc/qemu/firmware', '/usr/local/share/qemu/firmware', '/usr/share/qemu/firmware']

/**
 * The first that boots a Q35 by itself: without Secure Boot, whose keys nobody gave us, and without System Management
 * Mode, under which emulated guests are slow. Throws VLB_HOST_TOOL if there is none.
 */
export async function findUefi(places: readonly string[] = folders): Promise<Uefi> {
  const found = new Map<string, string>()
  for (const folder of places) {
    for (const name of (await readdir(folder).catch(() => [])).filter((one) => one.endsWith('.json')))
      if (!found.has(name)) found.set(name, join(folder, name))
  }
  for (const name of [...found.keys()].sort()) {
    const uefi = usable(await readFile(found.get(name) ?? '', 'utf8').catch(() => ''))
    if (uefi && (await isReadable(uefi))) return uefi
  }
  throw new VlbError('VLB_HOST_TOOL', 'this host has no UEFI firmware for guests (OVMF)', { hint: firmwareHint() })
}

function usable(text: string): Uefi | undefined {
  let one: Description
  try {
    one = (JSON.parse(text) as Description | null) ?? {}
  } catch {
    // Switched off by an empty file, or not for us.
    return undefined
  }
  const { mapping, features = [], targets = [] } = one
  const { executable: code, 'nvram-template': template } = mapping ?? {}
  const machine = targets.some((t) => t.architecture === 'x86_64' && t.machines?.some((m) => /^pc-q35-/.test(m)))
  const plain = !features.includes('requires-smm') && !features.includes('enrolled-keys')
  if (!one['interface-types']?.includes('uefi') || mapping?.device !== 'flash' || !machine || !plain) return undefined
  if (code?.format !== 'raw' || template?.format !== 'raw' || !code.filename || !template.filename) return undefined
  return { code: code.filename, template: template.filename }
}

async function isReadable({ code, template }: Uefi): Promise<boolean> {
  return await Promise.all([code, template].map((path) => access(path, constants.R_OK))).then(
    () => true,
    () => false,
  )
}

/** Variables as on a machine that was never started. */
export async function freshVariables({ template }: Uefi, folder: string): Promise<string> {
  const path = join(folder, 'uefi-variables.raw')
  await copyFile(template, path)
  return path
}
