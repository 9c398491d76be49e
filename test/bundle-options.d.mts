// Types of bundle-options.mjs, which plain node runs.
import type { BuildOptions } from 'esbuild'

export const root: string
export const bundleOptions: BuildOptions & { metafile: true; write: false }
