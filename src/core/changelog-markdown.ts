// A changelog in GitHub-flavoured Markdown, to be pasted into a release. What people and packages named is escaped: it
// must not become markup, nor call anybody.
import type { Changelog, ChangelogCommit, ChangelogLayer, FileChange } from './changelog.ts'
import {
  day,
  fileWords,
  firstOf,
  layerWords,
  listedPackages,
  listedWords,
  listSummary,
  type PackageRow,
  plural,
  quietLayers,
  shortCommit,
  sizeWords,
  summary,
  toldLayers,
  visible,
} from './changelog-words.ts'
import { printable } from './errors.ts'
import { formatBytes } from './units.ts'

/** A release on GitHub takes 125 000 characters; what the differences may take of that. */
const patchLimit = 60_000
const commitLimit = 200
/** Rows of the table of all packages. */
const rowLimit = 500

export function changelogMarkdown(data: Changelog): string {
  const { from, to } = data
  const parts = [
    `## ${plain(data.project)}: ${plain(from.rev)} → ${plain(to.rev)}`,
    `${day(from.date)} → ${day(to.date)} · ${summary(data)
      .map((words) => plain(words))
      .join(' · ')}`,
    // The commands in them are code already.
    ...data.notes.map((note) => `> **Note:** ${plain(note, true)}`),
    layersPart(data),
    packagesPart(data),
    commitsPart('Commits', data.commits),
    commitsPart(`Commits that only ${plain(from.rev)} has`, data.missing),
    filesPart(data),
    listPart(data),
    imagePart(data),
  ]
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`
}

function layersPart(data: Changelog): string {
  const told = toldLayers(data)
  const quiet = quietLayers(data)
  const sizes = told.some((layer) => sizeWords(layer) !== '')
  const row = (layer: ChangelogLayer) => [
    code(layer.name),
    layerWords(layer, code),
    ...(sizes ? [sizeWords(layer)] : []),
    firstOf(layer.commits.map(shortCommit), 5),
  ]
  const head = ['layer', 'what', ...(sizes ? ['size'] : []), 'commits']
  const base =
    data.from.base !== null && data.to.base !== null && data.from.base !== data.to.base
      ? `The base changed: ${code(data.from.base)} → ${code(data.to.base)}.`
      : ''
  const rest =
    quiet.length === 0
      ? ''
      : `${told.length === 0 ? 'All unchanged' : 'Unchanged'}: ${quiet.map(({ name }) => code(name)).join(', ')}.`
  return ['### Layers', told.length === 0 ? '' : table(head, told.map(row)), base, rest].filter(Boolean).join('\n\n')
}

function packagesPart({ packages }: Changelog): string {
  const { major, rest } = listedPackages(packages)
  if (major.length + rest.length === 0) return ''
  const head = ['package', 'before', 'after', '']
  const parts = ['### Packages']
  if (major.length > 0) parts.push(table(head, major.map(packageRow)))
  const left = rest.length - rowLimit
  const others =
    table(head, rest.slice(0, rowLimit).map(packageRow)) + (left > 0 ? `\n\n${left} more are not shown.` : '')
  if (rest.length > 0 && major.length === 0 && rest.length <= 10) parts.push(others)
  else if (rest.length > 0)
    parts.push(details(major.length === 0 ? plural(rest.length, 'package change') : `${rest.length} more`, others))
  return parts.join('\n\n')
}

function packageRow({ name, was, arch, from, to, word }: PackageRow): string[] {
  const shown = `${was === '' ? '' : `${plain(was)} → `}${plain(name)}${arch === '' ? '' : ` (${plain(arch)})`}`
  return [shown, plain(from), plain(to), word === 'downgraded' ? '**downgraded**' : word]
}

function commitsPart(title: string, commits: readonly ChangelogCommit[]): string {
  if (commits.length === 0) return ''
  const line = ({ commit, subject, author, date, touched, rollup }: ChangelogCommit) => {
    const what = [...touched.map(code), ...(rollup === undefined ? [] : ['rollup'])].join(', ')
    return `- ${shortCommit(commit)} ${plain(subject)} — ${plain(author)}, ${day(date)}${what === '' ? '' : ` (${what})`}`
  }
  const shown = commits.slice(0, commitLimit)
  const left = commits.length - shown.length
  const lines = [...shown.map(line), ...(left > 0 ? [`- and ${left} more`] : [])].join('\n')
  return `### ${title}\n\n${commits.length > 20 ? details(plural(commits.length, 'commit'), lines) : lines}`
}

function filesPart(data: Changelog): string {
  const sets: [title: string, files: readonly FileChange[]][] = data.layers.map(({ name, files }) => [name, files])
  if (data.config) sets.unshift(['vlb.yaml', [data.config]])
  let left = patchLimit
  const parts = sets
    .filter(([, files]) => files.length > 0)
    .map(([title, files]) => {
      const text = files.map((file) => {
        const block = fileBlock(file, left >= (file.patch?.length ?? 0) ? file.patch : undefined)
        left -= file.patch !== undefined && left >= file.patch.length ? file.patch.length : 0
        return block
      })
      const count = title === 'vlb.yaml' ? '' : `: ${plural(files.length, 'file')}`
      return details(`<code>${html(title)}</code>${count}`, text.join('\n\n'))
    })
  return parts.length === 0 ? '' : `### Scripts and files\n\n${parts.join('\n\n')}`
}

function fileBlock(file: FileChange, patch: string | undefined): string {
  const left = file.patch !== undefined && patch === undefined ? ', too long to show here' : ''
  const head = `${code(file.path)} ${plain(fileWords(file))}${left}`
  return patch === undefined ? head : `${head}\n\n${fenced(visible(patch))}`
}

function listPart({ files }: Changelog): string {
  if (files === undefined) return ''
  const lines = files.slice(0, rowLimit).map((file) => `- ${code(file.path)} ${plain(listedWords(file))}`)
  const left = files.length - lines.length
  const more = left > 0 ? [`\n${left} more are not shown.`] : []
  const list =
    files.length === 0 ? 'All files are the same.' : details(listSummary(files), [...lines, ...more].join('\n'))
  return `### Files of the image\n\n${list}`
}

function imagePart({ from, to }: Changelog): string {
  if (to.image === null) return ''
  const before = from.image === null ? '' : `, before ${formatBytes(from.image.bytes)}`
  return `### Image\n\n${plain(to.image.format)}, ${formatBytes(to.image.bytes)}${before}, SHA-256 ${code(to.image.sha256)}`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  // Only a backslash saves "|" from being a border, also in code.
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replace(/(?<!\\)\|/g, '\\|')).join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}

/** Markdown inside needs the empty lines. The summary is HTML. */
function details(title: string, content: string): string {
  return `<details><summary>${title}</summary>\n\n${content}\n\n</details>`
}

function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length))
  const fence = '`'.repeat(longest + 1)
  return `${fence}diff\n${text}${text.endsWith('\n') ? '' : '\n'}${fence}`
}

/** A code span. */
function code(text: string): string {
  const clean = printable(text, 200)
  const longest = Math.max(0, ...[...clean.matchAll(/`+/g)].map(([run]) => run.length))
  const tick = '`'.repeat(longest + 1)
  const space = longest > 0 ? ' ' : ''
  return `${tick}${space}${clean}${space}${tick}`
}

/** Text that is only text. `keepCode`: what is between backticks stays code. */
function plain(text: string, keepCode = false): string {
  const clean = printable(text, 500)
  if (!keepCode) return escaped(clean)
  const parts = clean.split('`')
  // One that is never closed is no code.
  const last = parts.length % 2 === 0 ? `\\\`${escaped(parts.pop() ?? '')}` : ''
  return (
    parts
      .map((part, i) =>
        i % 2 === 1 ? codeOf(part) : i > 0 && i < parts.length - 1 ? betweenCode(part) : escaped(part),
      )
      .join('') + last
  )
}

const codeOf = (text: string): string => (text === '' ? '\\`\\`' : `\`${text}\``)

/** Where two pieces of code meet, their backticks would be one mark. */
function betweenCode(text: string): string {
  return text === '' ? '<!-- -->' : escaped(text)
}

/** `@name` would send somebody a message. */
function escaped(text: string): string {
  // Text never begins a line, so ">" is harmless. Inside a word "_" means itself, and a lonely "~" strikes nothing through.
  const special = /[\\`*[\]<|]|&(?=#?\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|~(?=.*~)|(?<=~.*)~|(?<!\w)@(?=\w)/g
  return text.replace(special, (c) => escapes[c] ?? `\\${c}`)
}

const escapes: Record<string, string> = { '<': '&lt;', '&': '&amp;', '@': '@<!-- -->' }

function html(text: string): string {
  return printable(text, 200).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
