// Bundles the benchmarks, which are TypeScript, and runs them. The bundle lies as deep below the project's folder as its
// sources do, for they look for files from there.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const test = dirname(fileURLToPath(import.meta.url))
const outfile = join(test, 'artefacts/bench.mjs')
await build({
  entryPoints: [join(test, 'bench/bench.ts')],
  outfile,
  bundle: true,
  packages: 'external',
  platform: 'node',
  format: 'esm',
  logLevel: 'warning',
})
await import(outfile)
