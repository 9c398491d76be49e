// Names of an image's files are bytes, held as latin1 strings. As text for people and for programs.

const decoder = new TextDecoder('utf-8', { fatal: true })

/** The text that the bytes are in UTF-8; undefined if they are none. */
export function decoded(bytes: string): string | undefined {
  if (/^[\x00-\x7f]*$/.test(bytes)) return bytes
  try {
    return decoder.decode(Buffer.from(bytes, 'latin1'))
  } catch {
    return undefined
  }
}

const letters: Record<string, string> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\v': '\\v',
  '\f': '\\f',
  '\r': '\\r',
  '"': '\\"',
  '\\': '\\\\',
}

/** As git quotes names (core.quotePath false): as it is, or in quotes with escapes; what a terminal could obey is escaped. */
export function quotedName(bytes: string): string {
  const text = decoded(bytes)
  const byByte = (c: string) => letters[c] ?? octal(Buffer.from(c, 'latin1'))
  const byCharacter = (c: string) => letters[c] ?? octal(Buffer.from(c))
  const escaped =
    text?.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}"\\]/gu, byCharacter) ?? bytes.replace(/[\x00-\x1f"\\\x7f-\xff]/g, byByte)
  return escaped === (text ?? bytes) ? escaped : `"${escaped}"`
}

function octal(bytes: Buffer): string {
  return [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')
}
