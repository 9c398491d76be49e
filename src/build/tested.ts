// A run of checks from the image to the verdict: passes are remembered, and what has passed is not booted again.
import { createHash } from 'node:crypto'
import { stopBisect } from '../core/bisect.ts'
import { wholeVerdict } from '../core/check-reports.ts'
import { type Seed, seedFolder } from '../core/cloud-init.ts'
import type { BootSettings } from '../core/config.ts'
import { printable } from '../core/errors.ts'
import type { DiskFormat } from '../core/output.ts'
import type { BootResult } from '../core/results-boot.ts'
import { imageRecord } from '../store/images.ts'
import { type Pass, readPasses, savePass } from '../store/tested.ts'
import type { AcceleratorChoice } from '../vm/accelerator.ts'
import { findUefi } from '../vm/firmware.ts'
import type { Forward } from '../vm/qemu.ts'
import { type CheckPlan, runChecks } from './checks.ts'
import { seedForBoot } from './cloud-init.ts'
import type { BuildContext } from './context.ts'
import { checksKey, type MachineRequest, machinesOf } from './passes.ts'
import type { LoadedSource } from './project.ts'
import { keepTests } from './record.ts'

export interface CheckTest {
  request: MachineRequest & {
    force: boolean
    bisect: boolean
    timeout: number | undefined
    forwards: Forward[]
    keep: boolean
  }
  plan: CheckPlan
  source: LoadedSource
  settings: BootSettings & { seed: Seed | undefined }
  image: { path: string; format: DiskFormat; contentId?: string | null | undefined }
  choice: AcceleratorChoice
  /** What the console is to say: as given, and compiled. */
  patterns: readonly string[]
  expect: readonly RegExp[]
}

export async function testChecks(context: BuildContext, test: CheckTest): Promise<BootResult> {
  const { request, settings, image, choice, patterns } = test
  const machines = machinesOf(settings, request)
  const uefi = machines.some(({ firmware }) => firmware === 'uefi') ? await findUefi() : undefined
  const recipe = (await imageRecord(context.store, image.path))?.recipe
  const wanted = {
    key: checksKey(test.source, machines, patterns),
    seed: seedDigest(settings.seed),
  }
  const result = {
    image: image.path,
    accelerator: choice.accelerator,
    firmware: machines.every(({ firmware }) => firmware === 'uefi') ? ('uefi' as const) : ('bios' as const),
    expect: patterns.at(-1) ?? null,
    expected: [...patterns],
    matched: null,
    screenshot: null,
    kept: null,
    forwards: request.forwards.map((forward) => `${forward.host}:${forward.guest}`),
  }
  const known =
    recipe === undefined || request.force || request.keep ? undefined : passed(context.store.root, recipe, wanted)
  if (known) {
    const reason = `this image passed these checks on ${known.at}; to run them again: --force`
    return {
      ...result,
      ok: true,
      verdict: 'booted',
      seconds: 0,
      reason,
      exitStatus: 0,
      machines: [],
      remembered: known.at,
    }
  }
  context.emit({
    type: 'note',
    text: `checking ${image.path} (${choice.accelerator}: ${printable(choice.reason, 90)})`,
  })
  if (settings.seed) context.emit({ type: 'note', text: `with a seed disk of ${seedFolder}/ for cloud-init` })
  const started = performance.now()
  const checked = await runChecks(context, {
    plan: test.plan,
    image,
    machines,
    accelerator: choice.accelerator,
    forwards: request.forwards,
    seed: settings.seed && (await seedForBoot(context, settings.seed)),
    expect: test.expect,
    uefi,
    timeout: request.timeout ?? settings.timeout,
    keep: request.keep,
  })
  const ok = checked.machines.every((machine) => machine.ok)
  if (ok) {
    const at = new Date().toISOString()
    const pass = { at, checks: test.plan.checks.length, machines: checked.machines.map(({ name }) => name) }
    if (recipe !== undefined) await savePass(context.store, recipe, { ...wanted, ...pass })
    const { checks: tree } = test.source
    const tests = { ...pass, ...(tree === undefined ? {} : { tree }) }
    if (image.contentId) await keepTests(context, test.source, image.contentId, tests)
  }
  return {
    ...result,
    ok,
    verdict: checked.verdict,
    seconds: (performance.now() - started) / 1000,
    reason: wholeVerdict(checked.machines),
    exitStatus: ok ? 0 : !checked.hostFault ? 1 : request.bisect ? stopBisect : 3,
    machines: checked.machines,
    remembered: null,
  }
}

function passed(store: string, recipe: string, wanted: Pick<Pass, 'key' | 'seed'>): Pass | undefined {
  return readPasses(store, recipe).find(({ key, seed }) => key === wanted.key && seed === wanted.seed)
}

function seedDigest(seed: Seed | undefined): string {
  if (!seed) return ''
  const hash = createHash('sha256')
  for (const [name, content] of seed.files) hash.update(`${name} ${content.length}\n`).update(content)
  return hash.digest('hex')
}
