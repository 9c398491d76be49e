// Bundles src/ into dist/ and turns docs/*.1.md into man pages. Run by `npm run build`; prints nothing when all is well.
import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'
import remarkMan from 'remark-man'
import remarkParse from 'remark-parse'
import { unified } from 'unified'
import { bundleOptions, root } from './bundle-options.mjs'

const dist = join(root, 'dist')

const result = await build(bundleOptions)

// Stale chunks of an older build would be shipped, so the folder is made anew; written last, so that a failed
// bundle leaves the working one.
await rm(dist, { recursive: true, force: true })
await mkdir(join(dist, 'man'), { recursive: true })
for (const file of result.outputFiles) await writeFile(file.path, file.contents)
await writeFile(join(dist, 'meta.json'), JSON.stringify(result.metafile))
await cp(join(root, 'src/image/runner.sh'), join(dist, 'runner.sh'))
await cp(join(root, 'src/image/runner'), join(dist, 'runner'), { recursive: true })
await chmod(join(dist, 'main.mjs'), 0o755)

const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
for (const page of (await readdir(join(root, 'docs'))).filter((name) => /\.\d\.md$/.test(name))) {
  const name = page.replace(/\.\d\.md$/, '')
  const manual = unified().use(remarkParse).use(remarkMan, { name, section: 1, version, manual: 'git vlb manual' })
  const roff = await manual.process(await readFile(join(root, 'docs', page), 'utf8'))
  await writeFile(join(dist, 'man', page.replace(/\.md$/, '')), String(roff))
}
