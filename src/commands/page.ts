// Man pages as the source of the command line: docs/git-vlb-VERB.1.md says which options there are and what they do;
// the parser and `-h` are made from it, so that they cannot differ.

export interface PageOption {
  /** As commander wants it: `-o, --output <FILE>`. */
  flags: string
  description: string
  repeatable: boolean
}

export interface Page {
  summary: string
  /** What stands behind the verb: `[REV...]`. */
  operands: string[]
  options: PageOption[]
  examples: string
}

/** Reads a page: `# name(1) -- summary`, a SYNOPSIS, OPTIONS as a list of "- `--flag VALUE`: text", EXAMPLES. */
export function parsePage(markdown: string): Page {
  const summary = /^# \S+ -- (.+)$/m.exec(markdown)?.[1] ?? ''
  const synopsis = section(markdown, 'SYNOPSIS')
  const operands = [...(synopsis.split('[OPTIONS]')[1] ?? '').matchAll(/(\[?[A-Z]+(?:\|[A-Z]+)*(?:\.\.\.)?\]?)/g)].map(
    (m) => m[1] ?? '',
  )
  return {
    summary,
    operands,
    options: listOptions(section(markdown, 'OPTIONS')),
    examples: section(markdown, 'EXAMPLES'),
  }
}

function section(markdown: string, name: string): string {
  const start = markdown.indexOf(`\n## ${name}\n`)
  if (start < 0) return ''
  const body = markdown.slice(start + name.length + 5)
  const end = body.search(/^## /m)
  return (end < 0 ? body : body.slice(0, end)).replace(/^\s*\n|\s+$/g, '')
}

function listOptions(text: string): PageOption[] {
  return text
    .split(/^- /m)
    .slice(1)
    .flatMap((item) => {
      const match = /^`(-[^`]+)`:\s*([\s\S]*)$/.exec(item)
      if (!match) return []
      const spelled = match[1] ?? ''
      const repeatable = spelled.endsWith('...')
      const flags = spelled.replace(/\.\.\.$/, '').replace(/ ([A-Z][A-Z:=]*)$/, ' <$1>')
      return [{ flags, repeatable, description: plain(match[2] ?? '') }]
    })
}

/** Without line breaks, code marks and emphasis. */
function plain(markdown: string): string {
  return markdown
    .replace(/\s+/g, ' ')
    .replaceAll('`', '')
    .replace(/(^|\s)(\*\*|[*_])(\S+?)\2(?=\W|$)/g, '$1$3')
    .trim()
}
