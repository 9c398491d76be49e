// What `git bisect run` is told of an error.
import { expect, test } from 'vitest'
import { bisectStatus } from '../../../src/core/bisect.ts'
import { type ErrorCode, errorCodes, Interrupted, VlbError } from '../../../src/core/errors.ts'

const statusOf = (code: ErrorCode) => bisectStatus(new VlbError(code, 'x'))

test('no error is a verdict, whatever its code', () => {
  for (const code of Object.keys(errorCodes) as ErrorCode[]) expect([125, 128], code).toContain(statusOf(code))
})

test.each<[ErrorCode, number]>([
  ['VLB_LAYER_FAILED', 125],
  ['VLB_CONFIG', 125],
  ['VLB_BASE_DIGEST', 125],
  ['VLB_BASE_DOWNLOAD', 128],
  ['VLB_ENV', 128],
  ['VLB_SECRET', 128],
  ['VLB_USAGE', 128],
  ['VLB_HOST_TOOL', 128],
  ['VLB_HOST_SPACE', 128],
  ['VLB_KILLED', 128],
  ['VLB_LAYER_CONFLICT', 128],
])('%s: %i', (code, status) => {
  expect(statusOf(code)).toBe(status)
})

test('neither are bugs and signals', () => {
  expect(bisectStatus(new Error('a bug'))).toBe(128)
  expect(bisectStatus(undefined)).toBe(128)
  expect(bisectStatus(new Interrupted('SIGTERM'))).toBe(143)
})
