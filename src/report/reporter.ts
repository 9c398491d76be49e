// Events on their way to a person: live on a terminal, plain lines elsewhere, nothing when quiet.
import type { Event } from '../core/events.ts'
import { formatBytes, formatSeconds } from '../core/units.ts'
import {
  consoleOn,
  endText,
  type Reporter,
  type ReporterOptions,
  safe,
  safeLines,
  sealLines,
  stepName,
  warningLine,
} from './lines.ts'

export async function makeReporter(options: ReporterOptions): Promise<Reporter> {
  if (options.quiet) return quiet(options)
  if (options.stream.isTTY && process.env['TERM'] !== 'dumb') return (await import('./terminal.ts')).terminal(options)
  return plain(options)
}

const nothingLive = { end: () => {}, pause: () => {}, resume: () => {} }

function quiet({ stream, style }: ReporterOptions): Reporter {
  return { emit: (event) => event.type === 'warning' && stream.write(warningLine(event.text, style)), ...nothingLive }
}

/** One line for each thing that happens; progress by a line every few seconds. */
function plain({ stream, style }: ReporterOptions): Reporter {
  const told = new Map<string, number>()
  const guest = consoleOn(stream)
  const say = (text: string) => {
    guest.leave()
    stream.write(text)
  }
  const line = (text: string) => say(`${text}\n`)
  const emit = (event: Event): void => {
    switch (event.type) {
      case 'plan':
        if (event.missing > 0)
          line(`${event.label ? `${safe(event.label)}: ` : ''}${event.missing} of ${event.steps.length} steps to build`)
        return
      case 'step-started':
        return line(`${stepName(event.label, event.name)}: building`)
      case 'step-output':
        return line(`${stepName(event.label, event.name)} | ${safe(event.line)}`)
      case 'step-waiting':
        return line(`${stepName(event.label, event.name)}: waiting for pid ${event.pid}, which builds it`)
      case 'step-ended':
        if (event.result !== 'cached' || event.seconds > 0)
          line(`${stepName(event.label, event.name)}: ${endText(event)}`)
        return
      case 'seal-started':
        return
      case 'seal-ended':
        for (const text of sealLines(event.steps)) line(`${stepName(event.label, 'seal')}: ${text}`)
        return line(`${stepName(event.label, 'seal')}: done in ${formatSeconds(event.seconds)}`)
      case 'progress': {
        const last = told.get(event.task)
        if (last === undefined || Date.now() - last >= 5000) {
          told.set(event.task, Date.now())
          if (last !== undefined)
            line(`${event.task}: ${formatBytes(event.done)}${event.total ? ` of ${formatBytes(event.total)}` : ''}`)
        }
        return
      }
      case 'progress-ended':
        return line(`${event.task}: done, ${formatBytes(event.bytes)} in ${formatSeconds(event.seconds)}`)
      case 'note':
        return line(safeLines(event.text))
      case 'warning':
        return say(warningLine(event.text, style))
      case 'console':
        return guest.write(event.chunk)
    }
  }
  return { emit, ...nothingLive, end: () => guest.leave() }
}
