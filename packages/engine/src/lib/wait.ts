import { setTimeout as delay } from 'node:timers/promises'

/** Settles like `promise`, but at the latest after `timeoutMs`, then with the error that `late` makes. */
export const withDeadline = async <T>(promise: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> => {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(late()), timeoutMs)
      }),
    ])
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

export const sleep = (durationMs: number, signal?: AbortSignal): Promise<void> =>
  delay(durationMs, undefined, signal === undefined ? {} : { signal })

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
