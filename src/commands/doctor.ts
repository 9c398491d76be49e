// git vlb doctor
import type { CommandResult } from '../core/results.ts'
import { examine } from '../host/doctor.ts'
import { canLimit } from '../image/sandbox.ts'

export async function doctor(): Promise<CommandResult> {
  return { kind: 'doctor', data: await examine([await limits()]) }
}

async function limits() {
  const ok = await canLimit()
  return {
    name: 'control groups',
    ok,
    required: false,
    found: ok ? 'for memory and processes' : 'missing: what scripts take of memory and processes is not limited',
    neededFor: 'limits for scripts (vlb.memory)',
  }
}
