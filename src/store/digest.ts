// The digest of an overlay, by which damage is found that no structure shows.
import type { OverlayDigest } from '../core/manifest.ts'
import { hashFile } from '../host/files.ts'

/**
 * The bytes that hold a qcow2's header and the name of its backing file. They are written again when an overlay goes into
 * the store; all behind them is complete when the script has ended, and is hashed while other things are looked at.
 */
const headBytes = 128 * 1024

/** Of all behind the header. Reading 100 MB takes some 60 ms. */
export async function hashBody(overlay: string, signal?: AbortSignal): Promise<string> {
  return await hashFile(overlay, 'sha256', { from: headBytes, ...(signal ? { signal } : {}) })
}

export async function overlayDigest(
  overlay: string,
  body: Promise<string> | undefined,
  signal?: AbortSignal,
): Promise<OverlayDigest> {
  return { head: await hashFile(overlay, 'sha256', { to: headBytes }), rest: await (body ?? hashBody(overlay, signal)) }
}
