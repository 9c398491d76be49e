// Errors a user can act on. A VlbError says what, where and what to do next; anything else thrown is our bug.

/** Exit status per error code, as docs/git-vlb.1.md lists them. Codes are stable: scripts may match them. */
export const errorCodes = {
  VLB_USAGE: 2,
  VLB_EXISTS: 2,
  VLB_NO_PROJECT: 2,
  VLB_CONFIG: 2,
  VLB_NO_LAYERS: 2,
  VLB_LAYER_NAME: 2,
  VLB_LAYER_KIND: 2,
  VLB_LAYER_SYMLINK: 2,
  VLB_LAYER_SUBMODULE: 2,
  VLB_LAYER_LFS: 2,
  VLB_LAYER_CONFLICT: 2,
  VLB_LAYER_UNKNOWN: 2,
  VLB_PATH_UNKNOWN: 2,
  VLB_SCRIPT_MODE: 2,
  VLB_SCRIPT_CRLF: 2,
  VLB_SCRIPT_SHEBANG: 2,
  VLB_SCRIPT_INTERPRETER: 2,
  VLB_DIRECTIVE: 2,
  VLB_ENV: 2,
  VLB_SECRET: 2,
  VLB_INCLUDE: 2,
  VLB_CHECK: 2,
  VLB_CLOUD_INIT: 2,
  VLB_NO_BASE: 2,
  VLB_BASE_MISSING: 2,
  VLB_BASE_DIGEST: 2,
  VLB_BASE_DOWNLOAD: 2,
  VLB_BASE_BACKING: 2,
  VLB_BASE_FORMAT: 2,
  VLB_DISK: 2,
  VLB_DISK_SHRINK: 2,
  VLB_REV: 2,
  VLB_ROLLUP: 2,
  VLB_DIRTY: 2,
  VLB_BUSY: 2,
  VLB_IN_USE: 2,
  VLB_BARE: 2,
  VLB_HOOKS: 2,
  VLB_NO_REMOTE: 2,
  VLB_REMOTE: 2,
  VLB_REMOTE_LOGIN: 2,
  VLB_PRUNE: 2,
  VLB_SIGNATURE: 2,
  VLB_NO_IMAGE: 2,
  VLB_REMOTE_DAMAGED: 4,
  VLB_NOT_BUILT: 1,
  VLB_FROZEN: 1,
  VLB_LAYER_FAILED: 1,
  VLB_LAYER_TIMEOUT: 1,
  VLB_BOOT_FAILED: 1,
  VLB_SEAL: 1,
  VLB_NOTHING_LOGGED: 1,
  VLB_NOTHING_KEPT: 1,
  VLB_KILLED: 1,
  VLB_HOST_TOOL: 3,
  VLB_HOST_PRIVILEGE: 3,
  VLB_HOST_KERNEL: 3,
  VLB_HOST_ATTACH: 3,
  VLB_HOST_DEVICE: 3,
  VLB_HOST_ARCHITECTURE: 3,
  VLB_HOST_SPACE: 3,
  VLB_HOST_IO: 3,
  VLB_STORE_WRITE: 3,
  VLB_HOOKS_WRITE: 3,
  VLB_STORE_DAMAGED: 4,
  VLB_GIT: 4,
  VLB_NOT_A_REPOSITORY: 128,
} as const

export type ErrorCode = keyof typeof errorCodes

export interface ErrorDetails {
  /** What to do next: a command or a place to look. */
  hint?: string
  cause?: unknown
  /** What code that catches it may want to know. */
  data?: Record<string, unknown>
}

/** An expected failure: printed as message and hint, never with a stack trace. */
export class VlbError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly data: Record<string, unknown> | undefined

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'VlbError'
    this.code = code
    this.hint = details.hint
    this.data = details.data
  }

  get exitStatus(): number {
    return errorCodes[this.code]
  }
}

/** Thrown when the user or the system asked us to stop. */
export class Interrupted extends Error {
  readonly signal: NodeJS.Signals

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`)
    this.name = 'Interrupted'
    this.signal = signal
  }

  /** 128 + signal number, as shells report it. */
  get exitStatus(): number {
    return { SIGINT: 130, SIGTERM: 143, SIGHUP: 129, SIGQUIT: 131 }[this.signal as string] ?? 130
  }
}

export function hasErrorCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}

/** What a message may hold of a text that came from outside: one line, no control characters, no terminal tricks. */
export function printable(text: string, limit = 300): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => (c === '\t' ? ' ' : '?'))
  return clean.length > limit ? `${clean.slice(0, limit)}…` : clean
}
