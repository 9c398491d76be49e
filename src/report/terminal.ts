// Live progress on a terminal: a line for each step in work with its script's last words below, a bar for each transfer;
// what is finished scrolls up and stays.
import { createLogUpdate } from 'log-update'
import type { Event } from '../core/events.ts'
import { ordinary } from '../core/terminal.ts'
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

interface Running {
  name: string
  since: number
  last: string[]
  waitingFor?: number
}

interface Transfer {
  done: number
  total: number | undefined
  since: number
}

const frames = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const outputLines = 3

export function terminal(options: ReporterOptions): Reporter {
  const { stream, style } = options
  // The cursor stays: hidden, it would stay so when we are killed.
  const live = createLogUpdate(stream, { showCursor: true })
  const running = new Map<string, Running>()
  const transfers = new Map<string, Transfer>()
  let frame = 0
  let timer: NodeJS.Timeout | undefined
  let hadGuest = false
  let paused = false
  const guest = consoleOn(stream)

  const columns = () => Math.max(20, stream.columns || 80)
  const shorten = (text: string) => (text.length > columns() - 1 ? `${text.slice(0, columns() - 2)}…` : text)
  const print = (text: string) => {
    live.clear()
    guest.leave()
    stream.write(`${text}\n`)
    draw()
  }
  const draw = () => {
    if (paused) return
    const spinner = style('cyan', frames[frame % frames.length] ?? '')
    const lines = [...running.values()].flatMap((step) => [
      `${spinner} ${describe(step)}`,
      ...step.last.map((line) => style('dim', shorten(`    ${line}`))),
    ])
    for (const [task, transfer] of transfers) lines.push(`${spinner} ${shorten(bar(task, transfer, columns()))}`)
    if (lines.length > 0) live(lines.join('\n'))
    else live.clear()
    schedule(lines.length > 0)
  }
  const schedule = (wanted: boolean) => {
    if (wanted && !timer) {
      timer = setInterval(() => {
        frame++
        draw()
      }, 100)
      timer.unref()
    } else if (!wanted && timer) {
      clearInterval(timer)
      timer = undefined
    }
  }
  const emit = (event: Event): void => {
    switch (event.type) {
      case 'plan':
        if (event.missing > 0)
          print(
            style(
              'dim',
              `${event.label ? `${safe(event.label)}: ` : ''}${event.missing} of ${event.steps.length} steps to build`,
            ),
          )
        return
      case 'step-started':
        running.set(key(event), { name: stepName(event.label, event.name), since: Date.now(), last: [] })
        return draw()
      case 'step-output': {
        const step = running.get(key(event))
        if (options.verbose)
          return print(`${style('dim', `${stepName(event.label, event.name)} |`)} ${safe(event.line)}`)
        if (step) step.last = [...step.last, safe(event.line)].slice(-outputLines)
        return
      }
      case 'step-waiting':
        running.set(key(event), {
          name: stepName(event.label, event.name),
          since: Date.now(),
          last: [],
          waitingFor: event.pid,
        })
        return draw()
      case 'step-ended': {
        running.delete(key(event))
        if (event.result === 'cached' && event.seconds === 0) return
        const mark = event.result === 'failed' ? style('red', '✗') : style('green', '✓')
        return print(`${mark} ${stepName(event.label, event.name)}  ${style('dim', endText(event))}`)
      }
      case 'seal-started':
        running.set(key({ ...event, name: 'seal' }), {
          name: stepName(event.label, 'sealing'),
          since: Date.now(),
          last: [],
        })
        return draw()
      case 'seal-ended': {
        running.delete(key({ ...event, name: 'seal' }))
        const removed = sealLines(event.steps).map((text) => `\n    ${style('dim', text)}`)
        const name = stepName(event.label, 'sealed')
        return print(
          `${style('green', '✓')} ${name}  ${style('dim', `in ${formatSeconds(event.seconds)}`)}${removed.join('')}`,
        )
      }
      case 'progress': {
        const since = transfers.get(event.task)?.since ?? Date.now()
        transfers.set(event.task, { done: event.done, total: event.total, since })
        return timer ? undefined : draw()
      }
      case 'progress-ended':
        transfers.delete(event.task)
        return print(
          `${style('green', '✓')} ${event.task}  ${style('dim', `${formatBytes(event.bytes)} in ${formatSeconds(event.seconds)}`)}`,
        )
      case 'note':
        return print(safeLines(event.text))
      case 'warning':
        return print(warningLine(event.text, style).trimEnd())
      case 'console':
        hadGuest = true
        return guest.write(event.chunk)
    }
  }
  return {
    emit,
    end: () => {
      schedule(false)
      live.clear()
      guest.leave()
      if (hadGuest) stream.write(ordinary)
    },
    pause: () => {
      schedule(false)
      live.clear()
      paused = true
    },
    resume: () => {
      // Stopped without a word (SIGSTOP): what was live stays above, for nobody knows what came behind it.
      if (!paused) live.done()
      paused = false
      draw()
    },
  }
}

function key(event: { label: string; name: string }): string {
  return `${event.label}\0${event.name}`
}

function describe(step: Running): string {
  const time = formatSeconds((Date.now() - step.since) / 1000)
  return step.waitingFor === undefined
    ? `${step.name}  ${time}`
    : `${step.name}  waiting for pid ${step.waitingFor}, which builds it  ${time}`
}

/** `downloading the base ▕████    ▏ 40 %  120 MiB of 300 MiB  12 MiB/s  15.0 s left`. */
export function bar(task: string, { done, total, since }: Transfer, columns: number): string {
  const elapsed = (Date.now() - since) / 1000
  const rate = elapsed > 0.5 ? done / elapsed : undefined
  const speed = rate ? `  ${formatBytes(rate)}/s` : ''
  if (!total) return `${task}  ${formatBytes(done)}${speed}`
  const part = Math.min(1, done / total)
  const width = Math.max(10, Math.min(30, columns - 60))
  const full = Math.round(part * width)
  const left = rate && rate > 0 ? `  ${formatSeconds(Math.max(0, total - done) / rate)} left` : ''
  return `${task} ▕${'█'.repeat(full)}${' '.repeat(width - full)}▏ ${Math.round(part * 100)} %  ${formatBytes(done)} of ${formatBytes(total)}${speed}${left}`
}
