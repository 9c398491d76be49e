// What there is to complete on a command line, read from the man pages as the parser reads them.
import { parsePage } from './page.ts'
import type { Verb } from './table.ts'

/** What a shell offers for a value or an operand: names of the project, of git, of files, or fixed words. */
export type Offer = 'layers' | 'revisions' | 'files' | 'folders'

export interface Place {
  /** As the page calls it: `LAYER`. */
  name: string
  offers: readonly Offer[]
  words: readonly string[]
}

export interface CompletedOption {
  /** With their dashes: `-o`, `--output`. */
  names: readonly string[]
  summary: string
  repeatable: boolean
  /** Undefined for a flag. */
  value: Place | undefined
}

export interface CompletedVerb {
  name: string
  summary: string
  options: readonly CompletedOption[]
  operands: readonly (Place & { repeatable: boolean })[]
}

const offers: Record<string, readonly Offer[]> = {
  LAYER: ['layers'],
  NN: ['layers'],
  REV: ['revisions'],
  RANGE: ['revisions'],
  FILE: ['files'],
  DIR: ['folders'],
  A: ['revisions', 'layers', 'files'],
  B: ['revisions', 'layers', 'files'],
}

export function completedVerbs(verbs: readonly Verb[]): CompletedVerb[] {
  return verbs.map(({ name, page }) => {
    const { summary, operands } = parsePage(page)
    return { name, summary, options: completedOptions(page), operands: operands.map((text) => operand(text, page)) }
  })
}

export function completedOptions(page: string): CompletedOption[] {
  return parsePage(page).options.map(({ flags, description, repeatable }) => {
    const names = [...flags.matchAll(/(?:^|[ ,])(--?[\w-]+)/g)].map((match) => match[1] ?? '')
    const place = /<([^>]+)>/.exec(flags)?.[1]
    const summary = description.split(/[.;:(](?:\s|$)/)[0] ?? ''
    const value = place === undefined ? undefined : placeOf(place, fixedWords(description))
    return { names, summary: summary.replaceAll('**', '').trim(), repeatable, value }
  })
}

/** An operand may be one of the words that a section of the page lists: ACTION of ACTIONS. */
function operand(text: string, page: string): Place & { repeatable: boolean } {
  const name = text.replace(/[[\].]/g, '')
  const section = page.split(`\n## ${name}S\n`)[1]?.split('\n## ')[0] ?? ''
  const words = [...section.matchAll(/^- `([a-z][\w-]*)`:/gm)].map((match) => match[1] ?? '')
  return { ...placeOf(name, words), repeatable: text.includes('...') }
}

function placeOf(name: string, words: readonly string[]): Place {
  return { name, offers: [...new Set(name.split('|').flatMap((part) => offers[part] ?? []))], words }
}

/** The words at the start of a description that lists them: "none, zlib or zstd; for qcow2". */
export function fixedWords(description: string): string[] {
  const text = description.replace(/\s*\([^)]*\)/g, '').replace(/^[A-Z][^:,.]*: /, '')
  const list = /^(?:[a-z][\w.-]*, )*[a-z][\w.-]*,? or [a-z][\w.-]*?(?=[\s,;.:]|$)/.exec(text)?.[0]
  return list === undefined ? [] : list.split(/,? or |, /)
}
