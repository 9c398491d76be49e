// git vlb build
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { compressions, imageFormats } from '../core/config.ts'
import { printable, VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, choice, environmentValue, list, text, withProject } from './context.ts'
import type { Options } from './table.ts'

export async function build(context: CommandContext, revisions: string[], options: Options): Promise<CommandResult> {
  const { build: run } = await import('../build/build.ts')
  const output = text(options, 'output')
  const data = await withProject(context, async (project) =>
    run(project, {
      revisions,
      last: text(options, 'last'),
      env: parseAssignments(list(options, 'env')),
      secrets: await readSecrets(list(options, 'secret'), context.cwd),
      rebuild: list(options, 'rebuild'),
      frozen: options['frozen'] === true,
      dryRun: options['dryRun'] === true,
      keepFailed: options['keepFailed'] === true,
      flatten: options['flatten'] !== false,
      format: choice(options, 'format', imageFormats),
      compress: choice(options, 'compress', compressions),
      output: output === undefined ? undefined : resolve(context.cwd, output),
      jobs: parseJobs(text(options, 'jobs')),
      digest: context.json,
    }),
  )
  return { kind: 'build', data }
}

function parseAssignments(assignments: string[]): Record<string, string> {
  const values: Record<string, string> = {}
  for (const assignment of assignments) {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(assignment)
    if (!match?.[1])
      throw new VlbError('VLB_USAGE', `--env takes NAME=VALUE, not "${printable(assignment)}"`, {
        hint: 'see: git vlb build -h',
      })
    values[match[1]] = match[2] ?? ''
  }
  return values
}

function parseJobs(given: string | undefined): number {
  const jobs = given === undefined ? 1 : Number(given)
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new VlbError('VLB_USAGE', `-j takes a number of at least 1, not "${given}"`, {
      hint: 'see: git vlb build -h',
    })
  return jobs
}

/** `id=ID,src=FILE` or `id=ID,env=NAME`, as docker build has it. Messages never hold a value. */
async function readSecrets(given: string[], cwd: string): Promise<Map<string, Buffer>> {
  const secrets = new Map<string, Buffer>()
  for (const text of given) {
    const match = /^id=([A-Za-z0-9._-]+),(src|source|env)=(.+)$/.exec(text)
    const [, id = '', kind, from = ''] = match ?? []
    if (!match) throw new VlbError('VLB_USAGE', '--secret takes id=ID,src=FILE or id=ID,env=NAME')
    secrets.set(id, kind === 'env' ? fromEnvironment(id, from) : await fromFile(id, resolve(cwd, from)))
  }
  return secrets
}

function fromEnvironment(id: string, name: string): Buffer {
  const value = environmentValue(name)
  if (value !== undefined) return Buffer.from(value)
  throw new VlbError('VLB_SECRET', `the secret ${id}: the environment has no ${name}`, {
    hint: `export ${name}, or give src=FILE`,
  })
}

async function fromFile(id: string, file: string): Promise<Buffer> {
  try {
    const { size } = await stat(file)
    // It travels through a pipe into memory, and a list of masks is made of it.
    if (size <= 512 * 1024) return await readFile(file)
    throw new VlbError('VLB_SECRET', `the secret ${id}: ${file} has ${size} bytes; 512 KiB are the most`)
  } catch (error) {
    if (error instanceof VlbError) throw error
    throw new VlbError('VLB_SECRET', `the secret ${id}: cannot read ${file}`, { hint: 'see: ls -l', cause: error })
  }
}
