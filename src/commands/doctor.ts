// git vlb doctor
import type { CommandResult } from '../core/results.ts'
import { examine } from '../host/doctor.ts'

export async function doctor(): Promise<CommandResult> {
  return { kind: 'doctor', data: await examine() }
}
