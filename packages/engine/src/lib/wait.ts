import { setTimeout as delay } from 'node:timers/promises'

/** Longest time one timer of Node waits: 25 days. Beyond it, it fires at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1

/** Settles like `promise`, but at the latest after `timeoutMs`, then with the error that `late` makes. */
export const withDeadline = async <T>(promise: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> => {
  const until = performance.now() + timeoutMs
  const deadline = Promise.withResolvers<never>()
  const wait = (leftMs: number): NodeJS.Timeout => setTimeout(look, Math.min(leftMs, LONGEST_TIMER_MS))
  let timer = wait(timeoutMs)
  function look(): void {
    const leftMs = until - performance.now()
    if (leftMs > 0) timer = wait(leftMs)
    else deadline.reject(late())
  }
  try {
    return await Promise.race([promise, deadline.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Rejects with the signal's reason as soon as it aborts; the promise itself goes on. */
export const abortable = async <T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
  if (signal === undefined) return promise
  signal.throwIfAborted()
  let abort: (() => void) | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        abort = () => reject(signal.reason as Error)
        signal.addEventListener('abort', abort, { once: true })
      }),
    ])
  } finally {
    if (abort !== undefined) signal.removeEventListener('abort', abort)
  }
}

/** Rejects with the signal's reason as soon as it aborts. */
export const sleep = async (durationMs: number, signal?: AbortSignal): Promise<void> => {
  try {
    await delay(durationMs, undefined, signal === undefined ? {} : { signal })
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  }
}

/** A promise with its handles, for events that happen once. */
export interface Settled<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (reason: unknown) => void
}

/** Like Promise.withResolvers, but nobody has to listen for a rejection. */
export const settleLater = <T>(): Settled<T> => {
  const settled = Promise.withResolvers<T>()
  settled.promise.catch((_error: unknown) => undefined)
  return settled
}

export const nowText = (atMs: number = Date.now()): string => new Date(atMs).toISOString()
