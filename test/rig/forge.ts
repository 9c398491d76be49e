// Somebody who can write to a registry: what a tag has, changed, with digests that fit again.
import { createHash } from 'node:crypto'
import type { FaultyRegistry } from './registry.ts'

// biome-ignore lint/suspicious/noExplicitAny: tests change JSON of any shape
type Json = any

/** `change` gets the config and a way to put a blob; what it changed in the config is then what the tag has. */
export function forge(
  registry: FaultyRegistry,
  tag: string,
  change: (config: Json, put: (bytes: Buffer) => { digest: string; size: number }, manifest: Json) => void,
): void {
  const name = [...registry.manifests.keys()].find((one) => one.endsWith(`:${tag}`)) ?? ''
  const manifest = JSON.parse((registry.manifests.get(name) as Buffer).toString('utf8'))
  const config = JSON.parse((registry.blobs.get(manifest.config.digest) as Buffer).toString('utf8'))
  const put = (bytes: Buffer) => {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    registry.blobs.set(digest, bytes)
    return { digest, size: bytes.length }
  }
  change(config, put, manifest)
  Object.assign(manifest.config, put(Buffer.from(JSON.stringify(config))))
  registry.manifests.set(name, Buffer.from(JSON.stringify(manifest)))
}
