// A full disk: how much is free where something is to be written, and the error that tells.
import { statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { formatBytes } from '../core/units.ts'

/** Bytes that may still be written where `path` lies or is to lie; undefined where that cannot be told. */
export function freeSpace(path: string): number | undefined {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { bavail, bsize } = statfsSync(at)
      return bavail * bsize
    } catch {
      if (at === dirname(at)) return undefined
    }
  }
}

/** Whether a system call failed because there is no space, or because the user may have no more of it. */
export function isSpaceError(error: unknown): boolean {
  return hasErrorCode(error, 'ENOSPC', 'EDQUOT')
}

export interface Shortage {
  /** Bytes that it takes, as far as is known. */
  need?: number | undefined
  /** The need is no more than an estimate. */
  about?: boolean
  cause?: unknown
}

/** The error for a disk that has no room for `path`. */
export function spaceError(path: string, { need, about = false, cause }: Shortage = {}): VlbError {
  const free = freeSpace(path)
  const told = [
    ...(need === undefined ? [] : [`${about ? 'about ' : ''}${formatBytes(need)} needed`]),
    ...(free === undefined ? [] : [`${formatBytes(free)} free`]),
    ...(hasErrorCode(cause, 'EDQUOT') ? ["this user's quota is used up"] : []),
  ].join(', ')
  return new VlbError('VLB_HOST_SPACE', `no space left on the host to write ${path}${told ? `: ${told}` : ''}`, {
    hint: `see: df -h ${path}; free some space there, or move the store: git config vlb.store PATH`,
    cause,
  })
}

/** Throws before anything is written if `need` bytes do not fit where `path` is to lie. */
export function requireSpace(path: string, need: number): void {
  const free = freeSpace(path)
  if (free !== undefined && need > free) throw spaceError(path, { need, about: true })
}
