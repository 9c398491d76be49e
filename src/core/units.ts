// Sizes and durations as people write them, both ways.

const sizeUnits: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }
const timeUnits: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }

/** `512`, `64M`, `1.5G`, `2GiB`: bytes (powers of 1024, as qemu-img counts), or undefined. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim())
  if (!match) return undefined
  const bytes = Number(match[1]) * (sizeUnits[(match[2] ?? '').toUpperCase()] ?? 1)
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined
}

/** `30`, `90s`, `5m`, `7d`: seconds, or undefined. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?$/.exec(text.trim())
  if (!match) return undefined
  const seconds = Number(match[1]) * (timeUnits[match[2] ?? 's'] ?? 1)
  return seconds > 0 ? seconds : undefined
}

/** 2576980377 → `2.4 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  while (value >= 1024 && unit < names.length - 1) {
    value /= 1024
    unit++
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${names[unit]}`
}

/** 3.21 → `3.2 s`, 75 → `1m15s`, 7260 → `2h01m`. */
export function formatSeconds(seconds: number): string {
  // From here on it would be rounded to 60.0.
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  const two = (n: number) => String(n).padStart(2, '0')
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`
  return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`
}

/** How long ago, in one unit: `3 h`, `12 d`. */
export function formatAge(seconds: number): string {
  for (const [unit, length] of [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
  ] as const) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`
  }
  return `${Math.max(0, Math.floor(seconds))} s`
}
