// Four projects: unit (pure, seconds), fuzz (properties of whatever reads bytes from outside), integration (real git, qemu,
// mounts; by behaviour) and e2e (the whole story on real Debian images). The last two run the built program.
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Pages and scripts as text, as the bundler does it. */
const texts = {
  name: 'files-as-text',
  transform: (code: string, id: string) =>
    /\.(md|sh)$/.test(id) ? { code: `export default ${JSON.stringify(code)}`, map: null } : undefined,
}

// With 10 000 cases each, some properties take a minute.
const pure = { pool: 'threads' as const, isolate: false, setupFiles: ['test/fuzz/setup.ts'], testTimeout: 600_000 }

const real = { pool: 'forks' as const, fileParallelism: false, globalSetup: ['test/rig/prepare.ts'] }

export default defineConfig({
  root,
  plugins: [texts],
  test: {
    projects: [
      // Pure tests need no process of their own each, which would take longer than they do.
      { extends: true, test: { name: 'unit', include: ['test/unit/**/*.test.ts'], ...pure } },
      { extends: true, test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], ...pure } },
      {
        extends: true,
        test: { name: 'integration', include: ['test/integration/**/*.test.ts'], testTimeout: 300_000, ...real },
      },
      // Without KVM, once in some hundred boots a guest stops in mid-boot; the report names a test that was run again.
      {
        extends: true,
        test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], testTimeout: 1_800_000, retry: 1, ...real },
      },
    ],
  },
})
