// The steps of the seal, which makes one disk safe to clone: each takes away what must not be the same on two machines.
// What a step does is in image/runner/seal.sh.

/** In the order in which they are done. */
export const sealSteps = [
  'machine-id',
  'ssh-host-keys',
  'random-seed',
  'dhcp',
  'cloud-init',
  'logs',
  'package-cache',
  'history',
] as const

export type SealStep = (typeof sealSteps)[number]

/** Part of what an image is made from. To be raised when a step does more or less than it did. */
export const sealVersion = 1

/** What a step took away: files removed or emptied, and the bytes they held. */
export interface SealedStep {
  step: SealStep
  files: number
  bytes: number
}

export interface SealReport {
  steps: SealedStep[]
  /** Whether anything was written to the disk. */
  changed: boolean
  warnings: string[]
}

/** Reads the runner's lines: `sealed STEP FILES BYTES`, `changed`, `warning TEXT`. */
export function parseSeal(lines: readonly string[]): SealReport {
  const report: SealReport = { steps: [], changed: false, warnings: [] }
  for (const line of lines) {
    const [, name, files, bytes] = /^sealed (\S+) (\d+) (\d+)$/.exec(line) ?? []
    const step = sealSteps.find((one) => one === name)
    if (step) report.steps.push({ step, files: Number(files), bytes: Number(bytes) })
    else if (line === 'changed') report.changed = true
    else if (line.startsWith('warning ')) report.warnings.push(line.slice('warning '.length))
  }
  return report
}
