import { describe, expect, test } from 'vitest'
import { allPassed, type CheckResult, findChecks, stateOf, verdict } from '../../../src/core/checks.ts'
import { machineNames, nextToStart, runSideBySide } from '../../../src/core/machines.ts'
import { formatBytes } from '../../../src/core/units.ts'

const entry = (name: string, mode = '100755') => ({ name, mode, oid: name })
const find = (names: string[], text = '#!/bin/sh\n', mode?: string) =>
  findChecks(
    names.map((name) => entry(name, mode)),
    async () => Buffer.from(text),
  )

describe('the checks of a folder', () => {
  test('are the numbered files, ordered by number; others are there for their use', async () => {
    const found = await find(['100_c', '20_b', 'lib.sh', 'README.md', '03_a', 'data'])
    expect(found.map(({ name }) => name)).toEqual(['03_a', '20_b', '100_c'])
  })

  test('say how long they may take and whether they need the network', async () => {
    const [one] = await find(['10_a'], '#!/bin/sh\n# vlb: timeout 1.5m\n# vlb: needs-network\n')
    expect(one).toMatchObject({ timeout: 90, needsNetwork: true })
    const [plain] = await find(['10_a'], '#!/bin/sh\ntrue\n# vlb: timeout 1s\n')
    expect(plain).toMatchObject({ timeout: 120, needsNetwork: false })
  })

  test.each([
    [
      'a directive that there is not',
      ['10_a'],
      '#!/bin/sh\n# vlb: timeot 3s\n',
      'checks/10_a:2: unknown directive "timeot"',
    ],
    ['a time that is none', ['10_a'], '#!/bin/sh\n# vlb: timeout soon\n', 'not "soon"'],
    ['an argument too many', ['10_a'], '#!/bin/sh\n# vlb: needs-network eth0\n', 'takes no argument'],
    ['no program to run it', ['10_a'], 'echo hello\n', 'checks/10_a does not start with #!'],
    ['Windows line ends', ['10_a'], '#!/bin/sh\r\n', 'CRLF'],
    ['a name that is almost one', ['1_a'], '#!/bin/sh\n', 'its name is not NN_name'],
  ])('%s is an error that names the place', async (_what, names, text, said) => {
    await expect(find(names, text)).rejects.toThrow(said)
  })

  test('a file that is not executable is an error that says how to make it so', async () => {
    await expect(find(['10_a'], '#!/bin/sh\n', '100644')).rejects.toMatchObject({
      code: 'VLB_CHECK',
      hint: expect.stringContaining('chmod +x checks/10_a'),
    })
    await expect(find(['10_a'], '', '40000')).rejects.toThrow('no executable file')
  })
})

describe('a verdict', () => {
  const results = (...states: CheckResult['state'][]) =>
    states.map((state, i): CheckResult => {
      return { name: `${i}0_x`, builtin: false, state, exitStatus: 0, seconds: 0, output: '', cut: false }
    })

  test('names what failed, or else what did not run', () => {
    expect(verdict(results('passed', 'skipped'))).toBe('2 checks passed')
    expect(verdict(results('passed'))).toBe('1 check passed')
    expect(verdict(results('passed', 'failed', 'timeout', 'not-run'))).toBe('2 of 4 checks failed: 10_x, 20_x')
    expect(verdict(results('passed', 'not-run'))).toBe('1 of 2 checks did not run: 10_x')
  })

  test('is good only if all ran and none failed', () => {
    expect(allPassed(results('passed', 'skipped'))).toBe(true)
    for (const state of ['failed', 'timeout', 'not-run'] as const)
      expect(allPassed(results('passed', state))).toBe(false)
    expect([stateOf(0), stateOf(77), stateOf(1), stateOf(137)]).toEqual(['passed', 'skipped', 'failed', 'failed'])
  })
})

describe('machines', () => {
  const load = (cpus: number, memory: number) => ({ cpus, memory })

  test('start beside others only where they fit, and alone whatever they need', () => {
    const host = load(4, 8)
    expect(nextToStart([load(8, 99)], [], host)).toBe(0)
    expect(nextToStart([load(8, 99)], [load(1, 1)], host)).toBeUndefined()
    expect(nextToStart([load(4, 1), load(1, 1)], [load(2, 2)], host)).toBe(1)
    expect(nextToStart([load(1, 7)], [load(1, 2)], host)).toBeUndefined()
    expect(nextToStart([], [], host)).toBeUndefined()
  })

  test('run side by side, never beyond the host, with results in their order', async () => {
    let now = 0
    let most = 0
    const machines = [load(2, 1), load(1, 1), load(1, 1), load(2, 1), load(9, 1)]
    const results = await runSideBySide(machines, load(2, 8), async ({ cpus }, i) => {
      now += cpus
      most = Math.max(most, cpus === 9 ? 0 : now)
      await new Promise((resolve) => setTimeout(resolve, 5 - i))
      now -= cpus
      return i
    })
    expect(results).toEqual([0, 1, 2, 3, 4])
    expect(most).toBe(2)
  })

  test('an error of one is thrown when the others have ended', async () => {
    let ended = 0
    const run = runSideBySide([load(1, 1), load(1, 1)], load(2, 8), async (_, i) => {
      await new Promise((resolve) => setTimeout(resolve, i * 5))
      if (i === 0) throw new Error('no')
      ended++
    })
    await expect(run).rejects.toThrow('no')
    expect(ended).toBe(1)
  })

  test('have names of their own', () => {
    const names = machineNames([load(1, 2 ** 30), load(4, 2 ** 29), load(1, 2 ** 30)], formatBytes)
    expect(names).toEqual(['1 cpu, 1.0 GiB', '4 cpus, 512 MiB', '1 cpu, 1.0 GiB (2)'])
  })
})
