// What a value read from outside is, for those who check a whole of them.

export function areTexts(...values: unknown[]): boolean {
  return values.every((value) => typeof value === 'string')
}

export function areNumbers(...values: unknown[]): boolean {
  return values.every((value) => Number.isFinite(value))
}

/** A field that may be left out. */
export function maybeText(value: unknown): boolean {
  return value === undefined || typeof value === 'string'
}

/** Values by name, all of them texts. */
export function areNamedTexts(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && areTexts(...Object.values(value))
}
