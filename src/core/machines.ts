// Which of several boots run side by side. Pure.

export interface Load {
  cpus: number
  /** Bytes. */
  memory: number
}

/** Names of machines, for people: no two of one list alike. */
export function machineNames(
  machines: readonly (Load & { firmware?: string })[],
  formatBytes: (bytes: number) => string,
): string[] {
  const names = machines.map(
    ({ cpus, memory, firmware }) =>
      `${cpus} ${cpus === 1 ? 'cpu' : 'cpus'}, ${formatBytes(memory)}${firmware === 'uefi' ? ', uefi' : ''}`,
  )
  return names.map((name, i) => {
    const before = names.slice(0, i).filter((other) => other === name).length
    return before === 0 ? name : `${name} (${before + 1})`
  })
}

/** Index of the first of `waiting` that fits beside `running`; the first of all, whatever it needs, when nothing runs. */
export function nextToStart(waiting: readonly Load[], running: readonly Load[], host: Load): number | undefined {
  if (waiting.length === 0) return undefined
  if (running.length === 0) return 0
  const left = running.reduce(
    (rest, { cpus, memory }) => ({ cpus: rest.cpus - cpus, memory: rest.memory - memory }),
    host,
  )
  const found = waiting.findIndex(({ cpus, memory }) => cpus <= left.cpus && memory <= left.memory)
  return found < 0 ? undefined : found
}

/** Runs all, as many at a time as fit; results in the order of `loads`. After a failure no further one is started. */
export async function runSideBySide<L extends Load, Result>(
  loads: readonly L[],
  host: Load,
  work: (load: L, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results = new Map<number, Result>()
  const waiting = loads.map((load, index) => ({ ...load, load, index }))
  const running = new Map<number, { load: Load; ended: Promise<number> }>()
  let failed: { error: unknown } | undefined
  while (running.size > 0 || (waiting.length > 0 && !failed)) {
    const next = failed
      ? undefined
      : nextToStart(
          waiting,
          [...running.values()].map(({ load }) => load),
          host,
        )
    const [job] = next === undefined ? [] : waiting.splice(next, 1)
    if (job) {
      const ended = work(job.load, job.index).then(
        (result) => {
          results.set(job.index, result)
          return job.index
        },
        (error: unknown) => {
          failed ??= { error }
          return job.index
        },
      )
      running.set(job.index, { load: job, ended })
      continue
    }
    running.delete(await Promise.race([...running.values()].map((one) => one.ended)))
  }
  if (failed) throw failed.error
  return loads.map((_, index) => results.get(index) as Result)
}
