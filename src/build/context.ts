// What the engine works with: a project, its store, where events go, and when to stop.
import type { Attach } from '../core/attach.ts'
import type { Emit } from '../core/events.ts'
import type { MemoryLimit } from '../core/memory.ts'
import type { LocalStore } from '../store/local.ts'
import type { Project } from './project.ts'

export interface BuildContext {
  project: Project
  store: LocalStore
  emit: Emit
  signal: AbortSignal
  /** Target architecture, as `uname -m` names it. */
  arch: string
  /** How disks are attached. */
  attach: Attach
  /** What scripts may take. */
  memory: MemoryLimit
}

const machineNames: Record<string, string> = { x64: 'x86_64', arm64: 'aarch64', ia32: 'i686', arm: 'armv7l' }

/** This host's architecture as `uname -m` names it. */
export function hostArchitecture(): string {
  return machineNames[process.arch] ?? process.arch
}
