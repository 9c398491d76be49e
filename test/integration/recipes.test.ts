// The recipes of docs/testing-images.md: what GitHub and GitLab would make of them, and their steps in a fresh clone, with the
// store of the run before in the cache.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { build } from 'esbuild'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { addOptions, addVerbs } from '../../src/commands/parser.ts'
import { overview, verbs } from '../../src/commands/table.ts'
import { againstSchema } from '../rig/junit.ts'
import type { Need } from '../rig/need.ts'
import { projectRoot, type Rig, rigTest } from '../rig/rig.ts'
import { tinyGuest } from '../rig/tiny-guest.ts'

const guide = readFileSync(join(projectRoot, 'docs/testing-images.md'), 'utf8')

function recipe(heading: string): string {
  const section = guide.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
  return /\n```yaml\n([\s\S]*?)```\n/.exec(section)?.[1] ?? ''
}

interface Step {
  uses?: string
  with?: Record<string, unknown>
  run?: string
}

const github = recipe('On GitHub Actions')
const steps: Step[] = parse(github).jobs.image.steps
const githubLines = steps.flatMap(({ run }) => (run === undefined ? [] : [run]))

// Not `image`: that is a keyword there.
const gitlab = parse(recipe('On GitLab CI'))['vm-image']
const gitlabLines: string[] = [...gitlab.before_script, ...gitlab.script]

/** GitHub's own parser, in one file: it imports JSON in a way that node does not take. */
async function githubParser(): Promise<typeof import('@actions/workflow-parser')> {
  const folder = mkdtempSync(join(tmpdir(), 'vlb-parser-'))
  try {
    const outfile = join(folder, 'parser.cjs')
    const stdin = { contents: "export * from '@actions/workflow-parser'", resolveDir: projectRoot }
    await build({ stdin, outfile, bundle: true, platform: 'node', logLevel: 'error' })
    return await import(/* @vite-ignore */ outfile)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test("GitHub's parser takes the workflow, and would not take a wrong one", async () => {
  const { NoOperationTraceWriter, parseWorkflow } = await githubParser()
  const complaints = (content: string) => {
    const file = { name: '.github/workflows/image.yml', content }
    return parseWorkflow(file, new NoOperationTraceWriter())
      .context.errors.getErrors()
      .map(({ message }) => message)
  }
  expect(complaints(github)).toEqual([])
  expect(complaints(github.replace('runs-on:', 'run-on:')).join()).toContain('run-on')
  expect(complaints(github.replace('      - run: git', '      - runs: git')).join()).toContain('runs')
  for (const { uses } of steps) expect(uses ?? 'a/b@v1').toMatch(/^[\w-]+\/[\w-]+@v\d+$/)
})

// GitLab's schema comes with no package that runs here: these are the keywords of its reference that the recipe may use.
test('the job for GitLab has nothing but keywords, and its lines are texts', () => {
  const known = ['image', 'variables', 'cache', 'before_script', 'script', 'artifacts', 'tags', 'rules', 'stage']
  expect(known).toEqual(expect.arrayContaining(Object.keys(gitlab)))
  // A colon and a space in a line would make a mapping of it.
  for (const line of gitlabLines) expect(line).toBeTypeOf('string')
  for (const value of Object.values(gitlab.variables)) expect(['string', 'number']).toContain(typeof value)
  expect(Object.keys(gitlab.cache)).toEqual(['key', 'paths'])
  expect(gitlab.artifacts).toEqual({ when: 'always', reports: { junit: 'report.xml' } })
})

/** Parses as the program does; undefined where it would end with a mistake in the command line. */
async function verbOf(words: string[]): Promise<string | undefined> {
  let found: string | undefined
  const program = new Command('git vlb')
  const quiet = { writeErr: () => {} }
  program.exitOverride().enablePositionalOptions().configureOutput(quiet)
  addOptions(program, overview)
  addVerbs(program, verbs, overview, async (verb) => {
    found = verb.name
  })
  for (const command of program.commands) command.exitOverride().configureOutput(quiet)
  await program.parseAsync(words, { from: 'user' }).catch(() => {})
  return found
}

test('every git vlb command of the guide has its verb and its options', async () => {
  const blocks = [...guide.matchAll(/\n```sh\n([\s\S]*?)```\n/g)].map(([, text]) => text ?? '')
  const lines = [...blocks.flatMap((text) => text.split('\n')), ...githubLines, ...gitlabLines]
  const commands = lines.flatMap((line) => /^(?:git bisect run )?git vlb (.*?)(?: +#.*)?$/.exec(line)?.[1] ?? [])
  expect(commands.length).toBeGreaterThan(15)
  for (const command of commands) {
    const words = [...command.matchAll(/'([^']*)'|\S+/g)].map(([word, quoted]) => quoted ?? word)
    expect(await verbOf(words), command).toBe(words[0])
  }
  expect(await verbOf(['test-boot', '--no-such-option'])).toBeUndefined()
})

const ways = [
  // As the runners start them: https://docs.github.com/actions (shell: bash -e), and one script for a job of GitLab.
  { name: 'GitHub Actions', lines: githubLines, shell: 'bash', store: 'home/vlb-store' },
  { name: 'GitLab CI', lines: gitlabLines, shell: 'sh', store: 'clone/vlb-store' },
] as const

/** Programs that would change this host say what they were asked for, and the others are there. */
function installShims(rig: Rig): string {
  const bin = join(rig.folder, 'bin')
  mkdirSync(bin)
  const shim = `#!/bin/sh\necho "$(basename "$0") $*" >>"$(dirname "$0")/../shims"\ncase $* in *tee*) cat >/dev/null ;; esac\n`
  for (const name of ['apt-get', 'npm', 'sudo']) writeFileSync(join(bin, name), shim, { mode: 0o755 })
  writeFileSync(join(bin, 'git-vlb'), `#!/bin/sh\nexec ${rig.command} "$@"\n`, { mode: 0o755 })
  return bin
}

const needs: Need[] = [
  ...(['root', 'fuse', 'loop', 'tool:qemu-img', 'tool:qemu-storage-daemon', 'tool:qemu-system-x86_64'] as const),
  ...(['tool:mmdebstrap', 'tool:extlinux', 'tool:busybox', 'tool:xmllint', 'tool:shellcheck'] as const),
]

describe.each(ways)('the lines for $name', ({ lines, shell, store }) => {
  rigTest(
    'build and test in a fresh clone, and the next clone takes what is in the cache',
    async (rig) => {
      const script = `#!/bin/${shell}\nset -e\n${lines.join('\n')}\n`
      execFileSync('shellcheck', [`--shell=${shell}`, '-'], { input: script, stdio: ['pipe', 'inherit', 'inherit'] })
      rig.project({ '10_app': 'echo hello >/app' }, 'boot: { memory: 256M, cpus: 1, timeout: 10m }\n')
      // The base is no part of a repository, but has to be there.
      tinyGuest(rig.path('tiny.raw'))
      rig.write({ 'checks/10_app': '#!/bin/sh\ncat /app\n', '.gitignore': '/build/\n/vlb-store/\n/report.xml\n' })
      rig.commit()
      const bin = installShims(rig)
      const clone = join(rig.folder, 'clone')
      const run = () => {
        rig.tool('git', 'clone', '--quiet', rig.repo, clone)
        const env = { ...rig.env, PATH: `${bin}:${rig.env['PATH']}`, CI: 'true', CI_PROJECT_DIR: clone }
        const cached = join(rig.folder, 'cached')
        if (existsSync(cached)) cpSync(cached, join(rig.folder, store), { recursive: true })
        return execFileSync(shell, ['-c', script], {
          cwd: clone,
          env,
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'pipe'],
        })
      }
      const first = run()
      expect(first).toMatch(/10_app +built/)
      expect(first).toMatch(/ok +10_app[\s\S]*passed: 6 checks passed/)
      expect(readFileSync(join(clone, 'report.xml'), 'utf8')).toContain('<testcase name="10_app"')
      expect(againstSchema(join(clone, 'report.xml'))).toBe('')
      expect(readFileSync(join(rig.folder, 'shims'), 'utf8')).toContain('npm install --global git-vlb\n')

      cpSync(join(rig.folder, store), join(rig.folder, 'cached'), { recursive: true })
      for (const path of [clone, join(rig.folder, store)]) rmSync(path, { recursive: true, force: true })
      const second = run()
      expect(second).toMatch(/10_app +cached/)
      expect(second).toContain('passed: this image passed these checks on ')
    },
    needs,
  )
})
