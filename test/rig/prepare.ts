// Before integration and e2e tests: the program must be built, and a tiny base disk made, once per run.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { tinyDisk } from './tiny-disk.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** A raw disk with an ext4 root of busybox on partition 1. */
    tinyDisk: string
  }
}

export default function prepare(project: TestProject): () => void {
  const root = project.config.root
  if (!existsSync(join(root, 'dist/main.mjs')))
    execFileSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: 'inherit' })
  const folder = mkdtempSync(join(tmpdir(), 'vlb-prepare-'))
  project.provide('tinyDisk', tinyDisk(join(folder, 'tiny.raw'), {}))
  return () => rmSync(folder, { recursive: true, force: true })
}
