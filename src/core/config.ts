// What vlb.yaml says, with its defaults. config-file.ts reads it.
import type { BuiltinCheck } from './checks.ts'
import type { OutputSettings } from './output.ts'
import type { SealStep } from './seal.ts'

export const configFile = 'vlb.yaml'

export interface BaseDigest {
  algorithm: 'sha256' | 'sha512'
  hex: string
}

export type BaseSource =
  | { from: 'path'; path: string; digest: BaseDigest | undefined }
  | { from: 'url'; url: string; digest: BaseDigest }

export const firmwares = ['bios', 'uefi'] as const
export type Firmware = (typeof firmwares)[number]

export interface BootSettings {
  /** Bytes. */
  memory: number
  cpus: number
  firmware: Firmware
  expect: string | undefined
  /** Seconds. */
  timeout: number
  /** Which of the built-in checks run, in their order. */
  builtinChecks: readonly BuiltinCheck[]
  /** What the checks run on, one boot each; at least one. */
  machines: readonly MachineSettings[]
}

export interface MachineSettings {
  /** Bytes. */
  memory: number
  cpus: number
  firmware: Firmware
}

export interface Config {
  name: string
  base: BaseSource | undefined
  disk: { size: number | undefined; root: string | undefined }
  env: Record<string, string>
  output: OutputSettings
  /** In the order in which they are done. */
  seal: readonly SealStep[]
  boot: BootSettings
  changelog: { packages: readonly string[] }
  remote: string | undefined
  /** The base goes along when snapshots are shared. */
  shareBase: boolean
}

export function compileExpect(pattern: string): RegExp | undefined {
  try {
    return new RegExp(pattern, 'u')
  } catch {
    return undefined
  }
}
