// What a pass of the checks is remembered by. Loads nothing that boots: `status` asks here.
import { createHash } from 'node:crypto'
import type { BootSettings, Config, Firmware, MachineSettings } from '../core/config.ts'
import { type Pass, readPasses } from '../store/tested.ts'
import type { LoadedSource } from './project.ts'

/** What a pass is remembered by, besides the image: anything of it changed, it is to be tested anew. */
export function checksKey(
  source: Pick<LoadedSource, 'checks' | 'config'>,
  machines: readonly MachineSettings[],
  expect: readonly string[],
): string {
  const { disk, boot }: Config = source.config
  const what = [
    'git-vlb checks 2',
    source.checks ?? '',
    boot.builtinChecks,
    disk.size ?? 0,
    machines.map(({ cpus, memory, firmware }) => [cpus, memory, firmware]),
    expect,
  ]
  return createHash('sha256').update(JSON.stringify(what)).digest('hex')
}

/** Of the command line. */
export interface MachineRequest {
  memory: number | undefined
  cpus: number | undefined
  firmware: Firmware | undefined
}

/** What the command line says holds for each machine; then some may be the same. */
export function machinesOf(settings: BootSettings, { memory, cpus, firmware }: MachineRequest): MachineSettings[] {
  const all = settings.machines.map((machine) => ({
    ...machine,
    ...(memory === undefined ? {} : { memory }),
    ...(cpus === undefined ? {} : { cpus }),
    ...(firmware === undefined ? {} : { firmware }),
  }))
  const texts = all.map((machine) => JSON.stringify(machine))
  return all.filter((_, i) => texts.indexOf(texts[i] ?? '') === i)
}

/** The newest pass of the image that is told in vlb.yaml's own terms; with which seed does not matter here. */
export function lastPass(store: string, recipe: string, source: LoadedSource): Pass | undefined {
  const { boot } = source.config
  const key = checksKey(source, machinesOf(boot, noRequest), boot.expect === undefined ? [] : [boot.expect])
  return readPasses(store, recipe).find((pass) => pass.key === key)
}

const noRequest: MachineRequest = { memory: undefined, cpus: undefined, firmware: undefined }
