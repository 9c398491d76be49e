// Starts the pager that git would use (git-var(1), GIT_PAGER).
import { ask, spawnPager, ToolError } from '../host/run.ts'

/** Undefined for none: `cat`, or nothing. `git --no-pager` tells us by the variable. */
export async function startPager(
  cwd: string,
): Promise<{ input: NodeJS.WritableStream; ended: Promise<unknown> } | undefined> {
  const own = process.env['GIT_PAGER']
  let command = ''
  try {
    command = (await ask('git', ['var', 'GIT_PAGER'], { cwd, env: pagerVariables(own) })).stdout.trim()
  } catch (error) {
    if (!(error instanceof ToolError)) throw error
  }
  return command === '' || command === 'cat' ? undefined : spawnPager(command)
}

function pagerVariables(own: string | undefined): Record<string, string> {
  const other = process.env['PAGER']
  return { ...(own === undefined ? {} : { GIT_PAGER: own }), ...(other === undefined ? {} : { PAGER: other }) }
}
