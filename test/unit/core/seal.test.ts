// What the runner tells of the seal.
import { expect, test } from 'vitest'
import { parseSeal } from '../../../src/core/seal.ts'

test('steps, warnings and whether anything changed are read; other lines are not for us', () => {
  const lines = [
    'sealed machine-id 1 33',
    'warning logs: /var/log is behind a symlink',
    'sealed logs 0 0',
    'changed',
    'x',
  ]
  expect(parseSeal(lines)).toEqual({
    steps: [
      { step: 'machine-id', files: 1, bytes: 33 },
      { step: 'logs', files: 0, bytes: 0 },
    ],
    changed: true,
    warnings: ['logs: /var/log is behind a symlink'],
  })
  expect(parseSeal(['sealed nothing 1 1', 'sealed logs one 1'])).toEqual({ steps: [], changed: false, warnings: [] })
})
