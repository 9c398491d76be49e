// git vlb test-boot
import { basename, join, resolve } from 'node:path'
import type { BuildContext } from '../build/context.ts'
import { VlbError } from '../core/errors.ts'
import type { CommandResult } from '../core/results.ts'
import type { BootResult } from '../core/results-boot.ts'
import { parseDuration, parseSize } from '../core/units.ts'
import { type CommandContext, cacheFolder, choice, list, text, withProject } from './context.ts'
import { readSecrets } from './secrets.ts'
import type { Options } from './table.ts'
import { readValues } from './values.ts'

export async function testBoot(context: CommandContext, [target]: string[], options: Options): Promise<CommandResult> {
  needsCheck(options)
  const [{ testBoot: run }, { parseAccelerator }, { displays, parseBridge, parseForward }, { firmwares }] =
    await Promise.all([
      import('../build/boot.ts'),
      import('../vm/accelerator.ts'),
      import('../vm/qemu.ts'),
      import('../core/config.ts'),
    ])
  const bridge = text(options, 'bridge')
  const screenshot = text(options, 'screenshot')
  const junit = text(options, 'junit')
  const data = await withProject(context, async (project) => {
    const found = await run(project, {
      target,
      cwd: context.cwd,
      expect: list(options, 'expect'),
      console: options['console'] === true,
      timeout: parsed(options, 'timeout', parseDuration, 'a time such as 90s or 5m'),
      memory: parsed(options, 'memory', parseSize, 'a size such as 512M or 2G'),
      cpus: parsed(options, 'cpus', parseCount, 'a number of at least 1'),
      env: readValues(options),
      secrets: await readSecrets(list(options, 'secret'), context.cwd),
      bisect: options['bisect'] === true,
      check: options['check'] === true,
      force: options['force'] === true,
      firmware: choice(options, 'firmware', firmwares),
      display: choice(options, 'display', displays),
      bridge: bridge === undefined ? undefined : parseBridge(bridge),
      screenshot: screenshot === undefined ? undefined : resolve(context.cwd, screenshot),
      noFlatten: options['flatten'] === false,
      keep: options['keep'] === true,
      ssh: options['ssh'] === true ? '' : text(options, 'ssh'),
      cloudInit: options['cloudInit'] !== false,
      forwards: list(options, 'forward').map(parseForward),
      accel: parseAccelerator(text(options, 'accel') ?? project.project.settings.get('accel') ?? 'auto'),
      cache: join(cacheFolder(), 'git-vlb'),
      terminal: process.stdin.isTTY === true,
      size: process.stdout.isTTY ? { rows: process.stdout.rows, columns: process.stdout.columns } : undefined,
    })
    if (junit !== undefined) await writeJunit(project, resolve(context.cwd, junit), found)
    return found
  })
  return { kind: 'test-boot', data, tap: options['tap'] === true }
}

/** Reports and --force are of use with --check only. */
function needsCheck(options: Options): void {
  if (options['check'] === true) return
  const given = ['junit', 'tap', 'force'].find((name) => options[name] !== undefined && options[name] !== false)
  if (given !== undefined)
    throw new VlbError('VLB_USAGE', `--${given} goes with --check`, { hint: `git vlb test-boot --check --${given}` })
}

async function writeJunit(project: BuildContext, path: string, data: BootResult): Promise<void> {
  const [{ junitText }, { writeOutput }] = await Promise.all([
    import('../core/check-reports.ts'),
    import('../build/output.ts'),
  ])
  await writeOutput(project, path, junitText(data, basename(data.image)))
}

function parseCount(given: string): number | undefined {
  return /^[1-9]\d{0,2}$/.test(given) ? Number(given) : undefined
}

/** An option's value, if it was given; VLB_USAGE if it cannot be understood. */
function parsed<T>(
  options: Options,
  name: string,
  parse: (given: string) => T | undefined,
  wanted: string,
): T | undefined {
  const given = text(options, name)
  if (given === undefined) return undefined
  const value = parse(given)
  if (value === undefined)
    throw new VlbError('VLB_USAGE', `--${name} takes ${wanted}, not "${given}"`, { hint: 'see: git vlb test-boot -h' })
  return value
}
