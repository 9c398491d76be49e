// What test boots and the seed disk return.
import type { CheckResult } from './checks.ts'

/**
 * How a boot ended. booted: the console said all that was expected; ended: the guest powered off or was halted; panicked: its
 * kernel did; restarts: it started over and over; hung: it fell silent; flood: it said more than a serial line carries;
 * timeout: it was still at work; no-boot-loader: the firmware found none; host: qemu or this host failed.
 */
export type BootVerdict =
  | 'booted'
  | 'ended'
  | 'panicked'
  | 'restarts'
  | 'hung'
  | 'flood'
  | 'timeout'
  | 'no-boot-loader'
  | 'host'

export interface BootResult {
  ok: boolean
  verdict: BootVerdict
  image: string
  accelerator: string
  firmware: 'bios' | 'uefi'
  /** The pattern that was waited for last. */
  expect: string | null
  /** All of them, in their order. */
  expected: string[]
  /** The line of the console that matched it. */
  matched: string | null
  seconds: number
  reason: string
  /** Paths of a picture of the screen, and of the overlay with what the guest wrote. */
  screenshot: string | null
  kept: string | null
  /** Exit status for the shell. */
  exitStatus: number
  forwards: string[]
  /** With --check: one for each machine, in the order of vlb.yaml; none where a pass was remembered. */
  machines?: CheckedMachine[]
  /** When this image passed these checks before, ISO 8601: it was not booted again. */
  remembered?: string | null
}

/** The checks on one machine. */
export interface CheckedMachine {
  /** `2 cpus, 1.0 GiB`. */
  name: string
  cpus: number
  /** Bytes. */
  memory: number
  firmware: 'bios' | 'uefi'
  ok: boolean
  /** One line, and after a failure the last lines of the console, indented. */
  reason: string
  /** Until the system had come up; null if it did not. */
  bootSeconds: number | null
  /** In all. */
  seconds: number
  checks: CheckResult[]
  /** Where the overlay is that the guest wrote to; null where none was to be kept. */
  kept: string | null
}

export interface SeedResult {
  path: string
  format: 'iso' | 'vfat'
  bytes: number
  instanceId: string
  /** Names on the disk. */
  files: string[]
}
