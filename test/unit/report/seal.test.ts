// The seal as both reporters tell it.
import { expect, test } from 'vitest'
import type { Event } from '../../../src/core/events.ts'
import { sealLines } from '../../../src/report/lines.ts'
import { makeReporter } from '../../../src/report/reporter.ts'

const steps = [
  { step: 'machine-id', files: 1, bytes: 33 },
  { step: 'dhcp', files: 0, bytes: 0 },
  { step: 'logs', files: 12, bytes: 3 * 2 ** 20 },
] as const

test('a step that took something away is one line', () => {
  expect(sealLines(steps)).toEqual(['machine-id: 1 file, 33 B', 'logs: 12 files, 3.0 MiB'])
})

async function told(isTTY: boolean): Promise<string> {
  let said = ''
  const stream = {
    isTTY,
    columns: 80,
    write: (text: string) => {
      said += text
      return true
    },
  } as unknown as NodeJS.WriteStream
  const reporter = await makeReporter({ stream, style: (_look, text) => text, quiet: false, verbose: false })
  const events: Event[] = [
    { type: 'seal-started', label: 'v1' },
    { type: 'seal-ended', label: 'v1', steps, seconds: 0.3 },
  ]
  for (const event of events) reporter.emit(event)
  reporter.end()
  return said
}

test('plain lines tell the steps and the time', async () => {
  expect(await told(false)).toBe(
    'v1: seal: machine-id: 1 file, 33 B\nv1: seal: logs: 12 files, 3.0 MiB\nv1: seal: done in 0.3 s\n',
  )
})

test('on a terminal it is live, and then stays with its steps below', async () => {
  const said = await told(true)
  expect(said).toContain('v1: sealing')
  expect(said).toContain('✓ v1: sealed  in 0.3 s\n    machine-id: 1 file, 33 B\n    logs: 12 files, 3.0 MiB\n')
})
