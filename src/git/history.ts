// What the history says of a path. For explanations only: where it cannot tell, there is no answer, and no error.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ChangingCommit } from '../core/results-status.ts'
import { ask, ToolError } from '../host/run.ts'
import type { Repository } from './repo.ts'

/** The newest commit up to `revision` that touched `path`, which is relative to `folder`. */
export async function lastCommit(
  repo: Repository,
  folder: string,
  revision: string,
  path: string,
): Promise<ChangingCommit | null> {
  // A clone without trees would fetch them one by one, and nobody asked for that.
  const offline = ['-c', 'protocol.allow=never']
  const format = ['-c', 'log.showSignature=false', 'log', '-1', '--no-color', '--format=%H%x00%an%x00%aI%x00%s']
  const args = [...offline, '--literal-pathspecs', ...format, '--end-of-options', revision, '--', path]
  try {
    const [id = '', author = '', date = '', subject = ''] = (await ask('git', args, { cwd: folder })).stdout
      .trimEnd()
      .split('\0')
    return id === '' || (await isCutOff(repo, id)) ? null : { id, subject, author, date }
  } catch (error) {
    if (error instanceof ToolError) return null
    throw error
  }
}

/** Where a shallow clone ends, a commit seems to bring everything that is in it (gitformat: a file of commit ids). */
async function isCutOff(repo: Repository, commit: string): Promise<boolean> {
  const ends = await readFile(join(repo.commonDir, 'shallow'), 'latin1').catch(() => '')
  return ends.split('\n').includes(commit)
}
