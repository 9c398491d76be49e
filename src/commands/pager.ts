// The user's pager, as git chooses it, for results that may be long.

export interface Pager {
  input: NodeJS.WritableStream
  /** Resolves when the user has left it. */
  ended: Promise<unknown>
}

/** Undefined where git would use none. */
export async function openPager(cwd: string): Promise<Pager | undefined> {
  const { startPager } = await import('../git/pager.ts')
  return await startPager(cwd)
}
