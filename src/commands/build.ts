// git vlb build
import { resolve } from 'node:path'
import packageJson from '../../package.json' with { type: 'json' }
import type { BuildContext } from '../build/context.ts'
import { VlbError } from '../core/errors.ts'
import { compressions, imageFormats } from '../core/output.ts'
import type { CommandResult } from '../core/results.ts'
import { type CommandContext, choice, list, nbdDevice, oneOf, text, withProject } from './context.ts'
import { readSecrets } from './secrets.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function build(context: CommandContext, revisions: string[], options: Options): Promise<CommandResult> {
  const engine = () => import('../build/build.ts')
  const output = text(options, 'output')
  const sbom = text(options, 'sbom')
  const jobs = parseJobs(text(options, 'jobs'))
  const device = nbdDevice(options)
  if (device !== undefined && jobs > 1)
    throw new VlbError('VLB_USAGE', `-j ${jobs} needs as many devices, and --nbd names one`, {
      hint: 'let free ones be found: git config vlb.attach nbd, without --nbd',
    })
  const work = async (project: BuildContext) => {
    const { build: run } = await engine()
    return await run(project, {
      revisions,
      last: text(options, 'last'),
      env: readValues(options),
      secrets: await readSecrets(list(options, 'secret'), context.cwd),
      rebuild: list(options, 'rebuild'),
      frozen: options['frozen'] === true,
      dryRun: options['dryRun'] === true,
      keepFailed: options['keepFailed'] === true,
      flatten: options['flatten'] !== false,
      formats: list(options, 'format').map((word) => oneOf('format', word, imageFormats)),
      compress: choice(options, 'compress', compressions),
      output: output === undefined ? undefined : resolve(context.cwd, output),
      jobs,
      digest: context.json,
      remote: options['remote'] !== false,
      sbom: sbom === undefined ? undefined : { path: resolve(context.cwd, sbom), version: packageJson.version },
    })
  }
  return { kind: 'build', data: await withProject(context, work, { device, preload: engine }) }
}

function parseJobs(given: string | undefined): number {
  const jobs = given === undefined ? 1 : Number(given)
  if (!Number.isInteger(jobs) || jobs < 1)
    throw new VlbError('VLB_USAGE', `-j takes a number of at least 1, not "${given}"`, {
      hint: 'see: git vlb build -h',
    })
  return jobs
}
