// Measures git vlb against the least that the same work takes: `npm run bench`.
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bootRows } from './boot.ts'
import { debianRows } from './debian.ts'
import { diffRows } from './diff.ts'
import { hookRows } from './hook.ts'
import { Lab } from './lab.ts'
import { largeRows } from './large.ts'
import { machine, page, pageWithLarge, plainTable } from './page.ts'
import { registryRows } from './registry.ts'
import { rollupRows } from './rollup.ts'
import { statusRows } from './status.ts'
import { storeRows } from './store.ts'
import { tinyRows } from './tiny.ts'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

const lab = new Lab()
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))
process.once('exit', () => lab.close())

const only = process.argv[2]
const rows = [
  ...(only === undefined || only === 'tiny' ? tinyRows(lab) : []),
  ...(only === undefined || only === 'diff' ? diffRows(lab) : []),
  ...(only === undefined || only === 'status' ? statusRows(lab) : []),
  ...(only === undefined || only === 'store' ? storeRows(lab) : []),
  ...(only === 'large' ? largeRows(lab) : []),
  ...(only === undefined || only === 'rollup' ? rollupRows(lab) : []),
  ...(only === undefined || only === 'hook' ? hookRows(lab) : []),
  ...(only === undefined || only === 'registry' ? registryRows(lab) : []),
  ...(only === undefined || only === 'debian' ? debianRows(lab) : []),
  ...(only === undefined || only === 'boot' ? bootRows(lab) : []),
]
console.log(plainTable(rows))
const unmet = rows.filter((row) => row.met === false)
console.log(unmet.length === 0 ? '\nAll bounds are met.' : `\n${unmet.length} bounds are not met.`)
writeFileSync(join(root, 'test/artefacts/bench.json'), `${JSON.stringify({ machine: machine(), rows }, null, 2)}\n`)
const pageFile = join(root, 'docs/benchmarks.md')
const before = readFileSync(pageFile, 'utf8')
if (only === undefined)
  writeFileSync(pageFile, page(rows, readFileSync(join(root, 'test/bench/intro.md'), 'utf8'), before))
if (only === 'large') writeFileSync(pageFile, pageWithLarge(rows, before))
process.exitCode = unmet.length === 0 ? 0 : 1
