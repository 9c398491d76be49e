// For tests of errors: what was thrown, as the user would read it.
import { expect } from 'vitest'
import { type ErrorCode, VlbError } from '../../src/core/errors.ts'

/** The error that `action` throws, which must be an expected one with that code; its message and hint in one text. */
export function complaint(code: ErrorCode, action: () => unknown): string {
  let result: unknown
  try {
    result = action()
  } catch (error) {
    if (!(error instanceof VlbError)) throw error
    expect(error.code, error.message).toBe(code)
    return `${error.message}\nhint: ${error.hint}`
  }
  throw new Error(`nothing was thrown; it returned ${JSON.stringify(result)}`)
}
