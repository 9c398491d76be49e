// Has a file go to disk while it is being written: what is left to flush when it is complete is less to wait for.
import { setTimeout as delay } from 'node:timers/promises'
import { sync } from './files.ts'

/** Milliseconds between one flush and the next. */
const pause = 50

/** Waits for `work`, which writes to `path`. That it could not be flushed is no failure: who needs to know does so at the end. */
export async function flushMeanwhile<T>(path: string, work: Promise<T>): Promise<T> {
  const ended = new AbortController()
  void keepFlushing(path, ended.signal)
  try {
    return await work
  } finally {
    ended.abort()
  }
}

async function keepFlushing(path: string, ended: AbortSignal): Promise<void> {
  try {
    for (;;) {
      await delay(pause, undefined, { signal: ended })
      await sync(path)
    }
  } catch {
    // The end, or nothing to be flushed.
  }
}
