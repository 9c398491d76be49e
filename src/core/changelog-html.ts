// A changelog as one page that needs nothing else: no script, nothing from the network, which its own policy forbids.
// Every text goes through `esc`, for names and messages are anybody's.
import type { Changelog, ChangelogCommit, ChangelogLayer, FileChange } from './changelog.ts'
import { changelogStyle } from './changelog-style.ts'
import {
  day,
  fileWords,
  firstOf,
  growth,
  layerWords,
  listedPackages,
  listedWords,
  listSummary,
  type PackageRow,
  plural,
  shortCommit,
  sizeWords,
  summary,
  visible,
} from './changelog-words.ts'
import { printable } from './errors.ts'
import { formatBytes } from './units.ts'

export function changelogHtml(data: Changelog): string {
  const { project, from, to } = data
  const title = `${project}: ${from.rev} → ${to.rev}`
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${esc(title)}</title>
<style>${changelogStyle}</style>
</head>
<body>
<header>
<p class="project">${esc(project)}</p>
<h1>${esc(from.rev)} <span class="arrow">→</span> ${esc(to.rev)}</h1>
<p class="when">${day(from.date)} (${shortCommit(from.commit)}) to ${day(to.date)} (${shortCommit(to.commit)})</p>
<ul class="summary">${summary(data)
    .map((words) => `<li>${esc(words)}</li>`)
    .join('')}</ul>
</header>
<main>
${data.notes.map((note) => `<p class="note">${withCode(note)}</p>\n`).join('')}${layersSection(data)}${packagesSection(data)}${commitsSection('Commits', data.commits, true)}${commitsSection(`Commits that only ${esc(from.rev)} has`, data.missing, data.commits.length === 0)}${filesSection(data)}${listSection(data)}${imageSection(data)}</main>
<footer>made by git vlb</footer>
</body>
</html>
`
}

function section(title: string, content: string): string {
  return `<section>\n<h2>${title}</h2>\n${content}\n</section>\n`
}

function layersSection(data: Changelog): string {
  const largest = Math.max(1, ...data.layers.flatMap(({ bytes }) => [bytes.from ?? 0, bytes.to ?? 0]))
  const known = data.layers.some(({ bytes }) => bytes.from !== null || bytes.to !== null)
  const rows = data.layers.map((layer) => layerRow(layer, largest, known)).join('\n')
  const head = `<tr><th>layer</th><th>what</th>${known ? '<th>size</th><th class="wide"></th>' : ''}<th>commits</th></tr>`
  const { from, to } = data
  const change = growth(from.bytes, to.bytes)
  const total =
    to.bytes === null
      ? ''
      : `<p class="dim">${formatBytes(to.bytes)} in all${change === '' || change === '±0' ? '' : ` (${change})`}, without the base. A bar is what the layer's snapshot takes; the line in it, what it took before.</p>`
  const base =
    from.base !== null && to.base !== null && from.base !== to.base
      ? `<p>The base changed: <code>${esc(from.base)}</code> → <code>${esc(to.base)}</code></p>`
      : ''
  return section(
    'Layers',
    `<div class="scroll"><table class="layers">\n${head}\n${rows}\n</table></div>${total}${base}`,
  )
}

function layerRow(layer: ChangelogLayer, largest: number, known: boolean): string {
  const { name, change, edited, rebuilt, bytes } = layer
  const words = layerWords(layer, (was) => `<code>${esc(was)}</code>`)
  const looks = rebuilt && change === 'unchanged' ? 'rebuilt' : change
  const sizes = known
    ? `<td class="size">${esc(sizeWords(layer))}</td><td class="wide">${bar(layer, largest)}</td>`
    : ''
  const commits = firstOf(
    layer.commits.map((id) => `<a href="#c-${esc(id)}">${shortCommit(id)}</a>`),
    8,
  )
  const quiet = change === 'unchanged' && !rebuilt ? ' class="quiet"' : ''
  const named = layer.files.length > 0 ? `<a href="#f-${esc(name)}">${esc(name)}</a>` : esc(name)
  return `<tr${quiet}><td><code>${named}</code></td><td><span class="mark ${looks}${edited ? ' edited' : ''}"></span>${words}</td>${sizes}<td class="ids">${commits}</td></tr>`
  function bar({ bytes: { from, to } }: ChangelogLayer, all: number): string {
    const width = (value: number) => ((100 * value) / all).toFixed(2)
    const fill =
      to === null
        ? from === null
          ? ''
          : `<i class="gone" style="width:${width(from)}%"></i>`
        : `<i style="width:${width(to)}%"></i>`
    const before = to === null || from === null || to === from ? '' : `<b style="left:${width(from)}%"></b>`
    const title = [
      bytes.from === null ? '' : `before ${formatBytes(bytes.from)}`,
      bytes.to === null ? '' : `now ${formatBytes(bytes.to)}`,
    ]
    return `<div class="bar" title="${title.filter(Boolean).join(', ')}">${fill}${before}</div>`
  }
}

function packagesSection(data: Changelog): string {
  if (!data.packages.known) return section('Packages', '<p class="dim">Not known.</p>')
  const { major, rest } = listedPackages(data.packages)
  if (major.length + rest.length === 0) return section('Packages', '<p class="dim">The same in both.</p>')
  const folded =
    rest.length === 0
      ? ''
      : `<details${major.length === 0 || rest.length <= 12 ? ' open' : ''}><summary>${major.length === 0 ? plural(rest.length, 'package change') : `${rest.length} more`}</summary>${packageTable(rest)}</details>`
  return section('Packages', (major.length === 0 ? '' : packageTable(major)) + folded)
}

function packageTable(rows: readonly PackageRow[]): string {
  const row = ({ name, was, arch, from, to, word }: PackageRow) =>
    `<tr><td>${was ? `${esc(was)} → ` : ''}${esc(name)}${arch ? ` <span class="dim">${esc(arch)}</span>` : ''}</td><td class="version">${esc(from)}</td><td class="version">${esc(to)}</td><td><span class="mark ${word}"></span>${word}</td></tr>`
  return `<div class="scroll"><table class="packages">\n<tr><th>package</th><th>before</th><th>after</th><th></th></tr>\n${rows.map(row).join('\n')}\n</table></div>`
}

function commitsSection(title: string, commits: readonly ChangelogCommit[], always: boolean): string {
  if (commits.length === 0) return always && title === 'Commits' ? section(title, '<p class="dim">None.</p>') : ''
  const item = ({ commit, subject, author, email, date, touched, rollup }: ChangelogCommit) =>
    `<li id="c-${esc(commit)}"><code class="id">${shortCommit(commit)}</code> <span class="subject">${esc(subject)}</span>
<span class="dim"><span title="${esc(email)}">${esc(author)}</span>, ${day(date)}</span> ${[...touched, ...(rollup === undefined ? [] : ['rollup'])].map((name) => `<span class="tag">${esc(name)}</span>`).join(' ')}</li>`
  const list = `<ul class="commits">\n${commits.map(item).join('\n')}\n</ul>`
  return section(
    title,
    commits.length > 50 ? `<details><summary>${commits.length} commits</summary>${list}</details>` : list,
  )
}

function filesSection(data: Changelog): string {
  const sets: [title: string, files: readonly FileChange[]][] = data.layers.map(({ name, files }) => [name, files])
  if (data.config) sets.unshift(['vlb.yaml', [data.config]])
  const shown = sets.filter(([, files]) => files.length > 0)
  if (shown.length === 0) return ''
  const part = ([title, files]: [string, readonly FileChange[]]) => {
    const lines = files.reduce((sum, file) => sum + file.added, 0)
    const gone = files.reduce((sum, file) => sum + file.removed, 0)
    const counts = `<span class="plus">+${lines}</span> <span class="minus">−${gone}</span>`
    return `<details id="f-${esc(title)}"><summary><code>${esc(title)}</code> <span class="dim">${plural(files.length, 'file')}</span> ${counts}</summary>\n${files.map(fileBlock).join('\n')}\n</details>`
  }
  return section('Scripts and files', shown.map(part).join('\n'))
}

function fileBlock(file: FileChange): string {
  const patch =
    file.patch === undefined ? '' : `<pre>${visible(file.patch).trimEnd().split('\n').map(patchLine).join('')}</pre>`
  return `<div class="file"><p><code>${esc(file.path)}</code> <span class="dim">${esc(fileWords(file))}</span></p>${patch}</div>`
}

/** Each line is a block of its own, so that its colour goes to the edge. */
function patchLine(line: string): string {
  const kind = { '+': 'plus', '-': 'minus', '@': 'hunk', '\\': 'hunk' }[line[0] ?? ''] ?? ''
  return `<span${kind === '' ? '' : ` class="${kind}"`}>${escapeHtml(line)}\n</span>`
}

/** Rows that a browser still shows at once. */
const rowLimit = 5000

function listSection({ files }: Changelog): string {
  if (files === undefined) return ''
  if (files.length === 0) return section('Files of the image', '<p class="dim">All are the same.</p>')
  const rows = files.slice(0, rowLimit).map((file) => {
    const look = file.change === 'renamed' ? 'renamed' : file.change
    return `<tr><td><code>${esc(file.path)}</code></td><td><span class="mark ${look}"></span>${esc(listedWords(file))}</td></tr>`
  })
  const left = files.length - rows.length
  const more = left > 0 ? `<p class="dim">${left} more are not shown.</p>` : ''
  const table = `<div class="scroll"><table>\n${rows.join('\n')}\n</table>${more}</div>`
  return section('Files of the image', `<details><summary>${esc(listSummary(files))}</summary>${table}</details>`)
}

function imageSection({ from, to }: Changelog): string {
  if (to.image === null) return ''
  const change = growth(from.image?.bytes ?? null, to.image.bytes)
  const text = `${esc(to.image.format)}, ${formatBytes(to.image.bytes)}${change === '' ? '' : ` (${change})`}, SHA-256 <code class="digest">${esc(to.image.sha256)}</code>`
  return section('Image', `<p>${text}</p>`)
}

/** A note, with its commands between backticks. */
function withCode(note: string): string {
  return note
    .split('`')
    .map((part, i) => (i % 2 === 0 ? esc(part) : `<code>${esc(part)}</code>`))
    .join('')
}

/** One line that is only text, in an element or in a quoted attribute. */
function esc(text: string): string {
  return escapeHtml(printable(text, 1000))
}

function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
  return text.replace(/[&<>"']/g, (c) => names[c] ?? c)
}
