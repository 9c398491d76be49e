// A changelog with everything in it, and with what untrusted names may hold.
import type { Changelog, ChangelogLayer } from '../../../src/core/changelog.ts'

const layer = (name: string, more: Partial<ChangelogLayer>): ChangelogLayer => ({
  name,
  change: 'unchanged',
  edited: false,
  was: [],
  kind: 'build-layer',
  bytes: { from: 40 * 2 ** 20, to: 40 * 2 ** 20 },
  rebuilt: false,
  commits: [],
  files: [],
  ...more,
})

const commit = (id: string, subject: string, touched: string[], author = 'Ann Onymous') => ({
  commit: id.repeat(20),
  author,
  email: 'ann@example.com',
  date: '2024-02-03T10:00:00+01:00',
  subject,
  touched,
})

export const sample: Changelog = {
  project: 'web',
  from: {
    rev: 'v1.0',
    commit: 'aa'.repeat(20),
    date: '2024-01-01T00:00:00Z',
    record: 'notes',
    bytes: 400 * 2 ** 20,
    base: 'sha256:1111',
    image: { format: 'qcow2', bytes: 3 * 2 ** 28, sha256: '11'.repeat(32) },
  },
  to: {
    rev: 'v1.1',
    commit: 'bb'.repeat(20),
    date: '2024-02-04T00:00:00Z',
    record: 'notes',
    bytes: 500 * 2 ** 20,
    base: 'sha256:2222',
    image: { format: 'qcow2', bytes: 2 ** 30, sha256: '22'.repeat(32) },
  },
  linear: false,
  layers: [
    layer('00_base', {}),
    layer('10_packages', {
      rebuilt: true,
      bytes: { from: 300 * 2 ** 20, to: 320 * 2 ** 20 },
    }),
    layer('20_site', {
      change: 'changed',
      edited: true,
      bytes: { from: 2 ** 20, to: 2 ** 20 },
      commits: ['cc'.repeat(20)],
      files: [
        {
          path: '20_site/build-layer',
          change: 'changed',
          mode: { from: '100644', to: '100755' },
          patch: '@@ -1,1 +1,2 @@\n-echo `one`\n+echo </details></pre><script>alert(1)</script>\n+```\n',
          added: 2,
          removed: 1,
        },
        { path: '20_site/logo.png', change: 'added', added: 0, removed: 0, cut: 'binary, 0 → 512 bytes' },
        { path: '20_site/old|`name`<b>', change: 'removed', added: 0, removed: 0 },
      ],
    }),
    layer('30_web', {
      change: 'rolled-up',
      kind: 'layers',
      was: ['30_a', '31_b'],
      commits: ['dd'.repeat(20)],
      bytes: { from: 90 * 2 ** 20, to: 70 * 2 ** 20 },
    }),
    layer('35_motd', { change: 'renumbered', was: ['33_motd'] }),
    layer('40_old', { change: 'removed', edited: true, bytes: { from: 5 * 2 ** 20, to: null } }),
    layer('50_new', { change: 'added', edited: true, bytes: { from: null, to: 2 ** 21 } }),
  ],
  commits: [
    { ...commit('dd', 'rollup of 30_a to 31_b', ['30_web']), rollup: '30_a 31_b' },
    commit(
      'cc',
      'site: *bold* <img src=x onerror=alert(1)> @everyone | `tick` \u202e',
      ['20_site', 'vlb.yaml'],
      '<b>Eve</b>',
    ),
  ],
  missing: [commit('ee', 'only there', ['10_packages'])],
  packages: {
    known: true,
    manager: 'dpkg',
    upgraded: [
      { name: 'libc6', arch: 'amd64', from: '2.36-9', to: '2.36-10', direction: 'upgraded' },
      {
        name: 'linux-image-6.1.0-20-amd64',
        was: 'linux-image-6.1.0-18-amd64',
        arch: 'amd64',
        from: '6.1.76-1',
        to: '6.1.85-1',
        direction: 'upgraded',
      },
      { name: 'nginx', arch: 'i386', from: '1.22.1-9', to: '1.22.0-1', direction: 'downgraded' },
    ],
    added: [{ name: '<script>alert(2)</script>', version: '1|2', arch: 'amd64' }],
    removed: [{ name: 'gone', version: '1', arch: 'all' }],
    major: ['linux-image-6.1.0-20-amd64', 'libc6'],
  },
  config: { path: 'vlb.yaml', change: 'changed', patch: '@@ -3,0 +4,1 @@\n+seal: false\n', added: 1, removed: 0 },
  files: [
    {
      path: '/etc/`x`|<b>',
      change: 'changed',
      what: ['mode', 'size', 'content'],
      before: { type: 'file', mode: '0644', uid: 0, gid: 0, size: 100 },
      after: { type: 'file', mode: '0755', uid: 0, gid: 0, size: 3000 },
    },
    {
      path: '/new\nline',
      change: 'added',
      what: [],
      before: null,
      after: { type: 'file', mode: '0644', uid: 0, gid: 0, size: 5 },
    },
  ],
  notes: ['v1.0 is not an ancestor of v1.1: what only v1.0 has is listed by itself.', 'Try: `git vlb build v1.0`.'],
}
