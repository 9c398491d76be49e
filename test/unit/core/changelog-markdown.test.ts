import { expect, test } from 'vitest'
import { changelogMarkdown } from '../../../src/core/changelog-markdown.ts'
import { sample } from './changelog-sample.ts'

test('a changelog in Markdown', () => {
  expect(changelogMarkdown(sample)).toMatchInlineSnapshot(`
    "## web: v1.0 → v1.1

    2024-01-01 → 2024-02-04 · 1 layer changed, 1 added, 1 removed, 1 renumbered, 1 rolled up, 1 built again · 2 packages upgraded, 1 downgraded, 1 added, 1 removed · 2 commits by 2 people

    > **Note:** v1.0 is not an ancestor of v1.1: what only v1.0 has is listed by itself.

    > **Note:** Try: \`git vlb build v1.0\`.

    ### Layers

    | layer | what | size | commits |
    | --- | --- | --- | --- |
    | \`10_packages\` | the same files, built again | 320 MiB (+20.0 MiB) |  |
    | \`20_site\` | changed | 1.0 MiB | cccccccc |
    | \`30_web\` | rolled up from \`30_a\`, \`31_b\`: no change of content | 70.0 MiB (−20.0 MiB) | dddddddd |
    | \`35_motd\` | renumbered, was \`33_motd\`; no change of content | 40.0 MiB |  |
    | \`40_old\` | removed | −5.0 MiB |  |
    | \`50_new\` | added | 2.0 MiB |  |

    The base changed: \`sha256:1111\` → \`sha256:2222\`.

    Unchanged: \`00_base\`.

    ### Packages

    | package | before | after |  |
    | --- | --- | --- | --- |
    | linux-image-6.1.0-18-amd64 → linux-image-6.1.0-20-amd64 | 6.1.76-1 | 6.1.85-1 | upgraded |
    | libc6 | 2.36-9 | 2.36-10 | upgraded |

    <details><summary>3 more</summary>

    | package | before | after |  |
    | --- | --- | --- | --- |
    | nginx (i386) | 1.22.1-9 | 1.22.0-1 | **downgraded** |
    | &lt;script>alert(2)&lt;/script> |  | 1\\|2 | added |
    | gone | 1 |  | removed |

    </details>

    ### Commits

    - dddddddd rollup of 30_a to 31_b — Ann Onymous, 2024-02-03 (\`30_web\`, rollup)
    - cccccccc site: \\*bold\\* &lt;img src=x onerror=alert(1)> @<!-- -->everyone \\| \\\`tick\\\` ? — &lt;b>Eve&lt;/b>, 2024-02-03 (\`20_site\`, \`vlb.yaml\`)

    ### Commits that only v1.0 has

    - eeeeeeee only there — Ann Onymous, 2024-02-03 (\`10_packages\`)

    ### Scripts and files

    <details><summary><code>vlb.yaml</code></summary>

    \`vlb.yaml\` changed, +1 −0

    \`\`\`diff
    @@ -3,0 +4,1 @@
    +seal: false
    \`\`\`

    </details>

    <details><summary><code>20_site</code>: 3 files</summary>

    \`20_site/build-layer\` changed, mode 100644 → 100755, +2 −1

    \`\`\`\`diff
    @@ -1,1 +1,2 @@
    -echo \`one\`
    +echo </details></pre><script>alert(1)</script>
    +\`\`\`
    \`\`\`\`

    \`20_site/logo.png\` added, binary, 0 → 512 bytes

    \`\` 20_site/old|\`name\`<b> \`\` removed

    </details>

    ### Files of the image

    <details><summary>1 file changed, 1 added; +2.8 KiB</summary>

    - \`\` /etc/\`x\`|<b> \`\` changed, mode, 100 B → 2.9 KiB
    - \`/new?line\` added, 5 B

    </details>

    ### Image

    qcow2, 1.0 GiB, before 768 MiB, SHA-256 \`2222222222222222222222222222222222222222222222222222222222222222\`
    "
  `)
})

test('nothing changed', () => {
  const layers = sample.layers.slice(0, 1)
  const packages = { ...sample.packages, upgraded: [], added: [], removed: [], major: [] }
  const image = { from: { ...sample.from, image: null }, to: { ...sample.to, image: null, base: 'sha256:1111' } }
  const same = { ...sample, ...image, layers, packages, commits: [], missing: [], config: null, files: [], notes: [] }
  expect(changelogMarkdown(same)).toMatchInlineSnapshot(`
    "## web: v1.0 → v1.1

    2024-01-01 → 2024-02-04 · no layer changed · the same packages · no commits

    ### Layers

    All unchanged: \`00_base\`.

    ### Files of the image

    All files are the same.
    "
  `)
  const unknown = { ...same, packages: { ...packages, known: false, manager: null } }
  expect(changelogMarkdown(unknown)).toContain('packages not known')
})

test('a release takes only so much: long differences are left out, and so are the last of many packages', () => {
  const files = Array.from({ length: 20 }, (_, i) => ({
    path: `20_site/${i}`,
    change: 'changed' as const,
    patch: `+${'x'.repeat(10_000)}\n`,
    added: 1,
    removed: 0,
  }))
  const layers = sample.layers.map((layer) => (layer.name === '20_site' ? { ...layer, files } : layer))
  const added = Array.from({ length: 2000 }, (_, i) => ({ name: `package-${i}`, version: '1', arch: 'all' }))
  const commits = Array.from({ length: 3000 }, (_, i) => ({
    commit: String(i).padStart(40, '0'),
    author: 'Ann',
    email: '',
    date: '2024-01-01',
    subject: 'x'.repeat(80),
    touched: ['20_site'],
  }))
  const many = layers.map((layer) => ({ ...layer, commits: commits.map(({ commit }) => commit) }))
  const text = changelogMarkdown({ ...sample, layers: many, commits, packages: { ...sample.packages, added } })
  expect(text).toContain('- and 2800 more')
  expect(text.length).toBeLessThan(125_000)
  expect(text).toContain('too long to show here')
  expect(text).toMatch(/\d+ more are not shown/)
})

test('in a note, what is between backticks is code; a mention is none, wherever it stands', () => {
  const noteOf = (note: string) =>
    changelogMarkdown({ ...sample, notes: [note] })
      .split('\n')
      .find((line) => line.startsWith('> **Note:**'))
      ?.slice('> **Note:** '.length)
  expect(noteOf('Try `git a@b`@all')).toBe('Try `git a@b`@<!-- -->all')
  expect(noteOf('`a``b`')).toBe('`a`<!-- -->`b`')
  expect(noteOf('`<b>```')).toBe('`<b>`<!-- -->\\`\\`')
  expect(noteOf('a ` <b>')).toBe('a \\` &lt;b>')
  const commits = [{ ...sample.commits[1], subject: '`@all' }] as typeof sample.commits
  expect(changelogMarkdown({ ...sample, commits })).toContain('\\`@<!-- -->all')
})
