import fc from 'fast-check'
import { XMLParser, XMLValidator } from 'fast-xml-parser'
import { describe, expect, test } from 'vitest'
import { junitText, tapText, wholeVerdict, xml } from '../../../src/core/check-reports.ts'
import type { CheckResult } from '../../../src/core/checks.ts'
import type { CheckedMachine } from '../../../src/core/results-boot.ts'

const check = (name: string, more: Partial<CheckResult> = {}): CheckResult => {
  return { name, builtin: false, state: 'passed', exitStatus: 0, seconds: 0.25, output: '', cut: false, ...more }
}

const machine = (checks: CheckResult[], more: Partial<CheckedMachine> = {}): CheckedMachine => {
  return {
    name: '1 cpu, 1.0 GiB',
    cpus: 1,
    memory: 2 ** 30,
    firmware: 'bios',
    ok: true,
    reason: 'all well',
    bootSeconds: 3,
    seconds: 4,
    checks,
    kept: null,
    ...more,
  }
}

const mixed = machine(
  [
    check('clock', { builtin: true }),
    check('10_web', { state: 'failed', exitStatus: 3, output: 'no <html> & \u001b[31mred\u0000\n]]>\n' }),
    check('20_slow', { state: 'timeout', exitStatus: null }),
    check('30_none', { state: 'skipped', exitStatus: 77, output: 'not #here\n' }),
    check('40_late', { state: 'not-run', exitStatus: null }),
  ],
  { ok: false, reason: '2 of 5 checks failed: 10_web, 20_slow\n  login:' },
)

const tested = { reason: '', remembered: null }

/** Names of the cases. That a report is as the common schemas want it: test/integration/junit.test.ts. */
function cases(text: string): string[] {
  expect(XMLValidator.validate(text)).toBe(true)
  const options = { ignoreAttributes: false, attributeNamePrefix: '', isArray: (name: string) => /^test/.test(name) }
  const [whole] = new XMLParser(options).parse(text).testsuites
  const all: { name: string }[] = (whole.testsuite ?? []).flatMap(
    (suite: { tests: string; testcase: { name: string }[] }) => {
      expect(suite.testcase).toHaveLength(Number(suite.tests))
      return suite.testcase
    },
  )
  expect(all).toHaveLength(Number(whole.tests))
  return all.map(({ name }) => name)
}

describe('the report in JUnit form', () => {
  test('has a suite for each machine, a case for each check, and the counts right', () => {
    const text = junitText({ ...tested, machines: [mixed, machine([check('clock')], { name: '4 cpus' })] }, 'web & co')
    expect(cases(text)).toEqual(['clock', '10_web', '20_slow', '30_none', '40_late', 'clock'])
    expect(text).toContain('<testsuites name="web &#38; co" tests="6" failures="2" errors="1" time="8.000">')
    expect(text).toContain(
      '<failure message="ended with status 3">no &#60;html&#62; &#38; \\x1b[31mred\\x00\n]]&#62;\n</failure>',
    )
    expect(text).toContain('<skipped>not #here</skipped>')
  })

  test('is sound XML whatever a guest says', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('failed', 'skipped', 'passed', 'not-run'),
        (output, state) => {
          const bad = machine([check('10_a', { state, output })], { ok: false, reason: output })
          expect(cases(junitText({ ...tested, machines: [bad] }, 'web'))).toEqual(['10_a'])
          expect(xml(output)).not.toMatch(/[<>\u0000-\u0008\ufffe\uffff]/)
        },
      ),
    )
  })

  test('of a remembered pass is an empty one', () => {
    expect(cases(junitText({ reason: '', remembered: '2026-01-01T00:00:00Z', machines: [] }, 'web'))).toEqual([])
  })
})

describe('the report as TAP', () => {
  test('has a plan, a line for each check, and comments for what was said', () => {
    expect(tapText({ ...tested, machines: [mixed] }).split('\n')).toEqual([
      'TAP version 13',
      '1..5',
      'ok 1 - clock',
      'not ok 2 - 10_web',
      '# status 3',
      '# no <html> & ?[31mred?',
      '# ]]>',
      'not ok 3 - 20_slow',
      '# took too long',
      'ok 4 - 30_none # SKIP not #here',
      'not ok 5 - 40_late',
      '# did not run',
      '# 2 of 5 checks failed: 10_web, 20_slow',
      '#   login:',
      '',
    ])
  })

  test('names the machine where there are several, and skips all of what was remembered', () => {
    const both = { ...tested, machines: [machine([check('clock')]), machine([check('clock')], { name: '4 cpus' })] }
    expect(tapText(both)).toContain('ok 2 - clock (4 cpus)')
    expect(tapText({ reason: '', machines: [], remembered: 'Monday' })).toBe(
      'TAP version 13\n1..0 # SKIP passed on Monday\n',
    )
  })
})

test('the verdict on several machines names those that failed', () => {
  const good = machine([check('clock')])
  expect(wholeVerdict([good, { ...good, name: 'b' }])).toBe('2 checks passed on 2 machines')
  expect(wholeVerdict([good, { ...good, name: 'b', ok: false, reason: 'no' }])).toBe('b: no')
  expect(wholeVerdict([good])).toBe('all well')
})
