// Reports of `test-boot --junit`, whatever happened and whatever a guest says, are valid by the schema that CI servers know.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { junitText } from '../../src/core/check-reports.ts'
import type { CheckState } from '../../src/core/checks.ts'
import type { CheckedMachine } from '../../src/core/results-boot.ts'
import { againstSchema } from '../rig/junit.ts'
import { whyNot } from '../rig/need.ts'

const without = whyNot(['tool:xmllint'])
const folder = mkdtempSync(join(tmpdir(), 'vlb-junit-'))
afterAll(() => rmSync(folder, { recursive: true }))

let files = 0
function file(text: string): string {
  const path = join(folder, `${files++}.xml`)
  writeFileSync(path, text)
  return path
}

const states: CheckState[] = ['passed', 'failed', 'timeout', 'skipped', 'not-run']

/** A machine on which checks ended in all ways, each with this output. */
function machine(name: string, output: string, ends: CheckState[] = states): CheckedMachine {
  const checks = ends.map((state, i) => {
    const exitStatus = { passed: 0, failed: 3, timeout: null, skipped: 77, 'not-run': null }[state]
    return { name: `${10 + i}_${state}`, builtin: false, state, exitStatus, seconds: 1234.5, output, cut: false }
  })
  const ok = !ends.some((state) => state === 'failed' || state === 'timeout' || state === 'not-run')
  return {
    name,
    cpus: 1,
    memory: 2 ** 30,
    firmware: 'bios',
    ok,
    reason: output,
    bootSeconds: 3,
    seconds: 4,
    checks,
    kept: null,
  }
}

const report = (machines: CheckedMachine[], project = 'web') =>
  junitText({ reason: '', remembered: null, machines }, project)

test.skipIf(without)('passes, failures, several machines, and a pass that was remembered are valid', () => {
  const good = machine('1 cpu, 1.0 GiB', 'all well\n', ['passed', 'skipped'])
  const bad = machine('4 cpus, 1.0 GiB, uefi', '')
  expect(againstSchema(...[[good], [bad], [good, bad], []].map((machines) => file(report(machines))))).toBe('')
})

test.skipIf(without)('so are they with odd characters in names and in what was said', () => {
  const texts = [
    ...[
      '',
      '\n',
      ' ',
      ']]>',
      '<!-- -->',
      '&amp;&#0;',
      '\u0000\u0008\u001b[31m\r\n',
      '\ufffe\uffff',
      '\ud800',
      '\u{1f600} ü',
    ],
    ...fc.sample(fc.string({ unit: 'binary', maxLength: 200 }), 150),
  ]
  expect(againstSchema(...texts.map((text) => file(report([machine(text, text)], text))))).toBe('')
})

test.skipIf(without)('the schema refuses what it has to', () => {
  const text = report([machine('a', 'said')])
  for (const wrong of [
    text.replace('<testsuites ', '<testsuites skipped="1" '),
    text.replace(' name="10_passed"', ''),
    text.replace(/<(\/?)failure/g, '<$1failed'),
    text.replace('</testsuites>', ''),
  ]) {
    expect(wrong).not.toBe(text)
    expect(againstSchema(file(wrong))).toMatch(/^status [1-9]/)
  }
})
