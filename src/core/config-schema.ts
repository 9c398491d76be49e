// What docs/vlb.schema.json says against a vlb.yaml, in words for people.
import { type OutputUnit, type Schema, Validator } from '@cfworker/json-schema'
import schema from '../../docs/vlb.schema.json' with { type: 'json' }
import { printable } from './errors.ts'
import { nearest } from './nearest.ts'

/** Keys from the top down. */
export type Path = readonly string[]

export function validate(data: unknown, fail: (what: string) => never) {
  try {
    return new Validator(schema as unknown as Schema, '2020-12', false).validate(data)
  } catch (error) {
    // "\ud800" is half a character, of which the validator makes no path.
    if (!(error instanceof URIError)) throw error
    return fail('a key holds half a character (a lone surrogate)')
  }
}

/** As the schema has it for the names in `env`. */
const valueName = /^[A-Za-z_][A-Za-z0-9_]*$/

interface Explanation {
  path: Path
  /** The position wanted is that of the key, not of its value. */
  key: boolean
  what: string
  hint?: string
}

/** The one complaint worth showing, out of all that the validator says of nested schemas. */
export function explain(errors: OutputUnit[], data: unknown): Explanation {
  const pathOf = (unit: OutputUnit) => unit.instanceLocation.split('/').slice(1).map(unescapePointer)
  const unknown = errors.find((e) => e.keyword === 'additionalProperties')
  if (unknown) {
    const path = pathOf(unknown)
    const known = Object.keys(propertiesOf(schemaAt(path)) ?? {})
    const given = Object.keys((valueAt(data, path) as object | undefined) ?? {})
    const key = given.find((name) => !known.includes(name)) ?? ''
    if (known.length > 0 && key) return unknownKey(path, key, known)
  }
  const missing = errors.find((e) => e.keyword === 'required')
  if (missing)
    return { path: pathOf(missing), key: false, what: 'version is missing', hint: 'add the line: version: 1' }
  const misnamed = errors.find((e) => e.keyword === 'propertyNames')
  if (misnamed) {
    const path = pathOf(misnamed)
    const name =
      Object.keys((valueAt(data, path) as object | undefined) ?? {}).find((key) => !valueName.test(key)) ?? ''
    const what = `"${printable(name)}" is no name for a value`
    return { path: [...path, name], key: true, what, hint: 'letters, digits and "_", not starting with a digit' }
  }
  const deepest = [...errors].sort(
    (a, b) => b.instanceLocation.split('/').length - a.instanceLocation.split('/').length,
  )[0]
  const path = deepest ? pathOf(deepest) : []
  return { path, key: false, ...wrongValue(path, valueAt(data, path)) }
}

function unknownKey(path: Path, key: string, known: string[]): Explanation {
  const name = [...path, key].map((part) => printable(part)).join('.')
  const meant = nearest(key, known)
  const hint = meant ? `did you mean "${meant}"?` : `known here: ${known.join(', ')}`
  return { path: [...path, key], key: true, what: `unknown key "${name}"`, hint }
}

function wrongValue(path: Path, value: unknown): { what: string; hint?: string } {
  const expected = schemaAt(path)
  const name = path.join('.')
  if (path.length === 0) return { what: 'must be a mapping of keys to values' }
  const shown = printable(JSON.stringify(value) ?? 'nothing', 80)
  if (expected?.const !== undefined)
    return { what: `${name} must be ${expected.const}, not ${shown}`, hint: 'a higher version needs a newer git vlb' }
  const words = expected?.enum ?? expected?.anyOf?.find((part) => part.enum)?.enum
  if (words) {
    const meant = nearest(String(value), words)
    const what = `${name} must be one of ${words.join(', ')}, not ${shown}`
    return { what, ...(meant ? { hint: `did you mean "${meant}"?` } : {}) }
  }
  return { what: `${name} is not valid: ${shown}`, ...(expected?.description ? { hint: expected.description } : {}) }
}

interface SchemaPart {
  properties?: Record<string, SchemaPart>
  additionalProperties?: SchemaPart | false
  description?: string
  const?: unknown
  enum?: string[]
  anyOf?: SchemaPart[]
  items?: SchemaPart
}

function propertiesOf(part: SchemaPart | undefined): SchemaPart['properties'] {
  return part?.properties ?? part?.anyOf?.find((form) => form.properties)?.properties
}

function schemaAt(path: Path): SchemaPart | undefined {
  let part: SchemaPart | undefined = schema as SchemaPart
  for (const name of path) {
    const items: SchemaPart | undefined = part?.items ?? part?.anyOf?.find((form) => form.items)?.items
    part = propertiesOf(part)?.[name] ?? (part?.additionalProperties || items)
  }
  return part
}

function valueAt(data: unknown, path: Path): unknown {
  let value = data
  for (const name of path) value = (value as Record<string, unknown> | null | undefined)?.[name]
  return value
}

/** JSON pointers come URI-encoded here (RFC 6901, section 6). */
function unescapePointer(part: string): string {
  const text = part.replaceAll('~1', '/').replaceAll('~0', '~')
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
