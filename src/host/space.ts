// A full disk: how much is free where something is to be written, and the error that tells.
import { statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { hasErrorCode, VlbError } from '../core/errors.ts'
import { formatBytes } from '../core/units.ts'

/** Bytes that may still be written where `path` lies or is to lie; undefined where that cannot be told. */
export function freeSpace(path: string): number | undefined {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { blocks, bavail, bsize } = statfsSync(at)
      // /proc and the like hold no files of ours, so that space is not what they lack.
      return blocks === 0 ? undefined : bavail * bsize
    } catch {
      if (at === dirname(at)) return undefined
    }
  }
}

/**
 * Whether there was no space, or the user may have no more of it, and what failed did not know what it wrote: a system
 * call, or a program of the host.
 */
export function isSpaceError(error: unknown): boolean {
  if (error instanceof VlbError) return error.code === 'VLB_HOST_SPACE' && error.data?.['vague'] === true
  return hasErrorCode(error, 'ENOSPC', 'EDQUOT')
}

export interface Shortage {
  /** Bytes that it takes, as far as is known. */
  need?: number | undefined
  /** The need is no more than an estimate. */
  about?: boolean
  cause?: unknown
  /** The path is no name for people, and whoever catches it knows a better one. */
  vague?: boolean
}

/** The error for a disk that has no room for `path`. */
export function spaceError(path: string, { need, about = false, cause, vague = false }: Shortage = {}): VlbError {
  const free = freeSpace(path)
  const told = [
    ...(need === undefined ? [] : [`${about ? 'about ' : ''}${formatBytes(need)} needed`]),
    ...(free === undefined ? [] : [`${formatBytes(free)} free`]),
    ...(isQuota(cause) ? ["this user's quota is used up"] : []),
  ].join(', ')
  return new VlbError('VLB_HOST_SPACE', `no space left on the host to write ${path}${told ? `: ${told}` : ''}`, {
    hint: `see: df -h ${path}; free some space there, or move the store: git config vlb.store PATH`,
    cause,
    data: { vague },
  })
}

/** The message of a program's error has its words. */
function isQuota(cause: unknown): boolean {
  return hasErrorCode(cause, 'EDQUOT') || (cause instanceof VlbError && /Disk quota exceeded/.test(cause.message))
}

/** Throws before anything is written if `need` bytes do not fit where `path` is to lie. */
export function requireSpace(path: string, need: number): void {
  const free = freeSpace(path)
  if (free !== undefined && need > free) throw spaceError(path, { need, about: true })
}

/** With less than this left, what a disk image grows by may not fit any more. */
const reserve = 4 * 2 ** 20

export interface SpaceWatch {
  /** Fires, with the error to tell, when next to nothing is left. */
  full: AbortSignal
  end(): void
}

/**
 * Watches the free space where `path` lies while something writes there that does not notice errors: what a guest file
 * system writes late, or a script that does not look.
 */
export function watchSpace(path: string): SpaceWatch {
  const controller = new AbortController()
  const look = () => {
    const free = freeSpace(path)
    if (free !== undefined && free < reserve && !controller.signal.aborted)
      controller.abort(spaceError(path, { vague: true }))
  }
  look()
  const timer = setInterval(look, 100)
  timer.unref()
  return {
    full: controller.signal,
    end: () => {
      clearInterval(timer)
      look()
    },
  }
}
