// The pager that git would use (git-var(1), GIT_PAGER).
import { pagerEnvironment } from '../host/env.ts'
import { ask, spawnPager, ToolError } from '../host/run.ts'

/** Starts it. Undefined where there is none, which git calls `cat`. */
export async function startPager(
  cwd: string,
): Promise<{ input: NodeJS.WritableStream; ended: Promise<unknown> } | undefined> {
  try {
    const command = (await ask('git', ['var', 'GIT_PAGER'], { cwd, env: pagerEnvironment() })).stdout.trim()
    return command === '' || command === 'cat' ? undefined : spawnPager(command)
  } catch (error) {
    // Without a terminal that can do anything git has no pager to name.
    if (error instanceof ToolError) return undefined
    throw error
  }
}
