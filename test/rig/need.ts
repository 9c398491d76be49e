// What a test needs of the host. Lacking, the test is skipped with the reason; with VLB_TEST_REQUIRE=all it fails.
import { execFileSync } from 'node:child_process'
import { accessSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type Need = 'root' | 'fuse' | 'loop' | `tool:${string}` | `file:/${string}`

function lacking(need: Need): string | undefined {
  if (need === 'root') return process.getuid?.() === 0 ? undefined : 'not root'
  const [kind, name] = need.split(':')
  try {
    if (kind === 'tool')
      execFileSync('sh', ['-c', 'command -v "$1"', 'sh', name ?? ''], {
        stdio: 'ignore',
        env: { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
      })
    else if (kind === 'file') accessSync(name ?? '')
    else accessSync(kind === 'fuse' ? '/dev/fuse' : '/dev/loop-control')
    return undefined
  } catch {
    return kind === 'tool' || kind === 'file' ? `no ${name}` : `no /dev/${kind}`
  }
}

/** Whether git can keep refs in a reftable, as it can since 2.45. */
export function hasReftable(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-need-'))
  try {
    execFileSync('git', ['init', '--quiet', '--ref-format=reftable', folder], { stdio: 'ignore' })
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Why a test cannot run here; undefined if it can. Throws instead where nothing may be skipped. */
export function whyNot(needs: readonly Need[]): string | undefined {
  const reasons = needs.map(lacking).filter((reason) => reason !== undefined)
  if (reasons.length === 0) return undefined
  if (process.env['VLB_TEST_REQUIRE'] === 'all')
    throw new Error(`this test may not be skipped, but: ${reasons.join(', ')}`)
  return reasons.join(', ')
}
