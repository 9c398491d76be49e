// How src/ is bundled: split ESM chunks, so that a command loads only what it needs.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** @type {import('esbuild').BuildOptions & { metafile: true, write: false }} */
export const bundleOptions = {
  absWorkingDir: root,
  entryPoints: [join(root, 'src/main.ts')],
  outdir: join(root, 'dist'),
  bundle: true,
  splitting: true,
  minify: true,
  keepNames: true,
  sourcemap: true,
  sourcesContent: false,
  metafile: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  outExtension: { '.js': '.mjs' },
  chunkNames: '[name]-[hash]',
  // Its form for Node is CommonJS, which is bundled whole.
  alias: { 'isomorphic-git': join(root, 'node_modules/isomorphic-git/index.js') },
  loader: { '.md': 'text', '.sh': 'text' },
  banner: {
    // Some dependencies are CommonJS inside and call require.
    js: "import {createRequire as __vlbRequire} from 'node:module';const require=__vlbRequire(import.meta.url);",
  },
  logLevel: 'warning',
  write: false,
}
