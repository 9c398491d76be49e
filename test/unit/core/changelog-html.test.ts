import { expect, test } from 'vitest'
import { changelogHtml } from '../../../src/core/changelog-html.ts'
import { sample } from './changelog-sample.ts'

const tags = (html: string) => [...html.matchAll(/<\/?([a-z0-9]+)/gi)].map(([, name]) => name?.toLowerCase() ?? '')

test('the page has no element but its own, whatever people, files and packages are called', () => {
  const html = changelogHtml(sample)
  const own =
    'html head meta title style body header main footer section p h1 h2 ul li div span table tr th td a b i code pre details summary'
  expect(tags(html).filter((name) => !own.split(' ').includes(name))).toEqual([])
  expect(html).toContain('&lt;script&gt;alert(2)&lt;/script&gt;')
  expect(html).toContain('&lt;img src=x onerror=alert(1)&gt;')
  expect(html).toContain('&lt;b&gt;Eve&lt;/b&gt;')
  // An even number of each: nothing closes what it did not open.
  for (const name of ['details', 'pre', 'table', 'section'])
    expect(html.split(`<${name}`).length, name).toBe(html.split(`</${name}>`).length)
})

test('the page fetches nothing and runs nothing', () => {
  const html = changelogHtml(sample)
  expect(html).toContain("default-src 'none'")
  expect(html).not.toMatch(/https?:|\bsrc="|@import|url\(|<link|javascript:/)
  expect(html).not.toMatch(/<[^>]*\son[a-z]+=/)
})

test('names cannot leave an attribute', () => {
  const commits = sample.commits.map((one) => ({ ...one, email: '"><script>x' }))
  const rev = { ...sample.to, rev: '"\'><img>' }
  const html = changelogHtml({ ...sample, to: rev, commits })
  expect(html).toContain('&quot;&gt;&lt;script&gt;x')
  expect(html).not.toContain('<img>')
})

test('what is not known, and what did not change, is said', () => {
  const packages = { ...sample.packages, upgraded: [], added: [], removed: [], major: [] }
  expect(changelogHtml({ ...sample, packages })).toContain('The same in both.')
  expect(changelogHtml({ ...sample, packages: { ...packages, known: false } })).toContain('Not known.')
  const layers = sample.layers.map((layer) => ({ ...layer, bytes: { from: null, to: null } }))
  expect(changelogHtml({ ...sample, layers })).not.toContain('class="bar"')
})
