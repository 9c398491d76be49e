// What both reporters say alike.
import { stripVTControlCharacters } from 'node:util'
import type { Event, StepResult } from '../core/events.ts'
import { diskStep } from '../core/plan.ts'
import type { SealedStep } from '../core/seal.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import type { Style } from './style.ts'

export interface Reporter {
  emit: (event: Event) => void
  /** Takes away what is live, before the result is printed. */
  end: () => void
  /** Takes it away before we are stopped (^Z), since the terminal is somebody else's then. */
  pause: () => void
  /** Shows it again. */
  resume: () => void
}

export interface ReporterOptions {
  stream: NodeJS.WriteStream
  style: Style
  quiet: boolean
  verbose: boolean
}

/** A guest's console, which may leave a line without an end, such as a prompt: what we say next has a line of its own. */
export function consoleOn(stream: NodeJS.WritableStream): { write(chunk: Buffer): void; leave(): void } {
  let open = false
  return {
    write: (chunk) => {
      open = chunk.at(-1) !== 0x0a
      stream.write(chunk)
    },
    leave: () => {
      if (open) stream.write('\n')
      open = false
    },
  }
}

export function warningLine(text: string, style: Style): string {
  return `${style('yellow', 'warning')}: ${safeLines(text)}\n`
}

export function stepName(label: string, name: string): string {
  return `${label ? `${safe(label)}: ` : ''}${name === diskStep ? 'growing the disk' : name}`
}

/** Operating system commands (ECMA-48, 8.3.89), such as one that sets the window's title: Node strips only some. */
const titles = /\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g

/** Output of scripts may hold anything; a terminal must not obey it. */
export function safe(text: string): string {
  return stripVTControlCharacters(text.replace(titles, '')).replace(/[\p{Cc}\p{Cf}]/gu, (c) => (c === '\t' ? '  ' : ''))
}

/** The same for a whole log, on a terminal: a line that was rewritten is shown as it was in the end. */
export function safeLines(text: string): string {
  return text
    .split('\n')
    .map((line) => safe(line.replace(/\r+$/, '').split('\r').at(-1) ?? ''))
    .join('\n')
}

/** `machine-id: 1 file, 33 B`, for each step that took something away. */
export function sealLines(steps: readonly SealedStep[]): string[] {
  return steps
    .filter(({ files }) => files > 0)
    .map(({ step, files, bytes }) => `${step}: ${files === 1 ? '1 file' : `${files} files`}, ${formatBytes(bytes)}`)
}

export function endText(event: { result: StepResult; seconds: number; bytes: number }): string {
  if (event.result === 'built') return `built in ${formatSeconds(event.seconds)}, ${formatBytes(event.bytes)}`
  if (event.result === 'failed') return `failed after ${formatSeconds(event.seconds)}`
  return event.result
}
