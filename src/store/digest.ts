// The digest of an overlay, by which damage is found that no structure shows.
import type { OverlayDigest } from '../core/manifest.ts'
import { hashFile, hashSums } from '../host/files.ts'

/**
 * The bytes that hold a qcow2's header and the name of its backing file. They are written again when an overlay goes into
 * the store; all behind them is complete when the script has ended, and is read while other things are looked at.
 */
const headBytes = 128 * 1024

/** Of all behind the header. Reading 100 MB takes some 20 ms. */
export async function hashBody(overlay: string, signal?: AbortSignal): Promise<string> {
  return await hashSums(overlay, behindHead(signal))
}

export async function overlayDigest(overlay: string, body: Promise<string>): Promise<OverlayDigest> {
  return { head: await hashHead(overlay), rest: await body, sums: 'crc32' }
}

/** Whether an overlay is what it was when the digest was made of it. */
export async function hasDigest(overlay: string, digest: OverlayDigest, signal?: AbortSignal): Promise<boolean> {
  if ((await hashHead(overlay)) !== digest.head) return false
  const rest = digest.sums ? hashBody(overlay, signal) : hashFile(overlay, 'sha256', behindHead(signal))
  return (await rest) === digest.rest
}

async function hashHead(overlay: string): Promise<string> {
  return await hashFile(overlay, 'sha256', { to: headBytes })
}

function behindHead(signal: AbortSignal | undefined) {
  return { from: headBytes, ...(signal ? { signal } : {}) }
}
