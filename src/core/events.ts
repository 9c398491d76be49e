// What happens while a command runs, told as data. The reporters are total switches over this union.

import type { SealedStep } from './seal.ts'

export type StepResult = 'built' | 'cached' | 'pulled' | 'failed' | 'skipped'

export type Event =
  /** A plan was made; its steps follow in this order. `label` names the revision when it is not the working tree. */
  | { type: 'plan'; label: string; steps: string[]; missing: number }
  /** A step is being built. */
  | { type: 'step-started'; label: string; name: string }
  /** A complete line its script wrote. */
  | { type: 'step-output'; label: string; name: string; line: string }
  /** Somebody else builds the same key. */
  | { type: 'step-waiting'; label: string; name: string; pid: number }
  | { type: 'step-ended'; label: string; name: string; result: StepResult; seconds: number; bytes: number }
  /** The top of a chain is being sealed, before its image is written. */
  | { type: 'seal-started'; label: string }
  | { type: 'seal-ended'; label: string; steps: readonly SealedStep[]; seconds: number }
  /** Bytes of a download, an unpacking, an import or a flatten; `total` is unknown for some servers. */
  | { type: 'progress'; task: string; done: number; total: number | undefined }
  | { type: 'progress-ended'; task: string; bytes: number; seconds: number }
  /** Something worth a line. */
  | { type: 'note'; text: string }
  | { type: 'warning'; text: string }
  /** Bytes of a guest's serial console. */
  | { type: 'console'; chunk: Buffer }

export type Emit = (event: Event) => void
