// Bundles src/ into dist/ (split ESM chunks, so a command loads only what it needs) and turns docs/*.1.md into
// man pages. Run by `npm run build`; prints nothing when all is well.
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import remarkMan from 'remark-man'
import remarkParse from 'remark-parse'
import { unified } from 'unified'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')

const result = await build({
  entryPoints: [join(root, 'src/main.ts')],
  outdir: dist,
  bundle: true,
  splitting: true,
  minify: true,
  keepNames: true,
  sourcemap: true,
  metafile: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  outExtension: { '.js': '.mjs' },
  chunkNames: '[name]-[hash]',
  loader: { '.md': 'text' },
  banner: {
    // Some dependencies are CommonJS inside and call require.
    js: "import {createRequire as __vlbRequire} from 'node:module';const require=__vlbRequire(import.meta.url);",
  },
  logLevel: 'warning',
  write: false,
})

// Stale chunks of an older build would be shipped, so the folder is made anew; written last, so that a failed
// bundle leaves the working one.
await rm(dist, { recursive: true, force: true })
await mkdir(join(dist, 'man'), { recursive: true })
for (const file of result.outputFiles) await writeFile(file.path, file.contents)
await writeFile(join(dist, 'meta.json'), JSON.stringify(result.metafile))
await writeFile(join(dist, 'runner.sh'), await readFile(join(root, 'src/image/runner.sh')))
await chmod(join(dist, 'main.mjs'), 0o755)

const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
for (const page of (await readdir(join(root, 'docs'))).filter((name) => /\.\d\.md$/.test(name))) {
  const name = page.replace(/\.\d\.md$/, '')
  const manual = unified().use(remarkParse).use(remarkMan, { name, section: 1, version, manual: 'git vlb manual' })
  const roff = await manual.process(await readFile(join(root, 'docs', page), 'utf8'))
  await writeFile(join(dist, 'man', page.replace(/\.md$/, '')), String(roff))
}
