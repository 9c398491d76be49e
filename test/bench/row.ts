// A line of the result, and how it is judged.

export interface Row {
  what: string
  measured: string
  comparedWith: string
  result: string
  bound: string
  /** Undefined where no bound is set. */
  met: boolean | undefined
  /** Every single measurement, in seconds or bytes. */
  samples: Record<string, number[]>
}

interface Judged {
  what: string
  measured: string
  comparedWith: string
  value: number
  bound: number | undefined
  samples: Record<string, number[]>
}

export function ratioRow(row: Judged): Row {
  const show = (value: number) => value.toFixed(2)
  return {
    ...common(row),
    result: `${show(row.value)} ×`,
    bound: row.bound === undefined ? '' : `${show(row.bound)} ×`,
  }
}

export function secondsRow(row: Judged): Row {
  return { ...common(row), result: `+ ${ms(row.value)}`, bound: row.bound === undefined ? '' : `+ ${ms(row.bound)}` }
}

export function memoryRow(doing: string, bytes: number): Row {
  const row = { what: `Memory: ${doing}`, measured: 'highest resident memory of the program', comparedWith: '' }
  const bound = 150e6
  return {
    ...common({ ...row, value: bytes, bound, samples: { bytes: [bytes] } }),
    result: mb(bytes),
    bound: mb(bound),
  }
}

export function factRow(what: string, measured: string, comparedWith: string, met: boolean): Row {
  return { what, measured, comparedWith, result: met ? 'yes' : 'no', bound: 'yes', met, samples: {} }
}

function common({ what, measured, comparedWith, value, bound, samples }: Judged) {
  return { what, measured, comparedWith, met: bound === undefined ? undefined : value <= bound, samples }
}

export const least = (values: number[]): number => Math.min(...values)
export const ms = (seconds: number): string =>
  seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(2)} s`
export const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

/** Takes turns, A B A B…, so that what else the machine does hits all alike. Every measurement is kept. */
export function takeTurns<Name extends string>(
  rounds: number,
  turns: Record<Name, (round: number) => number>,
): Record<Name, number[]> {
  const names = Object.keys(turns) as Name[]
  const samples = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>
  for (let round = 1; round <= rounds; round++) for (const name of names) samples[name].push(turns[name](round))
  return samples
}
