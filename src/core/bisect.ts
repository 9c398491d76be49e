// Exit statuses for `git bisect run`, which takes 0 for good, 125 for a commit that cannot be tested, anything else up to
// 127 for bad, and what is above that for an end of the whole search (git-bisect(1)).
import { type ErrorCode, Interrupted, VlbError } from './errors.ts'

/** This commit cannot be tested: try another one. */
export const skipCommit = 125
/** Nothing that a commit is to blame for: what is wrong has to be put right before the search goes on. */
export const stopBisect = 128

/** What is wrong with the commit itself, on every host. */
const commitsFault: ReadonlySet<ErrorCode> = new Set([
  'VLB_NO_PROJECT',
  'VLB_CONFIG',
  'VLB_NO_LAYERS',
  'VLB_LAYER_NAME',
  'VLB_LAYER_KIND',
  'VLB_LAYER_SYMLINK',
  'VLB_LAYER_SUBMODULE',
  'VLB_LAYER_LFS',
  'VLB_SCRIPT_MODE',
  'VLB_SCRIPT_CRLF',
  'VLB_SCRIPT_SHEBANG',
  'VLB_SCRIPT_INTERPRETER',
  'VLB_DIRECTIVE',
  'VLB_INCLUDE',
  'VLB_CHECK',
  'VLB_CLOUD_INIT',
  'VLB_NO_BASE',
  'VLB_BASE_MISSING',
  'VLB_BASE_DIGEST',
  'VLB_BASE_BACKING',
  'VLB_BASE_FORMAT',
  'VLB_DISK',
  'VLB_DISK_SHRINK',
  'VLB_LAYER_FAILED',
  'VLB_LAYER_TIMEOUT',
  'VLB_SEAL',
])

/** The status with which an error ends `test-boot --bisect`. */
export function bisectStatus(error: unknown): number {
  if (error instanceof Interrupted) return error.exitStatus
  if (!(error instanceof VlbError)) return stopBisect
  return commitsFault.has(error.code) || error.data?.['noFolder'] === true ? skipCommit : stopBisect
}
